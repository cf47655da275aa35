"""Checks of a study beyond its schema, made before anything costly runs."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.findings import CLASSES, STOP, Finding
from ebbtide.checkpoints.precision import DTYPES
from ebbtide.errors import ConfigError, nearest
from ebbtide.grid import Checkpoint, Model
from ebbtide.schema import relative
from ebbtide.scoring.scorer import FAKE
from ebbtide.sources import CHECKOUT, Source, check_content
from ebbtide.study.generation_backend import check_generation_backend
from ebbtide.study.windows import check_windows

if TYPE_CHECKING:
    from ebbtide.study.study import Study
    from ebbtide.tasks.definition import Task


# Sections that make a study without models and tasks.
WITHOUT_MODELS = ("scaling_laws", "compute_trends")

RENAMED = {
    "scale": "scaling_trends",
    "scaling": "scaling_laws",
    "use": "results",
    "example_model": "regression.example_model",
    "scoring.ahead": "scoring.load_once_per",
    "scoring.verify": "scoring.rescore_examples",
    "alarms.fail": "alarms.fail_on",
    "alarms.watch": "alarms.checkpoints",
    "forgetting.hold": "forgetting.streak",
    "forgetting.rows": "forgetting.page_rows",
    "trends.flat": "trends.equivalence_margin",
    "weights.downloads": "weights.parallel_downloads",
}  # old key → new key


def refuse_old_names(config: Mapping[str, Any], file_of: Callable[[str], str]) -> None:
    """Raise `ConfigError` for a key that has been renamed, naming its new name.

    Parameters
    ----------
    config
        The configuration, unchecked.
    file_of
        Function from a top-level key to the file that contains it.
    """
    for old, new in RENAMED.items():
        section, _, key = old.partition(".")
        content = config.get(section) if key else config
        if isinstance(content, Mapping) and (key or section) in content:
            raise ConfigError(f"{file_of(section)}: {old}: this key is now called {new}; rename it.")


def problem_of(check: Callable[[], None]) -> str | None:
    """Return the message of the `ConfigError` that a check raises, or None."""
    try:
        check()
    except ConfigError as error:
        return str(error)
    return None


def check_checkpoints(study: "Study") -> None:
    """Raise `ConfigError` for an incomplete lock, a finding that stops the study, or unusable checkpoints."""
    if study.unlocked:
        state = f"lacks {'; '.join(study.unlocked)}" if Path(study.lock_file).exists() else "does not exist"
        raise ConfigError(
            f"{study.lock_file} {state}; run `snakemake lock --cores 1` with the same --configfile, on a "
            "machine with a network."
        )
    stops = [f for f in study.findings if f.action == STOP]
    if stops:
        raise ConfigError(_stop_message(stops, study.lock_file))
    scoring = study.config["scoring"]
    if scoring["backend"] == FAKE and scoring["rescore_examples"]:
        raise ConfigError(
            f"{study.file}: scoring.rescore_examples: found {scoring['rescore_examples']}, but with "
            "scoring.backend: fake there is no model to rescore with; set it to 0."
        )
    check_generation_backend(study)
    if scoring["dtype"] == "checkpoint":
        _check_precision(study.models, study.file)
    if study.config["regression"]["parameters"] == "nominal":
        _check_nominal(study.models, study.file)
    baselines(study)
    check_windows(study)


def _stop_message(stops: Sequence[Finding], lock_file: str) -> str:
    """What is wrong, what to do about it, and how to continue regardless."""
    first = stops[0]
    steps = " ".join(map(str, first.steps[:5])) + (" …" if len(first.steps) > 5 else "")
    more = f"; and {len(stops) - 1} more" if len(stops) > 1 else ""
    remedy = first.how_to_fix()
    otherwise = f"set audit.{first.finding} to drop"
    if not CLASSES[first.finding].is_fatal:
        otherwise += " or warn, or allow the finding with a reason under audit.allow"
    return (
        f"{first.where or lock_file}: {first.detail}. {remedy[0].upper()}{remedy[1:]}. "
        f"The audit stops the study: {first.finding}, {first.model} step {steps}{more}. "
        f"The target audit lists all findings. To continue, {otherwise}."
    )


def _check_precision(models: Mapping[str, Model], file: str) -> None:
    """Raise `ConfigError` for a checkpoint saved in a precision that scoring does not support."""
    for model in models.values():
        for checkpoint in model.checkpoints:
            if checkpoint.dtype not in DTYPES:
                raise ConfigError(
                    f"{file}: scoring.dtype: found 'checkpoint', but {model.name}/{checkpoint.name} has the "
                    f"precision {checkpoint.dtype!r}; set one of {', '.join(DTYPES)}."
                )


def _check_nominal(models: Mapping[str, Model], file: str) -> None:
    """Raise `ConfigError` if a model lacks the nominal size that the regression uses."""
    nameless = [name for name, model in models.items() if any(not c.nominal for c in model.checkpoints)]
    if nameless:
        raise ConfigError(
            f"{file}: regression.parameters: found 'nominal', but these models have no nominal size: "
            f"{', '.join(nameless[:5])}; allowed: non_embedding, total, active, or a row with `nominal`."
        )


def baselines(study: "Study") -> dict[str, Checkpoint]:
    """Return the baseline checkpoint of each scored model, if the study names one. Raises `ConfigError`.

    Imported models are known only once their samples are read, and so is a baseline among them.
    """
    wanted = study.config["alarms"]["baseline"]
    model, _, checkpoint = str(wanted).partition("/")
    if checkpoint and model not in study.models and study.has_samples():
        return {}
    return find_baselines(study.models, wanted, study.file, study.averaged())


def find_baselines(
    models: Mapping[str, Model],
    wanted: str | int | None,
    file: str,
    averages: Mapping[str, str] | None = None,
) -> dict[str, Checkpoint]:
    """Return the baseline of each model: its own checkpoint, or one checkpoint for all models.

    Averages of checkpoints have the baseline of the model they are made of.

    Parameters
    ----------
    wanted
        A step, the name of a checkpoint, or `model/checkpoint`; None is no baseline.
    averages
        Model of averages → the model they are made of.

    Raises
    ------
    ConfigError
        The model or the checkpoint is not in the grid, or some model does not have the checkpoint.
    """
    if wanted is None or not models:
        return {}
    name, _, rest = str(wanted).partition("/")
    if rest:
        if name not in models:
            raise ConfigError(
                f"{file}: alarms.baseline: found {wanted!r}, but there is no model {name!r}"
                f"{nearest(name, list(models)) or '; allowed: ' + ', '.join(models) + '.'}"
            )
        one = _find(models[name], rest, wanted, file)
        return dict.fromkeys(models, one)
    made_of = averages or {}
    own = {n: _find(model, wanted, wanted, file) for n, model in models.items() if n not in made_of}
    return {name: own[made_of.get(name, name)] for name in models}


def _find(model: Model, checkpoint: str | int, wanted: str | int, file: str) -> Checkpoint:
    for one in model.checkpoints:
        if checkpoint in (one.name, one.step, str(one.step)):
            return one
    names = [one.name for one in model.checkpoints]
    listed = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    raise ConfigError(
        f"{file}: alarms.baseline: found {wanted!r}, but {model.name} has no such checkpoint; allowed: one "
        f"of every model ({model.name} has {listed or 'none'}), or model/checkpoint."
    )


def check_trajectories(config: Mapping[str, Any], file_of: Callable[[str], str]) -> None:
    """Raise `ConfigError` for an unknown metric, thresholds out of order, or nothing to compare with.

    Parameters
    ----------
    config
        The checked configuration, with its defaults.
    file_of
        Function from a top-level key to the file that contains it.
    """
    _check_metrics(config["trajectories"]["metrics"], f"{file_of('trajectories')}: trajectories.metrics")
    alarms = config["alarms"]
    moderate, severe = alarms["effects"]["moderate"], alarms["effects"]["severe"]
    if moderate > severe:
        raise ConfigError(
            f"{file_of('alarms')}: alarms.effects: found moderate {moderate:g} above severe {severe:g}; "
            "allowed: moderate no larger than severe."
        )
    if alarms["against"] == ["baseline"] and alarms["baseline"] is None:
        raise ConfigError(
            f"{file_of('alarms')}: alarms.against: found only baseline, but alarms.baseline is null, so "
            "there is nothing to compare with; set alarms.baseline, or add predecessor or best."
        )


def check_run_metrics(runs: Mapping[str, Any], where: str) -> None:
    """Raise `ConfigError` for a metric of the section `runs` that does not exist; imports may have others."""
    suites = [of["metric"] for of in runs["suites"].values() if isinstance(of, Mapping) and "metric" in of]
    named = {"metrics": [*runs["metrics"], *suites]}
    named |= {key: list(runs[key]) for key in ("margin", "detect") if isinstance(runs[key], Mapping)}
    for key, names in named.items():
        own = [name.partition("[")[0] for name in names if not name.startswith("lm_eval_")]
        _check_metrics(own, f"{where}.{key}")


def _check_metrics(watched: list[str], where: str) -> None:
    if set(watched) <= {"accuracy"}:
        return  # the common case: importing the metrics takes a second, and every job reads the study
    from ebbtide.metrics import METRICS
    from ebbtide.tasks.generation.pipelines import without_filter

    for name in watched:
        if without_filter(name) not in METRICS:
            raise ConfigError(
                f"{where}: found {name!r}; allowed: {', '.join(METRICS)}{nearest(name, list(METRICS)) or '.'}"
            )


def check_scaling(
    scaling: Mapping[str, Any], models: Collection[str], tasks: Collection[str], where: str
) -> None:
    """Raise `ConfigError` unless the runs have one origin, and the models and tasks named are in the grid.

    `scaling` is valid by its schema; `where` is its file and key.
    """
    origins = [key for key in ("testbed", "scored") if key in scaling]
    if len(origins) != 1:
        found = " and ".join(origins) or "neither"
        raise ConfigError(f"{where}: found {found}; allowed: one of testbed, scored.")
    if origins == ["testbed"]:
        return
    rows = [(key, i, row) for key in ("fit", "error_fit_adds") for i, row in enumerate(scaling[key])]
    runs = [(f"{key}[{i}].models", name) for key, i, row in rows for name in row["models"]]
    errors = [("scored.errors", name) for name in scaling["scored"]["errors"]]
    for grid, named in ((models, runs), (tasks, [("loss", scaling["loss"]), *errors])):
        for key, name in named:
            if name not in grid:
                raise ConfigError(
                    f"{where}.{key}: found {name!r}; allowed: {', '.join(grid) or 'none'}"
                    f"{nearest(name, list(grid)) or '.'}"
                )


def check_compute_trends(section: Mapping[str, Any], where: str) -> None:
    """Raise `ConfigError` for a source without one content, a day that does not exist, or ends out of order.

    `section` is valid by its schema; `where` is its file and key.
    """
    source = Source.parse(section["source"], section["sha256"], f"{where}.source")
    check_content(source, f"{where}.source", f"restore it, or set {where}.sha256 to the new one.")
    for key in ("since", "before"):
        try:
            date.fromisoformat(section[key])
        except ValueError:
            raise ConfigError(
                f"{where}.{key}: found {section[key]!r}, but there is no such day; allowed: a day as "
                "2022-02-15."
            ) from None
    sizes = section["timeline"]["parameters"]
    for key, low, high in (
        ("since and before", section["since"], section["before"]),
        ("timeline.parameters", *sizes),
    ):
        if low >= high:
            raise ConfigError(f"{where}.{key}: found {low} and {high}; allowed: the first below the second.")


def check_ratings(study: "Study", where: str) -> None:
    """Raise `ConfigError` for a section `ratings` without a task of which it can say anything."""
    if not study.rating_tasks() or not study.models:
        raise ConfigError(
            f"{where}: found no model with a task of kind rating that has the groups user and item (tasks: "
            f"{', '.join(study.tasks) or 'none'}); add one, such as movielens, or remove the section."
        )


def apply_results_choice(checked: dict[str, Any], results: str, file_of: Callable[[str], str]) -> None:
    """Remove the models and tasks, or the imported rows, that `results` excludes; some must be left."""
    if results == "imported":
        checked |= {"models": [], "tasks": []}
        if not checked["imported"]:
            raise ConfigError(
                f"{file_of('imported')}: imported: found none with results: imported; add rows."
            )
        return
    if results == "scored":
        checked["imported"] = []
    for key in ("models", "tasks"):
        if not checked[key] and not checked["imported"] and not {*WITHOUT_MODELS} & checked.keys():
            other = "" if results == "scored" else f", or rows of imported, or {' or '.join(WITHOUT_MODELS)}"
            raise ConfigError(f"{file_of(key)}: {key}: found none; allowed: at least one{other}.")


def find_published(section: dict[str, Any], where: str) -> None:
    """Resolve the path of published values, in the working directory or in the checkout; `where` names it."""
    if section["published"] is None:
        return
    candidates = [base / section["published"] for base in (Path.cwd(), CHECKOUT)]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        tried = " and ".join(str(path) for path in dict.fromkeys(candidates))
        raise ConfigError(f"{where}.published: there is no such file (looked for {tried}).")
    section["published"] = str(relative(found))


def check_worlds(models: Mapping[str, Model], tasks: "Mapping[str, Task]") -> None:
    """Raise `ConfigError` unless toy tasks have the world and the mixture that the ladder is trained on."""
    for model in models.values():
        corpus = (model.training or {}).get("corpus", {})
        for task in tasks.values():
            for key, found in (("world", task.world), ("mixture", task.mixture)):
                if key in corpus and found and dict(corpus[key]) != dict(found):
                    where = "source.prepare" if "prepare" in task.definition["source"] else "source"
                    raise ConfigError(
                        f"{task.file}: {where}.{key}: found {dict(found)}; model {model.name} is trained on "
                        f"corpus.{key} {dict(corpus[key])}; the two must be equal."
                    )
