"""Log-likelihoods in float64 throughout, by the plain transformers model, one request after the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.exact import in_float64, load_exact


class Exact:
    """A checkpoint in float64."""

    def __init__(self, directory: Path, device: str = "cpu") -> None:
        """Load it."""
        self._model: Any = load_exact(directory).to(device)

    def score(self, requests: Requests) -> list[float]:
        """Log-likelihood (nats) of each request; what it shares with the one before is not computed again."""
        from transformers import DynamicCache

        cache: Any = DynamicCache()
        cached: tuple[int, ...] = ()
        values = [0.0] * len(requests)
        with in_float64():
            for index in sorted(range(len(requests)), key=lambda i: requests[i].tokens):
                request = requests[index]
                kept = min(_shared(cached, request.fed), request.context - 1)
                if cached:
                    cache.crop(kept - len(cached))  # tokens to remove, negative
                fed = torch.tensor([request.fed[kept:]], device=self._model.device)
                targets = torch.tensor(request.continuation, device=self._model.device)  # (n,)
                output = self._model(
                    fed, past_key_values=cache, use_cache=True, logits_to_keep=len(request.continuation)
                )
                logits = output.logits[0]  # (n, V)
                picked = logits.gather(1, targets[:, None])[:, 0]
                values[index] = float((picked - torch.logsumexp(logits, dim=1)).sum())
                cached = request.fed
        return values


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
