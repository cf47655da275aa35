"""The `Scorer` of checkpoints with weights: our decoder for supported families, else transformers."""

import os
from collections.abc import Callable
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
from ebbtide.scoring.encoded import Requests
from ebbtide.scoring.families import Unsupported, build
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

    def score(self, requests: Requests, *, ranks: bool = False, counters: Counters | None = None) -> Scores:
        """See `Scorer`."""
        counters = counters if counters is not None else Counters()
        if self.body is None:
            batch = 1 if self.alone else BATCH_TOKENS
            return score_padded(self.model, requests, counters, batch_tokens=batch, ranks=ranks)
        body = self.body
        chunk = chunk_size(body.preferred_tokens, body.bytes_per_token(requests.deepest), body.device)
        return score_trie(self.body, requests, counters, chunk=chunk, ranks=ranks)

    def record(self) -> dict[str, Any]:
        """See `Scorer`."""
        return {
            "parameters_total": self.parameters_total,
            "parameters_non_embedding": self.parameters_non_embedding,
            "parameters_active": self.parameters_active,
            "method": self.method,
            "implementation": self.implementation,
            "kernel": self.kernel,
            "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        }


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
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and (visible := os.environ.get("CUDA_VISIBLE_DEVICES")):
        log.warning("scoring on the CPU: torch %s cannot use GPU %s", torch.__version__, visible)
    if device == "cpu" and dtype in ("bfloat16", "float16"):
        log.warning("scoring in %s on a CPU, which is several times slower than float32", dtype)
    files = weight_files(directory)
    config = configuration(directory)
    read = cache(partial(_read_tokenizer, directory, tokenizer_directory))
    if not encoded:
        read()  # its errors come before the weights, which take longer

    def loader(rows: int) -> "Callable[[], Tokenizer]":
        load = cache(partial(_checked_tokenizer, read, rows, directory))
        if not encoded:
            load()
        return load

    common: dict[str, Any] = {
        "window": context_window(config),
        "window_key": window_key(config),
        "dtype": dtype,
        "device": device,
    }
    fits = fits_one_device(files, dtype, device)
    if fits and native:
        try:
            with Weights(directory, getattr(torch, dtype), device) as weights:
                decoder = build(config, weights)
        except Unsupported as reason:
            log.info("%s is scored with transformers: %s", directory, reason)
        else:
            return ModelScorer(
                load_tokenizer=loader(len(decoder.embedding)),
                body=NativeBody(decoder),
                model=None,
                vocabulary=len(decoder.embedding),
                parameters_total=weights.total,
                parameters_non_embedding=weights.total - weights.embedding,
                parameters_active=weights.total - weights.embedding,  # every decoder here is dense
                **common,
            )
    if fits:
        model = load_model(directory, dtype).to(device)
    else:
        if not offload:
            check_all_devices(str(directory), files, dtype)
        model = load_model(directory, dtype, device_map="auto", offload=offload)
    from ebbtide.scoring.causality import check_causality
    from ebbtide.scoring.hugging_face import body_of, is_length_dependent

    check_causality(model, directory)
    rows = int(model.get_input_embeddings().num_embeddings)  # type: ignore[operator]
    total, non_embedding = count_parameters(model)
    counted = count(config)
    idle = counted.non_embedding - counted.active_non_embedding if counted else 0
    return ModelScorer(
        load_tokenizer=loader(rows),
        body=body_of(model),
        model=model,
        alone=is_length_dependent(model.config),
        vocabulary=rows,
        parameters_total=total,
        parameters_non_embedding=non_embedding,
        parameters_active=non_embedding - idle,
        **common,
    )


def _read_tokenizer(directory: str | Path, place: str | Path | None) -> "Tokenizer":
    from ebbtide.scoring.tokenizer import load_tokenizer

    return load_tokenizer(directory, place)


def _checked_tokenizer(read: "Callable[[], Tokenizer]", rows: int, directory: str | Path) -> "Tokenizer":
    from ebbtide.scoring.tokenizer import check_vocabulary

    tokenizer = read()
    check_vocabulary(tokenizer, rows, directory)
    return tokenizer
