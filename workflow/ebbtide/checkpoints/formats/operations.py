"""The tensors of one step of a map: transposed, joined, split.

The same code checks shapes before anything is read, on tensors without values (device `meta`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ebbtide.checkpoints.formats.mapping import Plan, Step
from ebbtide.checkpoints.formats.rules import Rule
from ebbtide.checkpoints.formats.source import BYTES, not_converted
from ebbtide.checkpoints.formats.targets import Targets
from ebbtide.notices import listed

if TYPE_CHECKING:
    from torch import Tensor


def precisions(
    plan: Plan,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, str],
    targets: Targets,
    where: str,
) -> dict[str, str]:
    """Check the shapes and precisions of a plan; return the precision of each target by name.

    Zeros have the precision of most values.

    Raises `CheckpointError` of class `not_converted`, which names the tensor; `where` is the checkpoint.
    """
    import torch

    found: dict[str, str] = {}
    for step in plan.steps:
        names, own = step.names, {dtypes[name] for name in step.names}
        if strange := own - BYTES.keys():
            raise not_converted(
                f"{where}: {names[0]} is saved in {min(strange)}; allowed: {', '.join(BYTES)}."
            )
        if len(own) > 1:
            raise not_converted(
                f"{where}: {listed(names, 3)} are joined, but are saved in {' and '.join(sorted(own))}."
            )
        parts = [[torch.empty(shapes[name], device="meta") for name in ranks] for ranks in step.sources]
        try:
            apply(step, parts, shapes_of(step, targets))
        except ValueError as error:
            raise not_converted(
                f"{where}: {listed(names, 3)} cannot become {listed(step.targets, 3)}: {error}."
            ) from error
        found |= dict.fromkeys(step.targets if not step.tied_to else (), own.pop())
    most = most_values(found, targets)
    return found | dict.fromkeys(plan.zeros, most)


def most_values(found: Mapping[str, str], targets: Targets) -> str:
    """Return the precision that most values have, given that of each target."""
    values: dict[str, int] = {}
    for name, dtype in found.items():
        values[dtype] = values.get(dtype, 0) + math.prod(targets.shapes[name])
    return max(values, key=lambda dtype: values[dtype])


def shapes_of(step: Step, targets: Targets) -> list[tuple[int, ...]]:
    """Return the shapes of the targets of a step."""
    return [targets.shapes[step.tied_to or target] for target in step.targets]


def apply(
    step: Step, parts: Sequence[Sequence["Tensor"]], shapes: Sequence[tuple[int, ...]]
) -> "list[Tensor]":
    """Return the targets of a step from its sources.

    Parameters
    ----------
    parts
        For each name in `from`, the tensors that it matches: one, or one per rank.
    shapes
        Of the targets, from the configuration.

    Raises
    ------
    ValueError
        Shapes that the operations do not fit, or ranks that must be equal and differ; in words.
    """
    rule = step.rule
    try:
        wholes = [part for ranks in parts for part in _parts(_whole(step, ranks), rule.axis, rule.parts)]
        whole = _joined(wholes, rule.axis, step.groups) if len(wholes) > 1 else wholes[0]
        if len(shapes) > 1:
            made = _split(whole, [shape[rule.axis] for shape in shapes], rule.axis, step.groups)
        else:
            made = [whole]
        heads = step.heads if isinstance(step.heads, tuple) else (step.heads,) * len(made)
        return [_finished(rule, *one) for one in zip(made, heads, shapes, strict=True)]
    except (RuntimeError, IndexError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def _whole(step: Step, ranks: Sequence["Tensor"]) -> "Tensor":
    """A tensor of the whole model, from those of the ranks of tensor parallelism."""
    import torch

    if len(ranks) == 1:
        whole = ranks[0]
    elif step.rule.ranks_axis is None:
        whole = ranks[0]
        if any(one.shape != whole.shape or not _equal(one, whole) for one in ranks[1:]):
            raise ValueError("it must be equal on all ranks, and is not")
    else:
        whole = torch.cat(list(ranks), dim=step.rule.ranks_axis)
    if step.index is not None:
        whole = whole[step.index]
    return whole.t() if step.rule.transpose else whole


def _equal(one: "Tensor", other: "Tensor") -> bool:
    import torch

    return one.is_meta or torch.equal(one, other)


def _parts(whole: "Tensor", axis: int, count: int) -> "list[Tensor]":
    """Equal parts of a tensor along an axis."""
    if whole.shape[axis] % count:
        raise ValueError(f"{whole.shape[axis]} rows cannot be divided into {count} parts")
    return list(whole.chunk(count, dim=axis)) if count > 1 else [whole]


def _joined(parts: Sequence["Tensor"], axis: int, groups: int) -> "Tensor":
    """Parts one after the other along an axis, or in turns: the first group of each, then the second, …"""
    import torch

    if groups == 1:
        return torch.cat(list(parts), dim=axis)
    joined = torch.cat([_grouped(part, axis, groups) for part in parts], dim=axis + 1)
    return joined.flatten(axis, axis + 1)


def _split(whole: "Tensor", sizes: Sequence[int], axis: int, groups: int) -> "list[Tensor]":
    """The reverse of `_joined`."""
    import torch

    if sum(sizes) != whole.shape[axis]:
        raise ValueError(f"it has {whole.shape[axis]} rows, but its parts have {sum(sizes)}")
    if groups == 1:
        return list(torch.split(whole, list(sizes), dim=axis))
    parts = torch.split(_grouped(whole, axis, groups), [size // groups for size in sizes], dim=axis + 1)
    return [part.flatten(axis, axis + 1) for part in parts]


def _grouped(tensor: "Tensor", axis: int, groups: int) -> "Tensor":
    """A tensor whose axis is two: groups, and places within a group."""
    if tensor.shape[axis] % groups:
        raise ValueError(f"{tensor.shape[axis]} rows cannot be divided into {groups} groups")
    rows = tensor.shape[axis]
    return tensor.reshape(*tensor.shape[:axis], groups, rows // groups, *tensor.shape[axis + 1 :])


def _finished(rule: Rule, tensor: "Tensor", heads: int, shape: tuple[int, ...]) -> "Tensor":
    """A target after the operations on single targets: padding dropped, rotary pairs, a constant added."""
    if rule.padded and tensor.ndim and tensor.shape[0] > shape[0]:
        tensor = tensor[: shape[0]]
    if heads:
        rows = _grouped(tensor, 0, heads)
        pairs = _grouped(rows, 1, rows.shape[1] // 2)
        tensor = pairs.transpose(1, 2).flatten(0, 2)
    if rule.add:
        tensor = tensor + rule.add
    if tuple(tensor.shape) != shape:
        raise ValueError(f"it has the shape {_text(tensor.shape)}, but config.json implies {_text(shape)}")
    return tensor


def _text(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "of a single value"
