"""The `Scorer` of an engine of vLLM."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ebbtide.scoring.device import device_name
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.generation.decoding import Decoding, Samples
from ebbtide.scoring.generation.ends import Ends
from ebbtide.scoring.scorer import VLLM, Counters, Scores
from ebbtide.scoring.vllm_backend.package import release
from ebbtide.scoring.vllm_backend.prompt_scores import score_vllm
from ebbtide.scoring.vllm_backend.samples import generate_vllm

if TYPE_CHECKING:
    from ebbtide.scoring.tokenizer import Tokenizer


@dataclass(frozen=True)
class VllmScorer:
    """A `Scorer` that generates with vLLM. Its attributes are those of `ModelScorer`."""

    engine: Any
    load_tokenizer: "Callable[[], Tokenizer]"
    window: int
    window_key: str | None
    vocabulary: int
    dtype: str
    device: str
    parameters_total: int
    parameters_non_embedding: int
    parameters_active: int

    @property
    def tokenizer(self) -> "Tokenizer":
        """See `Scorer`."""
        return self.load_tokenizer()

    def score(
        self,
        requests: Requests,
        *,
        ranks: bool = False,
        best: bool = False,
        counters: Counters | None = None,
    ) -> Scores:
        """See `Scorer`."""
        counters = counters if counters is not None else Counters()
        return score_vllm(self.engine, requests, counters, ranks=ranks, best=best)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        *,
        keys: Sequence[bytes],
        eos: frozenset[int],
        numbers: Sequence[int] | None = None,
        counters: Counters | None = None,
    ) -> Samples:
        """See `Scorer`."""
        return generate_vllm(
            self.engine,
            prompts,
            decoding,
            Ends(self.tokenizer, decoding, eos),
            keys=keys,
            numbers=range(decoding.samples) if numbers is None else numbers,
            counters=counters if counters is not None else Counters(),
        )

    def record(self) -> dict[str, Any]:
        """See `Scorer`. The method is that of the cache: `paged`."""
        versions = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
        return {
            "parameters_total": self.parameters_total,
            "parameters_non_embedding": self.parameters_non_embedding,
            "parameters_active": self.parameters_active,
            "method": "paged",
            "implementation": VLLM,
            "kernel": self._kernel(),
            "device_name": device_name(self.device),
            "gpus": int(self.device == "cuda"),
            "versions": {**versions, VLLM: release()},
        }

    def _kernel(self) -> str:
        """Name of the attention implementation in vLLM."""
        layers = self.engine.vllm_config.compilation_config.static_forward_context.values()
        return next(str(layer.attn_backend.get_name()) for layer in layers if hasattr(layer, "attn_backend"))
