"""The notices of a study, from all stages: one list for the terminal, the summary and the report.

Each stage has its own function; this module reads what they need, and merges what is the same at many
checkpoints or models into one notice.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebbtide.metrics.notices import checkpoint_notices
from ebbtide.notices import Notice, from_records, listed, worst_first
from ebbtide.scoring.proof.verdicts import load_proof_notices, twin_notices
from ebbtide.statistics.alarms.notices import alarm_notices
from ebbtide.statistics.compute_trends.notices import notices as of_compute_trends
from ebbtide.statistics.flips.notices import notices as of_flips
from ebbtide.statistics.forgetting.notices import notices as of_forgetting
from ebbtide.statistics.ratings.sentences import notices as of_ratings
from ebbtide.statistics.regression.notices import regression_notices
from ebbtide.statistics.replicates import replicate_notices
from ebbtide.statistics.resolution.notices import notices as of_resolution
from ebbtide.statistics.scaling_laws.notices import notices as of_scaling_laws
from ebbtide.statistics.scaling_trends.notices import notices as of_scaling_trends
from ebbtide.statistics.trends.notices import curve_notices
from ebbtide.tables import METRICS, REQUESTS, read_footer, read_frame
from ebbtide.tasks.notices import text_notices

MOST_MODELS = 2  # models that are named one by one; with more, the first stands for all
_KINDS = {
    **dict.fromkeys(("identical_results", "duplicate", "duplicate_models"), "duplicated"),
    **dict.fromkeys(("equal_to_main", "mixed_shards"), "duplicated"),
    "gone": "reused",
    "left_out": "dropped",
    "tokenizer_of_parent": "defaulted",
}  # class of findings → kind of notice; others are suspicious


def of_audit(table: pd.DataFrame) -> list[Notice]:
    """Return the findings of an audit of weights (checkpoint_audit.tsv) or results (result_audit.tsv).

    What a known reason allows is a note. Ties are left to `of_parts`, from which the audit has them.
    """
    notices = []
    for row in table[table["finding"] != "tied"].fillna("").to_dict("records"):
        where = str(row.get("checkpoint") or row.get("steps") or "")
        kind = "dropped" if row.get("action") == "drop" else _KINDS.get(str(row["finding"]), "suspicious")
        severity = "warning" if row["severity"] in ("error", "warning") else "note"
        allowed = f"Allowed: {row['reason']}" if row["severity"] == "allowed" else ""
        task = "" if row.get("task") in (None, "(all)") else str(row["task"])
        remedy = allowed or _sentence(row["remedy"])
        notices.append(
            Notice(severity, kind, _sentence(row["detail"]), remedy, str(row["model"]), where, task)
        )
    return notices


def of_parts(parts: Iterable[str | Path]) -> list[Notice]:
    """Return the notices about cells, from the footers of the metrics of single checkpoints."""
    return [n for part in parts for n in from_records(read_footer(part, METRICS).get("notices", []))]


def of_leftovers(results: str | Path, made: Iterable[str]) -> list[Notice]:
    """Return a notice if the directory of results has files that this study does not make.

    They are from an older run with other settings, or from the user.
    """
    directory = Path(results)
    known = {str(Path(path)) for path in made}
    found = [p for pattern in ("*.*", "figures/*.*") for p in sorted(directory.glob(pattern)) if p.is_file()]
    left = [p for p in found if str(p) not in known and not p.name.startswith((".", "report."))]
    if not left:
        return []
    names = listed(p.relative_to(directory) for p in left)
    few = len(left) == 1
    detail = (
        f"{directory} has {len(left)} {'file' if few else 'files'} that this study does not make ({names}); "
        f"{'it is' if few else 'they are'} from an older run with other settings."
    )
    return [Notice("warning", "unused", detail, "Delete what you do not need.", count=len(left))]


def merged(notices: Iterable[Notice]) -> list[Notice]:
    """Return one notice for what is the same at several checkpoints or tasks, or many models; worst first.

    The detail is that of the checkpoint with the highest count, and says at how many more it occurs. Notices
    about a task itself are never merged with those of another task.
    """
    same_checkpoints = _merge(dict.fromkeys(notices), "checkpoint", fewest=2)
    of_tasks = [n for n in same_checkpoints if not n.model]
    same_tasks = _merge((n for n in same_checkpoints if n.model), "task", fewest=2, equal=True)
    return worst_first(_merge([*of_tasks, *same_tasks], "model", fewest=MOST_MODELS + 1))


def _merge(notices: Iterable[Notice], over: str, fewest: int, *, equal: bool = False) -> list[Notice]:
    """Merge notices that differ in `over` only, and unless `equal` in numbers and quoted texts.

    They must be `fewest` or more.
    """
    groups: dict[Notice, list[Notice]] = {}
    for notice in notices:
        words = notice.detail if equal else re.sub(r"\d[\d.,]*|'[^']*'|\"[^\"]*\"", "#", notice.detail)
        groups.setdefault(Notice(**{**notice.record(), over: "", "detail": words, "count": 0}), []).append(
            notice
        )
    return [one for members in groups.values() for one in _members(members, over, fewest)]


def _members(members: list[Notice], over: str, fewest: int) -> list[Notice]:
    places = len({getattr(n, over) for n in members})
    if places < fewest or places < len(members):
        return members
    worst = max(members, key=lambda n: n.count)
    others = f"The same at {places - 1} more {over}{'s' if places > 2 else ''}."
    return [replace(worst, detail=f"{worst.detail} {others}", count=sum(n.count for n in members))]


def _sentence(text: object) -> str:
    words = str(text).strip()
    return words if not words or words.endswith((".", "!", "?")) else f"{words[0].upper()}{words[1:]}."


def collected(
    *,
    stated: Iterable[Mapping[str, Any]],
    parts: Iterable[str | Path],
    requests: Mapping[str, str | Path],
    metrics: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    config: Mapping[str, Mapping[str, Any]],
    results: str | Path,
    made: Iterable[str],
    replicates: Mapping[str, Any],
) -> list[Notice]:
    """Return all notices of a study, merged, worst first.

    Parameters
    ----------
    stated
        Records of notices that are known before anything runs (`study.notices`).
    parts
        Tables of metrics, whose footers have the notices about cells and imports.
    requests
        Task → frozen requests.
    metrics
        Rows of `tables.METRICS`.
    tables
        Name of a table without suffix → its rows, for those that the study has.
    config
        Sections `trajectories`, `alarms`, `trends`, `regression` and `forgetting` of the study.
    results, made
        Directory of results, and the files in it that the study makes.
    replicates
        `stated` and `named` of `statistics.replicates.replicate_notices`.
    """
    found = [*from_records(stated), *of_parts(parts), *of_leftovers(results, made), *of_requests(requests)]
    found += replicate_notices(metrics, **replicates)
    if "compute_trends" in tables:
        found += of_compute_trends(tables)
    if "ratings" in tables:
        found += of_ratings(tables["ratings"], tables["ratings_law"])
    return merged([*found, *of_statistics(metrics, tables, config)])


def of_requests(requests: Mapping[str, str | Path]) -> Iterator[Notice]:
    """Yield the notices about the texts of frozen tasks."""
    for task, path in requests.items():
        for notice in text_notices(read_frame(path, REQUESTS), read_footer(path, REQUESTS)):
            yield replace(notice, task=task)


def of_statistics(
    metrics: pd.DataFrame, tables: Mapping[str, pd.DataFrame], config: Mapping[str, Mapping[str, Any]]
) -> Iterator[Notice]:
    """Yield the notices about audits and statistics, for the tables that the study has."""
    yield from checkpoint_notices(metrics)
    audits = {
        **{"checkpoint_audit": of_audit, "result_audit": of_audit},
        **{"load_proofs": load_proof_notices, "load_twins": twin_notices},
    }
    for name in (name for name in audits if name in tables):
        yield from audits[name](tables[name])
    if "regressions" in tables:
        yield from regression_notices(tables["regressions"], metrics, config["regression"]["parameters"])
    if {"alarms", "not_compared", "trends"} <= set(tables):
        alarms, missing, trends = (tables[name] for name in ("alarms", "not_compared", "trends"))
        yield from alarm_notices(alarms, missing, trends, metrics, config=config, today=date.today())
    if "seed_curves" in tables:
        yield from curve_notices(tables["seed_curves"])
    if "flips" in tables:
        yield from of_flips(tables["flips"])
    if "forgetting" in tables:
        histories = tables["forgetting"]
        if "not_compared" in tables:  # whose notices are about forgetting, too
            histories = _without(histories, tables["not_compared"])
        yield from of_forgetting(histories, config["forgetting"]["streak"])
    if {"resolution", "proxies"} <= set(tables):
        followed = config["trajectories"]["metrics"]
        yield from of_resolution(tables["resolution"], tables["proxies"], metrics, followed)
    if "scale_points" in tables:
        yield from of_scaling_trends(tables["scale_points"])
    if "run_notices" in tables:
        yield from from_records(tables["run_notices"].to_dict("records"))
    if "predictions" in tables:
        yield from of_scaling_laws(tables["predictions"])


def _without(histories: pd.DataFrame, missing: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of forgetting.tsv without those that have no history and were not compared either."""
    pairs = set(zip(missing["model"], missing["task"], strict=True))
    absent = [pair in pairs for pair in zip(histories["model"], histories["task"], strict=True)]
    return histories[histories["streak"].notna() | ~np.array(absent, dtype=bool)]
