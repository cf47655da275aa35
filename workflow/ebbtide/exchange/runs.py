"""The run that a file of results belongs to, and from it the checkpoint: by the study, else by inference."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ebbtide.errors import CellError, nearest
from ebbtide.exchange.published import Published, published, size_in_name
from ebbtide.exchange.specification import CheckpointRow, Specification, sizes
from ebbtide.exchange.steps import name_in, steps_in_path, steps_in_revision
from ebbtide.schema import check_name

MAIN = "main"


@dataclass(frozen=True)
class Run:
    """What a file says about the model that was evaluated.

    Attributes
    ----------
    name
        Repository or path.
    text
        Everything that the file says about the model; `match` and `step` of the study are searched in it.
    parameters
        Total number of parameters; 0 is unknown.
    source
        The file, for messages.
    """

    name: str
    revision: str
    text: str
    source: str
    parameters: int = 0


@dataclass(frozen=True)
class Resolved:
    """The checkpoint of a run, and how it was found.

    Attributes
    ----------
    origin
        What an inferred name of the model stands for: the path or repository without its step. Empty if the
        study names the model.
    inferred
        Property (model, step, tokens, parameters) → where its value is from, for all that the study does not
        set.
    """

    row: CheckpointRow
    origin: str
    inferred: Mapping[str, str] = field(default_factory=dict)

    def source(self, key: str) -> str:
        """Return where an inferred property is from, without its value."""
        return self.inferred[key].partition(":")[0]


def run_of(document: Mapping[str, Any], source: str) -> Run:
    """The run of a results file of lm-eval. Raises `CellError` if nothing names the model.

    `model_args` is `pretrained=owner/name,revision=step1000` or a mapping.
    """
    config = document.get("config")
    config = config if isinstance(config, Mapping) else {}
    arguments = config.get("model_args")
    if isinstance(arguments, str):
        pairs = [part.split("=", 1) for part in re.split(r",(?=[A-Za-z_]+=)", arguments) if "=" in part]
        arguments = {key.strip(): value for key, value in pairs}
    if not isinstance(arguments, Mapping):
        arguments = {}
    # Adapters (peft, delta) first, as in lm-eval: they name the model that results.
    keys = ("peft", "delta", "pretrained", "model", "path")
    name = next((arguments[key] for key in keys if arguments.get(key)), document.get("model_name"))
    if not isinstance(name, str) or not name:
        raise CellError(
            f"{source}: config.model_args: found {config.get('model_args')!r}, allowed: pretrained=… or a "
            "mapping with that key."
        )
    revision = str(arguments.get("revision") or config.get("model_revision") or MAIN)
    text = ",".join(f"{key}={value}" for key, value in arguments.items()) or name
    size = config.get("model_num_parameters")
    return Run(name, revision, text, source, max(0, size) if isinstance(size, int) else 0)


def resolve(run: Run, given: Specification) -> Resolved:
    """The checkpoint of a run. Raises `CellError` if its model or its step is not known, or ambiguous."""
    known = published(run.name)
    row, origin, inferred = _model(run, given, known)
    by_study = "step" in given.checked or not given.checked["steps"].keys().isdisjoint(
        (run.name, run.revision)
    )
    found = known.at(run.revision, run.name) if known and not by_study else None
    if found and known:
        stage, step = found
        name, tokens = stage.checkpoint(step), stage.tokens(step)
        inferred["step"] = f"revision, by series {known.series}: {run.revision}"
    else:
        step, source = _step(run, given, known)
        name, tokens = f"step{step}", known.stages[0].tokens(step) if known else 0
        inferred |= {"step": source} if source else {}
    if "tokens_per_step" in row:
        tokens = step * row["tokens_per_step"]
    elif tokens and known:
        inferred["tokens"] = f"series {known.series}"
    parameters = dict(row.get("parameters", {}))
    if not parameters:
        parameters, source = _parameters(run, known, row["name"])
        inferred |= {"parameters": source} if source else {}
    found_row = CheckpointRow(row["name"], name, step, tokens, sizes(parameters))
    return Resolved(found_row, origin, inferred)


def resolve_at(run: Run, step: int, given: Specification) -> Resolved:
    """The checkpoint of a run at a step that the file states."""
    pinned = {**given.checked, "steps": {**given.checked["steps"], run.revision: step}}
    resolved = resolve(run, replace(given, checked=pinned))
    return replace(resolved, inferred={k: v for k, v in resolved.inferred.items() if k != "step"})


def _model(
    run: Run, given: Specification, known: Published | None
) -> tuple[Mapping[str, Any], str, dict[str, str]]:
    """The row of `models` for a run, or one with the name that is inferred; and where the name is from."""
    named = name_in(run.name)
    short = run.name.rstrip("/").rsplit("/", 1)[-1]
    name = known.name if known else named.name if named else ""
    if "models" not in given.checked:
        if not name:
            raise CellError(
                f"{run.source}: found model {run.name!r}, in which no component is a name. Add a row with "
                f"name and match under {given.where}.models."
            )
        check_name(name, f"{run.source}: {given.where}.models")
        source = f"series {known.series}" if known else "name of the model in the file"
        return {"name": name}, known.name if known else named.origin if named else name, {"model": source}
    rows = given.checked["models"]
    found = [r for r in rows if "match" not in r and r["name"] == short]
    found = found or [r for r in rows if "match" not in r and r["name"] == name]
    found += [r for r in rows if "match" in r and re.search(r["match"], run.text)]
    if len(found) == 1:
        return found[0], "", {}
    names = [r["name"] for r in rows]
    if not found:
        raise CellError(
            f"{run.source}: found model {run.name!r}, which no row of {given.where}.models matches; "
            f"allowed: {', '.join(names)}. Add a row for it{nearest(short, names) or '.'}"
        )
    raise CellError(
        f"{run.source}: found model {run.name!r}, which {len(found)} rows of {given.where}.models match "
        f"({', '.join(r['name'] for r in found)}). Make their match stricter."
    )


def _step(run: Run, given: Specification, known: Published | None) -> tuple[int, str]:
    """The step of a run, and where it is from; empty if the study states it."""
    steps: Mapping[str, int] = given.checked["steps"]
    for key in (run.name, run.revision):
        if key in steps:
            return steps[key], ""
    if "step" in given.checked:
        return _matched(run, given), ""
    in_revision = steps_in_revision(run.revision)
    in_path = steps_in_path(run.name)
    found = list({c.step: c for c in (*in_revision, *in_path)}.values())
    if len(found) > 1:
        listed = " and ".join(f"step {c.step} in {c.text!r}" for c in found)
        raise CellError(
            f"{run.source}: found {listed}, of model {run.name!r} at revision {run.revision!r}. "
            f"{_remedy(run, given)}"
        )
    if not found:
        last = f" (the last step of {known.name} is {known.last})" if known and known.last else ""
        raise CellError(
            f"{run.source}: found no step in the revision {run.revision!r} and the name {run.name!r}{last}. "
            f"{_remedy(run, given)}"
        )
    where = "revision" if in_revision else "name of the model"
    return found[0].step, f"{where}: {found[0].text}"


def _matched(run: Run, given: Specification) -> int:
    pattern = given.checked["step"]
    match = re.search(pattern, run.revision) or re.search(pattern, run.text)
    if match is None or not match["step"] or not match["step"].isdecimal():
        raise CellError(
            f"{run.source}: found revision {run.revision!r}, in which {given.where}.step ({pattern}) matches "
            f"no step. {_remedy(run, given)}"
        )
    return int(match["step"])


def _remedy(run: Run, given: Specification) -> str:
    is_path = run.revision == MAIN and (run.name.startswith(("/", ".", "~")) or run.name.count("/") != 1)
    key = run.name if is_path and "/" in run.name else run.revision
    return f"Set the step of {key!r} under {given.where}.steps."


def _parameters(run: Run, known: Published | None, name: str) -> tuple[dict[str, int], str]:
    """Sizes of a model that the study does not state, and where they are from."""
    if known:
        return dict(known.parameters), f"series {known.series}"
    found = {"total": run.parameters, "nominal": size_in_name(name)}
    sources = {"total": "model_num_parameters", "nominal": "the model's name"}
    kept = {key: size for key, size in found.items() if size}
    return kept, ", ".join(f"{key} from {sources[key]}" for key in kept)
