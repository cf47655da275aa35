"""The `Scorer` of checkpoints with weights: our decoder for supported families, else transformers."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ebbtide.checkpoints.configuration import configuration, context_window, window_key
from ebbtide.checkpoints.load import count_parameters, load_model
from ebbtide.checkpoints.weight_files import weight_files
from ebbtide.logs import log
from ebbtide.parameters import count
from ebbtide.scoring.body import Body, NativeBody
from ebbtide.scoring.device import device_name
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.families import Unsupported, build
from ebbtide.scoring.generation.decoding import Decoding, Samples
from ebbtide.scoring.generation.ends import Ends
from ebbtide.scoring.generation.native import generate_native
from ebbtide.scoring.memory import check_all_devices, chunk_size, fits_one_device
from ebbtide.scoring.padded import score_padded
from ebbtide.scoring.scorer import Counters, Scores
from ebbtide.scoring.walk import score_trie
from ebbtide.scoring.weights import Weights

if TYPE_CHECKING:
    from ebbtide.scoring.tokenizer import Tokenizer

BATCH_TOKENS = 4096  # tokens per padded batch


@dataclass(frozen=True)
class ModelScorer:
    """A `Scorer` with our own decoder or a transformers model.

    Attributes
    ----------
    body
        The model that forwards the trie; None if the trie does not support it.
    model
        The transformers model; None if our own decoder is used.
    load_tokenizer
        Returns the tokenizer; loads it when it is first needed, which is never if all tasks are encoded.
    window
        Context window in tokens.
    window_key
        Key of `config.json` that sets the window; None if none does.
    vocabulary
        Rows of the embedding.
    alone
        Whether each request needs its own forward pass.
    """

    body: Body | None
    model: Any
    load_tokenizer: "Callable[[], Tokenizer]"
    window: int
    window_key: str | None
    vocabulary: int
    dtype: str
    device: str
    parameters_total: int
    parameters_non_embedding: int
    parameters_active: int  # non-embedding parameters that one token uses
    alone: bool = False

    @property
    def tokenizer(self) -> "Tokenizer":
        """See `Scorer`."""
        return self.load_tokenizer()

    @property
    def method(self) -> str:
        """`trie`: each unique token is forwarded once; `padded`: batches, for models without trie support."""
        return "padded" if self.body is None else "trie"

    @property
    def implementation(self) -> str:
        """Implementation of the forward pass: `ebbtide` or `transformers`."""
        return "ebbtide" if self.model is None else "transformers"

    @property
    def kernel(self) -> str:
        """Attention implementation, as named in transformers."""
        if self.model is None:
            return "sdpa"
        return str(getattr(self.model.config, "_attn_implementation", "unknown"))

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
        if self.body is None:
            batch = 1 if self.alone else BATCH_TOKENS
            return score_padded(self.model, requests, counters, batch_tokens=batch, ranks=ranks, best=best)
        body = self.body
        chunk = chunk_size(body.preferred_tokens, body.bytes_per_token(requests.deepest), body.device)
        return score_trie(self.body, requests, counters, chunk=chunk, ranks=ranks, best=best)

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
        counters = counters if counters is not None else Counters()
        numbers = range(decoding.samples) if numbers is None else numbers
        ends = Ends(self.tokenizer, decoding, eos)
        given: dict[str, Any] = {"keys": keys, "numbers": numbers, "counters": counters}
        if isinstance(self.body, NativeBody):
            return generate_native(self.body, prompts, decoding, ends, **given)
        from ebbtide.scoring.generation.hugging_face import generate_transformers

        return generate_transformers(self.model, prompts, decoding, ends, **given)

    def record(self) -> dict[str, Any]:
        """See `Scorer`."""
        return {
            "parameters_total": self.parameters_total,
            "parameters_non_embedding": self.parameters_non_embedding,
            "parameters_active": self.parameters_active,
            "method": self.method,
            "implementation": self.implementation,
            "kernel": self.kernel,
            "device_name": device_name(self.device),
            "gpus": self._gpus(),
            "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        }

    def _gpus(self) -> int:
        """Number of GPUs that hold the weights."""
        if self.model is None:
            return int(self.device == "cuda")
        return len({p.device for p in self.model.parameters() if p.device.type == "cuda"})


def default_dtype() -> str:
    """`checkpoint` (its own precision) on a GPU; float32 on a CPU, where 16-bit types are far slower."""
    return "checkpoint" if torch.cuda.is_available() else "float32"


def load_model_scorer(
    directory: str | Path,
    dtype: str,
    threads: int,
    *,
    native: bool = True,
    tokenizer_directory: str | Path | None = None,
    offload: bool = False,
    encoded: bool = False,
) -> ModelScorer:
    """See `engine.load_scorer`. If `native` is false, our own decoder is not used."""
    torch.set_num_threads(max(1, threads))
    device = device_for(dtype)
    files = weight_files(directory)
    config, tokenizer = configuration(directory), tokenizers(directory, tokenizer_directory, encoded=encoded)
    checkpoint = _Checkpoint(directory, config, dtype, device, tokenizer)
    fits = fits_one_device(files, dtype, device)
    scorer = checkpoint.with_own_decoder() if fits and native else None
    if scorer is not None:
        return scorer
    if fits:
        model = load_model(directory, dtype).to(device)
    else:
        if not offload:
            check_all_devices(str(directory), files, dtype)
        model = load_model(directory, dtype, device_map="auto", offload=offload)
    return checkpoint.with_transformers(model)


def device_for(dtype: str) -> str:
    """Return where to score; warn of a CPU in place of a GPU, and of 16 bits on a CPU."""
    if torch.cuda.is_available():
        return "cuda"
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        log.warning("scoring on the CPU: torch %s cannot use GPU %s", torch.__version__, visible)
    if dtype in ("bfloat16", "float16"):
        log.warning("scoring in %s on a CPU, which is several times slower than float32", dtype)
    return "cpu"


@dataclass(frozen=True)
class _Checkpoint:
    """A checkpoint, and how its weights become a scorer."""

    directory: str | Path
    config: Mapping[str, Any]
    dtype: str
    device: str
    tokenizer: "Callable[[int], Callable[[], Tokenizer]]"  # rows of the embedding → `load_tokenizer`

    def with_own_decoder(self) -> ModelScorer | None:
        """Return the scorer with our decoder; None if it does not support the checkpoint."""
        try:
            with Weights(self.directory, getattr(torch, self.dtype), self.device) as weights:
                decoder = build(self.config, weights)
        except Unsupported as reason:
            log.info("%s is scored with transformers: %s", self.directory, reason)
            return None
        return self._scorer(
            len(decoder.embedding),
            body=NativeBody(decoder),
            model=None,
            parameters_total=weights.total,
            parameters_non_embedding=weights.total - weights.embedding,
            parameters_active=weights.total - weights.embedding,  # every decoder here is dense
        )

    def with_transformers(self, model: Any) -> ModelScorer:
        """Return the scorer with a model that transformers has loaded."""
        from ebbtide.scoring.causality import check_causality
        from ebbtide.scoring.hugging_face import body_of, is_length_dependent

        check_causality(model, self.directory)
        total, non_embedding = count_parameters(model)
        counted = count(self.config)
        idle = counted.non_embedding - counted.active_non_embedding if counted else 0
        return self._scorer(
            int(model.get_input_embeddings().num_embeddings),
            body=body_of(model),
            model=model,
            alone=is_length_dependent(model.config),
            parameters_total=total,
            parameters_non_embedding=non_embedding,
            parameters_active=non_embedding - idle,
        )

    def _scorer(self, rows: int, **facts: Any) -> ModelScorer:
        return ModelScorer(
            load_tokenizer=self.tokenizer(rows),
            window=context_window(self.config),
            window_key=window_key(self.config),
            vocabulary=rows,
            dtype=self.dtype,
            device=self.device,
            **facts,
        )


def tokenizers(
    directory: str | Path, place: str | Path | None, *, encoded: bool
) -> "Callable[[int], Callable[[], Tokenizer]]":
    """Return a function from the rows of the embedding to a function that loads the tokenizer.

    Unless all tasks are encoded, the tokenizer is read now and checked as soon as the rows are known: its
    errors come before the weights, which take longer.
    """
    read = cache(partial(_read_tokenizer, directory, place))
    if not encoded:
        read()

    def loader(rows: int) -> "Callable[[], Tokenizer]":
        load = cache(partial(_checked_tokenizer, read, rows, directory))
        if not encoded:
            load()
        return load

    return loader


def _read_tokenizer(directory: str | Path, place: str | Path | None) -> "Tokenizer":
    from ebbtide.scoring.tokenizer import load_tokenizer

    return load_tokenizer(directory, place)


def _checked_tokenizer(read: "Callable[[], Tokenizer]", rows: int, directory: str | Path) -> "Tokenizer":
    from ebbtide.scoring.tokenizer import check_vocabulary

    tokenizer = read()
    check_vocabulary(tokenizer, rows, directory)
    return tokenizer
