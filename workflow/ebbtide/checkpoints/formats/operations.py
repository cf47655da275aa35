"""The tensors of one step of a map: transposed, joined, split.

The same code checks shapes before anything is read, on tensors without values (device `meta`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ebbtide.checkpoints.formats.mapping import Step


def apply(
    step: "Step", parts: Sequence[Sequence["Tensor"]], shapes: Sequence[tuple[int, ...]]
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
        wholes = [_whole(step, ranks) for ranks in parts]
        whole = _joined(wholes, rule.axis, step.groups) if len(wholes) > 1 else wholes[0]
        if len(shapes) > 1:
            made = _split(whole, [shape[rule.axis] for shape in shapes], rule.axis, step.groups)
        else:
            made = [whole]
        return [_finished(step, one, shape) for one, shape in zip(made, shapes, strict=True)]
    except (RuntimeError, IndexError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def _whole(step: "Step", ranks: Sequence["Tensor"]) -> "Tensor":
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
    return tensor.unflatten(axis, (groups, tensor.shape[axis] // groups))


def _finished(step: "Step", tensor: "Tensor", shape: tuple[int, ...]) -> "Tensor":
    """A target after the operations on single targets: padding dropped, rotary pairs, a constant added."""
    rule = step.rule
    if rule.padded and tensor.ndim and tensor.shape[0] > shape[0]:
        tensor = tensor[: shape[0]]
    if step.heads:
        pairs = _grouped(tensor, 0, step.heads)
        pairs = pairs.unflatten(1, (pairs.shape[1] // 2, 2))
        tensor = pairs.transpose(1, 2).flatten(0, 2)
    if rule.add:
        tensor = tensor + rule.add
    if tuple(tensor.shape) != shape:
        raise ValueError(f"it has the shape {_text(tensor.shape)}, but config.json implies {_text(shape)}")
    return tensor


def _text(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "of a single value"
