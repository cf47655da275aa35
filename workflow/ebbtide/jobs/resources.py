"""What a scoring job asks of the machine, from the size of the weights alone."""

from ebbtide.grid import Checkpoint
from ebbtide.study.study import Study

_BASE_MB = 2000  # Python, torch, requests
_COPIES = 3  # of the weights: as saved (16 bits) → float32, and room for activations
_RESCORING_COPIES = 4  # more of them for the second opinion in float64


def memory_mb(study: Study, checkpoint: Checkpoint, attempt: int) -> int:
    """Memory of a scoring job in MB; more at each attempt."""
    rescoring = bool(study.config["scoring"]["rescore_examples"])
    copies = _COPIES + _RESCORING_COPIES * rescoring
    return attempt * (_BASE_MB + copies * checkpoint.size_bytes // 2**20)


def minutes(study: Study, checkpoint: Checkpoint, attempt: int) -> int:
    """Minutes for one cell: its share of an hour, and more for large weights. A submission gets the sum."""
    hour = 60 + 10 * checkpoint.size_bytes // 2**30
    return attempt * max(5, hour // len(study.tasks))
