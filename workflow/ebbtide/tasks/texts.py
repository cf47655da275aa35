"""Digests of the texts of examples: whether two tables of requests ask the same."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def text_digests(requests: "pd.DataFrame") -> dict[str, int]:
    """Return the digest of contexts, continuations and right choices of each example, by its name."""
    import pandas as pd

    gold = requests["gold"].astype(float) if "gold" in requests else np.nan
    rows = pd.util.hash_pandas_object(
        requests[["choice", "context", "continuation"]].astype({"choice": "int64"}).assign(gold=gold),
        index=False,
    )
    of_examples = rows.groupby(requests["example"].astype(str).to_numpy(), sort=False).sum()
    return {str(name): int(digest) for name, digest in of_examples.items()}


def texts_record(digests: Mapping[str, int]) -> dict[str, Any]:
    """Return the digest of all examples of a task, and their number, as JSON for footers."""
    return {"digest": f"{sum(digests.values()) % 2**64:016x}", "examples": len(digests)}
