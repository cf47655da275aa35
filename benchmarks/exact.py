"""Log-likelihoods in float64 throughout, by the plain transformers model, one request after the other.

Loading a model in float64 is not enough: its norms and rotary angles are computed in float32 whatever the
weights, which alone moves a request by 1e-5. So every cast to float32 is kept at float64.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ebbtide.scoring.encoding import Encoded


class _Double(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Wherever an operation is asked for float32, it gives float64."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        def wide(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        return func(*map(wide, args), **{name: wide(value) for name, value in (kwargs or {}).items()})


class Exact:
    """A checkpoint in float64."""

    def __init__(self, directory: Path, device: str = "cpu") -> None:
        """Load it."""
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float64, local_files_only=True
        )
        self._model: Any = model.double().to(device).eval()  # buffers too

    def score(self, requests: Sequence[Encoded]) -> list[float]:
        """Log-likelihood (nats) of each request; what it shares with the one before is not computed again."""
        from transformers import DynamicCache

        cache: Any = DynamicCache()
        cached: tuple[int, ...] = ()
        values = [0.0] * len(requests)
        with torch.no_grad(), _Double():  # type: ignore[no-untyped-call]
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
