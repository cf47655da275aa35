"""The peer: lm-evaluation-harness, backend `hf`, called below its own tokenisation."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workloads import MissingError, Request

Encoded = tuple[
    tuple[str, str], list[int], list[int]
]  # texts, context ids, continuation ids: lm-eval's own form


class Peer:
    """A checkpoint in lm-eval."""

    def __init__(self, directory: Path, dtype: str, device: str, batch_size: int | str = 1) -> None:
        """Load it. Raises `MissingError` when lm-eval is not installed."""
        try:
            from lm_eval.models.huggingface import HFLM
        except ImportError:
            raise MissingError("lm-eval is not installed; pip install -e '.[test]'.") from None
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self._lm: Any = HFLM(pretrained=str(directory), device=device, dtype=dtype, batch_size=batch_size)
        self.forwarded = 0  # tokens, padding included
        call = self._lm._model_call

        def counted(inputs: Any, **named: Any) -> Any:
            self.forwarded += inputs.numel()
            return call(inputs, **named)

        self._lm._model_call = counted

    @property
    def model(self) -> Any:
        """The transformers model."""
        return self._lm.model

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        """Token ids as lm-eval makes them."""
        return [((r.context, r.continuation), *self._lm._encode_pair(*r)) for r in requests]

    def score(self, requests: list[Encoded], batch_size: int | str) -> list[float]:
        """Log-likelihood (nats) of each request."""
        self.forwarded = 0
        self._lm.batch_size_per_gpu = batch_size
        return [value for value, _ in self._lm._loglikelihood_tokens(requests, disable_tqdm=True)]


def matmul_parameters(model: Any) -> int:
    """Weights of the linear layers before the head: each costs 2 FLOP per token."""
    from torch import nn

    head = model.get_output_embeddings()
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and m is not head)


def head_parameters(model: Any) -> int:
    """V × d of the head: 2 FLOP each per scored position."""
    return int(model.get_output_embeddings().weight.numel())
