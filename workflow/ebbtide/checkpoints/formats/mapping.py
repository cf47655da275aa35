"""Apply a map to the names and shapes of a source and those of a model, before a byte of weights is read.

Every tensor of the source is used once or ignored by a named pattern, and every tensor of the model is made
once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from ebbtide.checkpoints.formats.patterns import bound, expression_of, matches_any, matching
from ebbtide.checkpoints.formats.rules import RANKS, Map, Rule
from ebbtide.checkpoints.formats.source import not_converted
from ebbtide.checkpoints.formats.targets import Targets
from ebbtide.errors import CheckpointError, nearest
from ebbtide.files import digest
from ebbtide.notices import listed

# Fields of a rule that change tensors and are not in a step.
_OPERATIONS = {field.name for field in fields(Rule)} - {
    *("sources", "targets", "families", "groups", "rotary", "ranks", "stacked"),
}


@dataclass(frozen=True)
class Step:
    """One application of a rule: names in the source (one list per `from`), and names in the model."""

    rule: Rule
    sources: tuple[tuple[str, ...], ...]
    targets: tuple[str, ...]
    index: int | None = None
    groups: int = 1
    heads: int | tuple[int, ...] = 0  # of all targets, or of each
    tied_to: str = ""  # the target is not written: it must be equal to this one

    @property
    def names(self) -> list[str]:
        """All names in the source."""
        return [name for ranks in self.sources for name in ranks]


@dataclass(frozen=True)
class Plan:
    """What a map makes of a source.

    Attributes
    ----------
    steps
        In the order in which sources are read.
    zeros
        Targets that the source lacks and that are zero.
    ignored
        Pattern → number of tensors of the source that are not used because of it.
    """

    steps: tuple[Step, ...]
    zeros: tuple[str, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)


def identity_of(made: Plan) -> str:
    """Return a digest of what a plan does. Rules for other models do not change it.

    Values that are the default of an operation are left out, so that new operations change no identity.
    """
    steps = [
        {
            **{
                operation.name: getattr(step.rule, operation.name)
                for operation in fields(Rule)
                if operation.name in _OPERATIONS and getattr(step.rule, operation.name) != operation.default
            },
            "sources": step.sources,
            "targets": step.targets,
            "index": step.index,
            "groups": step.groups,
            "heads": step.heads,
        }
        for step in made.steps
        if not step.tied_to
    ]
    return digest({"steps": steps, "zeros": made.zeros})


def plan(of: Map, shapes: Mapping[str, tuple[int, ...]], targets: Targets, where: str) -> Plan:
    """Compare a map with the tensors of a source and of a model.

    Raises `CheckpointError` of class `not_converted`, which names the tensor and the map; `where` is the path
    of the checkpoint. Nothing is read.
    """
    names, ignored = _without_ignored({name: name for name in shapes}, of)
    rules = [rule for rule in of.rules if not rule.families or targets.family in rule.families]
    names = _unwrapped(names, of, rules, targets)
    names, more = _without_ignored(names, of)
    found = _applications(names, shapes, rules, targets)
    lost = f"{where} (map {of.name}, {targets.family})"
    if not found:
        raise not_converted(
            f"{lost}: no rule fits a name of the checkpoint ({listed(shapes)}); set `map:` to another one."
        )
    made: dict[str, Step] = {}
    for step in found:
        for target in step.targets:
            if target in made:
                raise not_converted(
                    f"{lost}: {target} would be made twice, of {listed(made[target].names, 3)} and of "
                    f"{listed(step.names, 3)}."
                )
            made[target] = step
    # If the source has some tensors of a pattern, the others are missing.
    absent = [pattern for pattern in of.zeros if not any(matches_any(target, [pattern]) for target in made)]
    zeros = [target for target in targets.shapes if target not in made and matches_any(target, absent)]
    for target in targets.shapes:
        if target not in made and target not in zeros:
            raise _missing(target, rules, names, lost)
    _check_used(found, names, shapes, lost, of)
    steps = [_with_numbers(step, targets, lost) for step in found]
    counts = {pattern: ignored.get(pattern, 0) + more.get(pattern, 0) for pattern in {**ignored, **more}}
    return Plan(tuple(sorted(steps, key=lambda step: (step.names, step.index or 0))), tuple(zeros), counts)


def _applications(
    names: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    rules: Sequence[Rule],
    targets: Targets,
) -> list[Step]:
    """All applications of the rules whose sources are complete and whose targets the model has.

    `names` are the names in the source by those without wrappers.
    """
    steps = []
    for rule in rules:
        parts: dict[tuple[tuple[str, str], ...], list[dict[int, str]]] = {}
        for place, pattern in enumerate(rule.sources):
            for name, values in matching(pattern, names):
                rank = int(values.pop(rule.ranks)) if rule.ranks else 0
                count = shapes[names[name]][0] if rule.stacked and shapes[names[name]] else 1
                for index in range(count):
                    key = tuple(
                        sorted((values | ({rule.stacked: str(index)} if rule.stacked else {})).items())
                    )
                    parts.setdefault(key, [{} for _ in rule.sources])[place][rank] = names[name]
        for key, found in parts.items():
            values = dict(key)
            made = tuple(bound(target, values) for target in rule.targets)
            ranks = {tuple(sorted(part)) for part in found}
            if len(ranks) > 1 or min(ranks) != tuple(range(len(found[0]))) or not found[0]:
                continue  # incomplete: the target is missing, which is reported
            sources = tuple(tuple(part[rank] for rank in sorted(part)) for part in found)
            layer = int(values[rule.stacked]) if rule.stacked else None
            if all(target in targets.shapes for target in made):
                steps.append(Step(rule, sources, made, layer))
            elif len(made) == 1 and made[0] in targets.tied:
                steps.append(Step(rule, sources, made, layer, tied_to=targets.tied[made[0]]))
    return steps


def _unwrapped(names: Mapping[str, str], of: Map, rules: Sequence[Rule], targets: Targets) -> dict[str, str]:
    """The names without what wrappers add to all of them, as long as no rule fits any of the names."""
    found, every = dict(names), {*targets.shapes, *targets.tied}
    while found and not any(_is_source(name, rules, every) for name in found):
        wrapper = next((w for w in of.wrappers if all(name.startswith(w) for name in found)), None)
        if wrapper is None:
            break
        found = {name.removeprefix(wrapper): full for name, full in found.items()}
    return found


def _is_source(name: str, rules: Sequence[Rule], targets: set[str]) -> bool:
    for rule in rules:
        for pattern in rule.sources:
            for _, values in matching(pattern, [name]):
                if rule.stacked or all(bound(to, values) in targets for to in rule.targets):
                    return True
    return False


def _without_ignored(names: Mapping[str, str], of: Map) -> tuple[dict[str, str], dict[str, int]]:
    """The names that no pattern ignores, and how many each pattern does."""
    kept: dict[str, str] = {}
    counts: dict[str, int] = {}
    for name, full in names.items():
        pattern = next((p for p in of.ignored if expression_of(p).fullmatch(name)), None)
        if pattern is None:
            kept[name] = full
        else:
            counts[pattern] = counts.get(pattern, 0) + 1
    return kept, counts


def _check_used(
    steps: Sequence[Step],
    names: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    lost: str,
    of: Map,
) -> None:
    """Raise `CheckpointError` for a tensor of the source that is used by no step, or by two."""
    uses: dict[tuple[str, int | None], int] = {}
    for step in steps:
        for name in step.names:
            uses[name, step.index] = uses.get((name, step.index), 0) + 1
    for (name, index), count in uses.items():
        if count > 1:
            raise not_converted(f"{lost}: {name}{_at(index)} would be used {count} times.")
    used = {name for name, _ in uses}
    if unused := [full for full in names.values() if full not in used]:
        raise not_converted(
            f"{lost}: no rule uses {listed(unused, 5)} ({_shape(shapes[unused[0]])}), so config.json and the "
            "checkpoint differ, or the map lacks a rule; add one, or name it in `ignore` of a map."
        )
    for name in {name for name, index in uses if index is not None}:
        layers, expected = sum(one == name for one, _ in uses), shapes[name][0]
        if layers != expected:
            raise not_converted(f"{lost}: {name} has {expected} layers, but config.json {layers}.")


def _missing(target: str, rules: Sequence[Rule], names: Mapping[str, str], lost: str) -> CheckpointError:
    """The error for a tensor that is not made: no rule makes it, or its sources are not there."""
    expected = [
        bound(source, values, missing_ok=True)
        for rule in rules
        for pattern in rule.targets
        for _, values in matching(pattern, [target])
        for source in rule.sources
    ]
    if not expected:
        known = [to for rule in rules for to in rule.targets]
        return not_converted(f"{lost}: no rule makes {target}{_nearest(target, known)}.")
    lacking = [name for name in expected if name not in names] or expected
    close = _nearest(lacking[0], [*names])
    return not_converted(
        f"{lost}: {target} is not made: the checkpoint lacks {' or '.join(lacking[:3])}{close}."
    )


def _with_numbers(step: Step, targets: Targets, lost: str) -> Step:
    """The step with the numbers of groups and heads that the rule takes from the configuration."""

    def number(key: str, value: int | str) -> int:
        found = targets.settings.get(value) if isinstance(value, str) else value
        if value == RANKS:
            found = len(step.sources[0])
        if not isinstance(found, int) or isinstance(found, bool) or found < 0:
            known = [name for name, set_to in targets.settings.items() if isinstance(set_to, int)]
            raise not_converted(
                f"{lost}: {key} is {value!r}, which config.json does not set to a number"
                f"{_nearest(str(value), known)}."
            )
        return found

    rotary = step.rule.rotary
    heads = (
        tuple(number("rotary", one) for one in rotary)
        if isinstance(rotary, tuple)
        else number("rotary", rotary)
    )
    return replace(step, groups=number("groups", step.rule.groups), heads=heads)


def _nearest(word: str, names: list[str]) -> str:
    """Name the closest names as a part of a sentence; a finding of the audit goes on after it."""
    return nearest(word, names).replace("; did you mean", "; nearest:").removesuffix("?")


def _at(index: int | None) -> str:
    return "" if index is None else f"[{index}]"


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "a single value"
