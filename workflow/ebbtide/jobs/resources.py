"""Memory and time limits of scoring jobs, from the size of the weights."""

from ebbtide.grid import Checkpoint
from ebbtide.study.study import Study

_BASE_MB = 2000  # Python, torch, requests
_COPIES = 3  # of the weights: saved in 16 bits, converted to float32; the rest for activations
_RESCORING_COPIES = 4  # further copies to rescore in float64


def memory_mb(study: Study, checkpoint: Checkpoint, attempt: int) -> int:
    """Return the memory of a scoring job in MB; it grows with each attempt."""
    rescoring = bool(study.config["scoring"]["rescore_examples"])
    copies = _COPIES + _RESCORING_COPIES * rescoring
    return attempt * (_BASE_MB + copies * checkpoint.size_bytes // 2**20)


def minutes(study: Study, checkpoint: Checkpoint, attempt: int) -> int:
    """Return the minutes for one cell: its share of an hour, or of more for large weights.

    A grouped submission gets the sum over its cells.
    """
    hour = 60 + 10 * checkpoint.size_bytes // 2**30
    return attempt * max(5, hour // len(study.tasks))
