"""Arms of a comparison of runs: which models are runs of which arm, and at which size.

An arm is a recipe, such as a data mixture, over all sizes. Its runs differ only by size and seed; runs of one
size are replicates. Arms are compared within a size.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.errors import ConfigError, nearest
from ebbtide.exchange.published import published
from ebbtide.files import digest
from ebbtide.grid import Model
from ebbtide.notices import listed

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = "unknown size"
TWO_ARMS = "two arms to compare, or one with two runs of a size, whose noise seeds.tsv then has"
COLUMNS = ("model", "arm", "size", "parameters", "seed")
SEED_COLUMNS = ("task", "suite", "metric", "size", "runs", "sd_seeds")  # of seeds.tsv, that others need
MOST_SD = 0.5  # of a share: half of the runs at 0, half at 1


@dataclass(frozen=True)
class Run:
    """A model of the study or of imported results, before arms are chosen.

    Attributes
    ----------
    arm
        Arm that its row or its series states; empty is none.
    seed
        None is unknown.
    nominal
        Parameters by its name, which are its size if they are known; 0 is unknown.
    parameters
        All parameters, which are its size otherwise; 0 is unknown.
    recipe
        Digest of how a model is trained here, without its seeds; empty for all others.
    """

    model: str
    arm: str = ""
    seed: int | None = None
    nominal: int = 0
    parameters: int = 0
    recipe: str = ""

    @property
    def size(self) -> int:
        """The number that runs of one size have in common; 0 is unknown."""
        return self.nominal or self.parameters


def runs_of(models: Iterable[Model]) -> list[Run]:
    """Return the models of a grid as runs.

    Averages of checkpoints are none: they would count a run twice, and averages that share checkpoints hide
    the noise from one to the next.
    """
    return [
        Run(
            m.name,
            m.arm,
            m.seed,
            max((c.nominal for c in m.checkpoints), default=0),
            m.parameters,
            _recipe(m.training),
        )
        for m in models
        if not any(c.parents for c in m.checkpoints)
    ]


def _recipe(training: Mapping[str, Any] | None) -> str:
    if training is None:
        return ""
    return digest({part: {k: v for k, v in keys.items() if k != "seed"} for part, keys in training.items()})


def imported_runs(rows: Iterable[Mapping[str, Any]]) -> tuple[list[Run], bool]:
    """Return the models that rows of `imported` list, and whether rows without a list may add others."""
    found: dict[str, Run] = {}
    complete = True
    for row in rows:
        complete &= "models" in row
        for model in row.get("models", ()):
            sizes = model.get("parameters", {})
            run = imported_run(model["name"], sizes.get("nominal", 0), sizes.get("total", 0))
            found[run.model] = replace(run, arm=model.get("arm", run.arm), seed=model.get("seed", run.seed))
    return list(found.values()), not complete


def imported_run(name: str, nominal: int, parameters: int) -> Run:
    """Return an imported model, with the arm and seed of the catalogue of series if it is in there.

    It is not if a size that is known (not 0) is another one.
    """
    known = published(name)
    sizes = {"nominal": nominal, "total": parameters}
    if known is None or any(size and size != known.parameters.get(key, size) for key, size in sizes.items()):
        return Run(name, nominal=nominal, parameters=parameters)
    return Run(name, known.arm, known.seed, nominal, parameters)


def stated_runs(models: Iterable[Model], imported: Iterable[Mapping[str, Any]]) -> list[Run]:
    """Return the models of a grid, then those that only rows of `imported` list."""
    runs = runs_of(models)
    own = {run.model for run in runs}
    return [*runs, *(run for run in imported_runs(imported)[0] if run.model not in own)]


def arms_of(
    runs: Sequence[Run], named: Mapping[str, Sequence[str]], where: str, *, partial: bool = False
) -> dict[str, list[Run]]:
    """Return the runs of each arm, in the order of the configuration, or of the models.

    Parameters
    ----------
    named
        Arm → names of models, with the wildcards * and ?; empty: the arms that rows and series state.
    where
        File and section, for messages.
    partial
        Whether further models are known only later, so that a pattern may match none of these.

    Raises
    ------
    ConfigError
        A pattern that matches no model, a model in two arms, or a single arm without two runs of a size.
    """
    if not named:
        found = _stated(runs)
        if not partial and not _says_something(found):
            stated = f"only {next(iter(found))!r}" if found else "none"
            raise ConfigError(
                f"{where}.arms: missing, and of the arms that rows of models state, found {stated}; "
                f"allowed: {TWO_ARMS}. Name them (arms: {{one: [model], other: [model]}}), or set arm in "
                "rows of models."
            )
        return found
    models = {run.model: run for run in runs}
    arm_of: dict[str, str] = {}
    arms: dict[str, list[Run]] = {}
    for arm, patterns in named.items():
        arms[arm] = []
        for pattern in patterns:
            without_sets = pattern.replace("[", "[[]")  # brackets are part of a name
            matching = [name for name in models if fnmatchcase(name, without_sets)]
            if not matching and not partial:
                raise ConfigError(
                    f"{where}.arms.{arm}: found {pattern!r}, which matches no model; allowed: "
                    f"{', '.join(models) or 'none'}, with * and ?{nearest(pattern, list(models)) or '.'}"
                )
            for name in matching:
                other = arm_of.setdefault(name, arm)
                if other != arm:
                    raise ConfigError(
                        f"{where}.arms.{arm}: found {pattern!r}, which matches {name}, a model of arm "
                        f"{other!r}; a model belongs to one arm. Name the models without a pattern."
                    )
                if models[name] not in arms[arm]:
                    arms[arm].append(models[name])
    if not partial and not _says_something(arms):
        raise ConfigError(f"{where}.arms: found only {next(iter(arms))!r}; allowed: {TWO_ARMS}.")
    return arms


def are_compared(named: Mapping[str, Sequence[str]], runs: Iterable[Run]) -> bool:
    """Whether there are two arms to compare; of a single one, only the noise of its seeds is estimated."""
    return len(named or _stated(runs)) > 1


def _says_something(arms: Mapping[str, Sequence[Run]]) -> bool:
    sizes = [run.size for runs in arms.values() for run in runs]
    return len(arms) > 1 or len(set(sizes)) < len(sizes)


def reference_of(arms: Iterable[str], wanted: str | None, where: str) -> str:
    """Return the arm that others are compared with: the one named, or else the first.

    Raises `ConfigError` for a name that is no arm.
    """
    names = list(arms)
    if wanted is None:
        return names[0]
    if wanted not in names:
        raise ConfigError(
            f"{where}.reference: found {wanted!r}; allowed: {', '.join(names)}{nearest(wanted, names) or '.'}"
        )
    return wanted


def check_sizes(arms: Mapping[str, Sequence[Run]], reference: str, where: str) -> None:
    """Raise `ConfigError` for an arm without a size of the reference. Unknown sizes may be any."""
    for arm, runs in arms.items():
        sizes, others = ({run.size for run in of} for of in (runs, arms[reference]))
        if sizes and others and not {*sizes, *others} & {0} and not sizes & others:
            labels = size_labels([*runs, *arms[reference]])
            found, allowed = (", ".join(labels[size] for size in sorted(of)) for of in (sizes, others))
            trained = any(run.recipe for run in (*runs, *arms[reference]))
            remedy = (
                "Give both arms models of the same width, layers and vocabulary: the size of a model trained "
                "here is its exact number of parameters"
                if trained
                else "Add runs of a common size, or give rows of models that have one size by their names "
                "the same `nominal`"
            )
            raise ConfigError(
                f"{where}.arms.{arm}: found runs of {found} parameters; the reference {reference} has only "
                f"{allowed}, and runs are compared within a size. {remedy}."
            )


def check_runs(
    settings: Mapping[str, Any],
    models: Iterable[Model],
    tasks: Iterable[str],
    imported: Sequence[Mapping[str, Any]],
    where: str,
) -> None:
    """Raise `ConfigError` unless the section `runs` fits the models and tasks of the study.

    Parameters
    ----------
    settings
        The section, valid by its schema.
    models, tasks
        The grid; a suite may have its tasks.
    imported
        Checked rows of `imported`, which add models and tasks. Those that they do not list are checked once
        they are read.
    """
    others, partial = imported_runs(imported)
    known_runs = runs_of(models)
    runs = [*known_runs, *(run for run in others if run.model not in {r.model for r in known_runs})]
    _check_seed_sd(settings, imported, where)
    arms = arms_of(runs, settings["arms"], where, partial=partial)
    names = list(settings["arms"] or arms)
    if not partial or settings["arms"]:
        check_sizes(arms, reference_of(names, settings["reference"], where), where)
    known = list(tasks)
    for suite, of_suite in suites_of(settings).items():
        if suite in known:
            raise ConfigError(
                f"{where}.suites.{suite}: there is a task of this name; give the suite another one."
            )
        for task in of_suite["tasks"]:
            if task not in known and not imported:
                raise ConfigError(
                    f"{where}.suites.{suite}: found {task!r}; allowed: {', '.join(known) or 'none'}"
                    f"{nearest(task, known) or '.'}"
                )


def _check_seed_sd(settings: Mapping[str, Any], imported: Sequence[Mapping[str, Any]], where: str) -> None:
    """Raise `ConfigError` if `seed_sd` gives a number for a metric or suite that is not compared."""
    table = (settings["seed_sd"] or {}).get("table")
    if table is not None:
        if not Path(table).is_file():
            raise ConfigError(
                f"{where}.seed_sd.table: {table} is not a file; run the study that makes it first."
            )
        with Path(table).open(encoding="utf-8", errors="replace") as lines:
            columns = lines.readline(10_000).rstrip("\r\n").split("\t")
        if missing := sorted({*SEED_COLUMNS} - {*columns}):
            raise ConfigError(
                f"{where}.seed_sd.table: found {table} without {', '.join(missing)}; allowed: seeds.tsv of a "
                "study with a section runs."
            )
    given = (settings["seed_sd"] or {}).get("sd")
    if isinstance(given, (int, float)) and given > MOST_SD:
        raise ConfigError(
            f"{where}.seed_sd.sd: found {given:g}; allowed: at most {MOST_SD}, because a number applies to "
            "shares from 0 to 1. Give points as 0.012, and other metrics by name (sd: {margin: 0.3})."
        )
    if not isinstance(given, Mapping):
        return
    allowed = [*settings["metrics"], *settings["suites"]]
    for name in given:
        if name not in allowed and not imported:  # imports may have other metrics
            raise ConfigError(
                f"{where}.seed_sd.sd: found {name!r}; allowed: the metrics and suites of this section, "
                f"{', '.join(allowed)}{nearest(name, allowed) or '.'}"
            )


def suites_of(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the `tasks`, `metric` and `resample_tasks` of each suite of the section `runs`."""
    return {
        name: {
            "metric": settings["metrics"][0],
            "resample_tasks": False,
            **(given if isinstance(given, Mapping) else {"tasks": given}),
        }
        for name, given in settings["suites"].items()
    }


def size_labels(runs: Iterable[Run]) -> dict[int, str]:
    """Return the label of each size, with three digits (70M, 15.3K), or all if these are not enough."""
    sizes = {run.size for run in runs}
    short = {size: short_number(size) if size else UNKNOWN for size in sizes}
    several = {label for label in short.values() if list(short.values()).count(label) > 1}
    return {size: f"{size:,}" if label in several else label for size, label in short.items()}


def arms_table(arms: Mapping[str, Sequence[Run]]) -> "pd.DataFrame":
    """Return one row per run: `COLUMNS`.

    `size` is a label and `parameters` its number; `seed` may be missing.
    """
    import pandas as pd

    labels = size_labels(run for runs in arms.values() for run in runs)
    rows = [(r.model, arm, labels[r.size], r.size, r.seed) for arm, runs in arms.items() for r in runs]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"seed": "Int64"})


def left_out(runs: Sequence[Run], arms: Mapping[str, Sequence[Run]]) -> str:
    """Return the names of the models that belong to no arm, for a sentence; empty if there are none."""
    used = {run.model for of in arms.values() for run in of}
    return listed(run.model for run in runs if run.model not in used)


def _stated(runs: Iterable[Run]) -> dict[str, list[Run]]:
    arms: dict[str, list[Run]] = {}
    for run in runs:
        if run.arm:
            arms.setdefault(run.arm, []).append(run)
    return arms


def short_number(number: float) -> str:
    """Return a number with three digits: 70M, 1.4B, 15.3K."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
