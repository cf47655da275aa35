"""What a study must fit beyond its schema: everything that can be refused before anything costly runs."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.hub.findings import STOP
from ebbtide.checkpoints.precision import DTYPES
from ebbtide.errors import ConfigError, nearest
from ebbtide.grid import Checkpoint, Model
from ebbtide.schema import relative
from ebbtide.scoring.scorer import FAKE
from ebbtide.sources import CHECKOUT

if TYPE_CHECKING:
    from ebbtide.study.study import Study
    from ebbtide.tasks.definition import Task


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


def refuse_old_names(config: Mapping[str, Any], place: Callable[[str], str]) -> None:
    """Raise `ConfigError` for a key that has been renamed, naming its new name.

    Parameters
    ----------
    config
        The configuration as it was written.
    place
        Top-level key → the file that holds it.
    """
    for old, new in RENAMED.items():
        section, _, key = old.partition(".")
        held = config.get(section) if key else config
        if isinstance(held, Mapping) and (key or section) in held:
            raise ConfigError(f"{place(section)}: {old}: this key is now called {new}; rename it.")


def problem_of(check: Callable[[], None]) -> str | None:
    """The sentence of the error that a check raises, or None."""
    try:
        check()
    except ConfigError as error:
        return str(error)
    return None


def check_checkpoints(study: "Study") -> None:
    """Raise `ConfigError` for an incomplete lock, an audit that stops, or checkpoints that do not fit."""
    if study.unlocked:
        raise ConfigError(
            f"{study.lock_file} lacks {'; '.join(study.unlocked)}; run snakemake with the target lock, "
            "where there is a network."
        )
    stops = [f for f in study.findings if f.action == STOP]
    if stops:
        first = stops[0]
        steps = " ".join(map(str, first.steps[:5])) + (" …" if len(first.steps) > 5 else "")
        more = f"; and {len(stops) - 1} more" if len(stops) > 1 else ""
        raise ConfigError(
            f"{study.lock_file}: audit stops the study: {first.finding}, {first.model} step {steps}: "
            f"{first.detail}{more}. The target audit lists all; to go on, leave steps out, or set "
            f"audit.{first.finding}: drop or warn, or allow it with a reason under audit.allow."
        )
    scoring = study.config["scoring"]
    if scoring["backend"] == FAKE and scoring["rescore_examples"]:
        raise ConfigError(
            f"{study.file}: scoring.rescore_examples: found {scoring['rescore_examples']}, but with "
            "scoring.backend: fake there is no model to rescore with; set it to 0."
        )
    if scoring["dtype"] == "checkpoint":
        _check_precision(study.models, study.file)
    if study.config["regression"]["parameters"] == "nominal":
        _check_nominal(study.models, study.file)
    baselines(study)


def _check_precision(models: Mapping[str, Model], file: str) -> None:
    """A checkpoint can be scored in its own precision if that is one of those to score in."""
    for model in models.values():
        for checkpoint in model.checkpoints:
            if checkpoint.dtype not in DTYPES:
                raise ConfigError(
                    f"{file}: scoring.dtype: found 'checkpoint', but {model.name}/{checkpoint.name} has the "
                    f"precision {checkpoint.dtype!r}; name one to score in: {', '.join(DTYPES)}."
                )


def _check_nominal(models: Mapping[str, Model], file: str) -> None:
    """A regression on sizes by name needs a size for every model."""
    nameless = [name for name, model in models.items() if any(not c.nominal for c in model.checkpoints)]
    if nameless:
        raise ConfigError(
            f"{file}: regression.parameters: found 'nominal', but {', '.join(nameless[:5])} has no nominal "
            "size; allowed: non_embedding, total, active, or give the row one."
        )


def baselines(study: "Study") -> dict[str, Checkpoint]:
    """Model → the checkpoint that alarms compare with, if the study names one. Raises `ConfigError`."""
    return find_baselines(study.models, study.config["alarms"]["baseline"], study.file)


def find_baselines(models: Mapping[str, Model], wanted: str | int | None, file: str) -> dict[str, Checkpoint]:
    """Model → its baseline: a checkpoint of its own training, or for all the same one of another model.

    Parameters
    ----------
    wanted
        A step, the name of a checkpoint, or `model/checkpoint`; None is no baseline.

    Raises
    ------
    ConfigError
        A model or checkpoint of that name is not in the grid, or a model lacks the checkpoint.
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
    return {model.name: _find(model, wanted, wanted, file) for model in models.values()}


def _find(model: Model, checkpoint: str | int, wanted: str | int, file: str) -> Checkpoint:
    for one in model.checkpoints:
        if checkpoint in (one.name, one.step, str(one.step)):
            return one
    names = [one.name for one in model.checkpoints]
    shown = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    raise ConfigError(
        f"{file}: alarms.baseline: found {wanted!r}, which {model.name} has not; allowed: a checkpoint of "
        f"every model ({model.name} has {shown or 'none'}), or model/checkpoint."
    )


def check_watching(config: Mapping[str, Any], place: Callable[[str], str]) -> None:
    """Raise `ConfigError` for an unknown metric, grades of alarms out of order, or nothing to compare with.

    Parameters
    ----------
    config
        The checked configuration, with its defaults.
    place
        Section of the configuration → the file that holds it.
    """
    _check_metrics(config["trajectories"]["metrics"], place)
    alarms = config["alarms"]
    moderate, severe = alarms["effects"]["moderate"], alarms["effects"]["severe"]
    if moderate > severe:
        raise ConfigError(
            f"{place('alarms')}: alarms.effects: found moderate {moderate:g} above severe {severe:g}; "
            "allowed: moderate at most severe."
        )
    if alarms["against"] == ["baseline"] and alarms["baseline"] is None:
        raise ConfigError(
            f"{place('alarms')}: alarms.against: found the baseline alone, but alarms.baseline is null, "
            "which leaves nothing to compare; name a baseline, or add predecessor or best."
        )


def _check_metrics(watched: list[str], place: Callable[[str], str]) -> None:
    if watched == ["accuracy"]:
        return  # every job reads the study; the register of metrics takes a second to import
    from ebbtide.metrics import METRICS

    for name in watched:
        if name not in METRICS:
            raise ConfigError(
                f"{place('trajectories')}: trajectories.metrics: found {name!r}; "
                f"allowed: {', '.join(METRICS)}{nearest(name, list(METRICS)) or '.'}"
            )


def check_scaling(
    scaling: Mapping[str, Any], models: Collection[str], tasks: Collection[str], where: str
) -> None:
    """Raise `ConfigError` unless the runs come from one place, and what is scored here is in the grid.

    `scaling` follows its schema; `where` is its file and key.
    """
    places = [key for key in ("testbed", "scored") if key in scaling]
    if len(places) != 1:
        found = " and ".join(places) or "neither"
        raise ConfigError(f"{where}: found {found}; allowed: one of testbed, scored.")
    if places == ["testbed"]:
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


def apply_results_choice(checked: dict[str, Any], results: str, place: Callable[[str], str]) -> None:
    """Empty what `results` leaves out: models and tasks, or imported rows. Something must be left."""
    if results == "imported":
        checked |= {"models": [], "tasks": []}
        if not checked["imported"]:
            raise ConfigError(f"{place('imported')}: imported: found none with results: imported; give rows.")
        return
    if results == "scored":
        checked["imported"] = []
    for key in ("models", "tasks"):
        if not checked[key] and not checked["imported"] and "scaling_laws" not in checked:
            other = "" if results == "scored" else ", or rows of imported, or scaling_laws"
            raise ConfigError(f"{place(key)}: {key}: found none; allowed: at least one{other}.")


def find_published(regression: dict[str, Any], file: str) -> None:
    """The path of the published values as a job finds it: from the working directory, or in the checkout."""
    if regression["published"] is None:
        return
    places = [base / regression["published"] for base in (Path.cwd(), CHECKOUT)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = " and ".join(str(place) for place in dict.fromkeys(places))
        raise ConfigError(f"{file}: regression.published: there is no such file (looked for {looked}).")
    regression["published"] = str(relative(found))


def check_worlds(models: Mapping[str, Model], tasks: "Mapping[str, Task]") -> None:
    """A toy task must ask about the world, and hold out text of the mixture, that the ladder has read."""
    for model in models.values():
        corpus = (model.training or {}).get("corpus", {})
        for task in tasks.values():
            for key, asked in (("world", task.world), ("mixture", task.mixture)):
                if key in corpus and asked and dict(corpus[key]) != dict(asked):
                    raise ConfigError(
                        f"{task.file}: source.{key}: found {dict(asked)}; model {model.name} is trained on "
                        f"corpus.{key} {dict(corpus[key])}; the two must be equal."
                    )
