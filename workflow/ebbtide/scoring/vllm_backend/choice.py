"""A logits processor of vLLM: a function of each request chooses its next token.

vLLM then takes the most likely token, which is the only one that is left. So a token does not depend on the
random numbers of vLLM, and its batches, their order and preemption do not matter.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates

from ebbtide.scoring.generation.native import in_numpy

CHOOSE = "ebbtide"  # key of the function in `SamplingParams.extra_args`

Choose = Callable[[np.ndarray, int], int]  # logits (V,), number of new tokens so far → the next token


class ChosenTokens(LogitsProcessor):  # type: ignore[misc]
    """See the module. Requests without a function are left alone."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        # By row of the batch: the function, and the new tokens so far, to which vLLM appends.
        self._rows: dict[int, tuple[Choose, list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """Whether the most likely token stays the same, so that vLLM may skip this."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow the rows of the batch, before each forward pass."""
        process_dict_updates(self._rows, batch_update, _entry)

    def apply(self, logits: Tensor) -> Tensor:
        """Leave one token in the rows of logits (B, V)."""
        if self._rows:
            rows = torch.tensor(list(self._rows), device=logits.device)
            found = in_numpy(logits[rows])
            tokens = [
                choose(own, len(new)) for own, (choose, new) in zip(found, self._rows.values(), strict=True)
            ]
            logits[rows] = -torch.inf
            logits[rows, torch.tensor(tokens, device=logits.device)] = 0.0
        return logits


def _entry(params: Any, prompt: list[int] | None, new: list[int]) -> tuple[Choose, list[int]] | None:
    choose = (params.extra_args or {}).get(CHOOSE)
    return None if choose is None else (choose, new)
