"""Findings of load proofs in words: the tensor, what it looks like, and the remedy."""

from collections.abc import Sequence

from ebbtide.checkpoints.facts import EMBEDDINGS, HEADS
from ebbtide.notices import counted, listed
from ebbtide.scoring.proof.faults import (
    EXCHANGED,
    REORDERED,
    SHIFTED,
    STALE,
    TRANSPOSED,
    UNRELATED,
    Fault,
)

LOSS_REMEDY = (
    "compare the loss that training logged at this step; if training had no spike there, the weights were "
    "loaded or converted wrongly: convert or copy the checkpoint again"
)
_CONVERT = "correct the conversion, and convert the checkpoint again"
REMEDIES = {
    EXCHANGED: f"{_CONVERT}: these tensors have each other's names",
    TRANSPOSED: f"{_CONVERT}: transpose these matrices",
    SHIFTED: f"{_CONVERT}: a row was added or left out at the beginning, such as that of a special token",
    REORDERED: f"{_CONVERT}: queries and keys have interleaved rotary pairs in one of the two, and halves "
    "in the other",
    UNRELATED: "check whether these tensors were initialised again or read from another model; copy or "
    "convert the checkpoint again",
    STALE: "copy the weight files of this step again; if these tensors were frozen in training, allow the "
    "finding under audit.allow",
}


def detail_of_faults(faults: Sequence[Fault], other: str) -> str:
    """What is wrong with tensors that share a kind of fault, compared with the checkpoint `other`.

    The sentence lacks its subject, the checkpoint. It names the first tensors.
    """
    first = faults[0]
    names, several = listed(fault.tensor for fault in faults), len(faults) > 1
    numbers = f"correlation {first.explained:.2f}, and {first.same:.2f} as it is"
    match first.kind:
        case "exchanged":
            pairs = listed(f"{fault.tensor} has those of {fault.source}" for fault in faults)
            return f"has values of other tensors of {other}{_meaning(faults)}: {pairs} ({numbers})"
        case "transposed":
            what = "matrices that look" if several else "a matrix that looks"
            return f"has {what} transposed, compared with {other}: {names} ({numbers})"
        case "shifted":
            return f"has rows that are shifted by one, compared with {other}: {names} ({numbers})"
        case "reordered":
            return (
                f"has rotary rows in another order (interleaved or halves) than {other}: {names} ({numbers})"
            )
        case "stale":
            return (
                f"has {counted(faults, 'tensor')} bit-equal to {other}, while others have moved, as with a "
                f"file of another step: {names}"
            )
    return (
        f"has {counted(faults, 'tensor')} without resemblance to {other}, while others resemble theirs: "
        f"{names} (correlation {first.same:.2f})"
    )


def detail_of_overflow(names: Sequence[str]) -> str:
    """What is wrong with tensors whose values exceed half precision, without the subject."""
    return (
        f"has {counted(names, 'tensor')} with values at or beyond the largest of half precision (65,504): "
        f"{listed(names)}"
    )


def overflow_remedy() -> str:
    """What to do about values that exceed half precision."""
    return "save the checkpoint in bfloat16 or float32, and score it in that precision (scoring.dtype)"


def _meaning(faults: Sequence[Fault]) -> str:
    """Say what an exchange means if both are the head and the embedding, or layers in another order."""
    pairs = [(fault.tensor, fault.source) for fault in faults]
    if any(_is_head_and_embedding(*pair) or _is_head_and_embedding(*pair[::-1]) for pair in pairs):
        return ", head and embedding exchanged"
    if all(_without_numbers(one) == _without_numbers(other) for one, other in pairs):
        return ", layers in another order"
    return ""


def _is_head_and_embedding(head: str, embedding: str) -> bool:
    return head.endswith(HEADS) and embedding.endswith(EMBEDDINGS)


def _without_numbers(name: str) -> str:
    return "".join("#" if character.isdigit() else character for character in name)
