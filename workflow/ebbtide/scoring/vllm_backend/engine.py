"""The engine of vLLM in this process: its arguments, and its steps with few requests at a time."""

import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from vllm import EngineArgs, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.llm_engine import LLMEngine

from ebbtide.errors import ScoringError
from ebbtide.scoring.memory import is_out_of_memory, out_of_memory_message
from ebbtide.scoring.placement import WEIGHTS_FRACTION
from ebbtide.scoring.vllm_backend.choice import CHOOSE, Choose, ChosenTokens

CPU_CACHE = 2**30  # bytes for keys and values on a CPU
_running: list[Any] = []  # the engine of this process
AHEAD = 2  # requests in the engine, in batches: one runs while the next one waits


def start(
    directory: str | Path,
    dtype: str,
    device: str,
    *,
    batch: int | None = None,
    cache: int | None = None,
) -> Any:
    """Return an engine with the weights of a checkpoint; the one before is stopped. Raises what vLLM raises.

    Parameters
    ----------
    batch
        Most sequences in a forward pass; None: vLLM's own number.
    cache
        Bytes for keys and values. None: `CPU_CACHE` on a CPU, and what is free on a GPU.
    """
    _stop()
    memory: dict[str, Any] = {"kv_cache_memory_bytes": cache or CPU_CACHE}
    if device == "cuda" and cache is None:
        free, total = torch.cuda.mem_get_info()
        memory = {"gpu_memory_utilization": WEIGHTS_FRACTION * free / total}
    set_num_threads = torch.set_num_threads
    try:
        engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=str(directory),
                dtype=dtype,
                load_format="safetensors",
                model_impl="vllm",
                trust_remote_code=False,
                skip_tokenizer_init=True,
                generation_config="vllm",  # not the sampling of generation_config.json
                max_model_len=-1,  # the window, or as much of it as fits in memory
                enforce_eager=device == "cpu",
                enable_prefix_caching=True,
                async_scheduling=False,  # the tokens so far must be known when the next one is chosen
                logits_processors=[ChosenTokens],
                logprobs_mode="raw_logprobs",  # before the processor: at temperature 1 without truncation
                max_logprobs=1,
                disable_log_stats=True,
                use_tqdm_on_load=False,
                **memory,
                **({} if batch is None else {"max_num_seqs": batch}),
            )
        )
    finally:
        torch.set_num_threads = set_num_threads  # which vLLM replaces on a CPU
    _running.append(engine)
    return engine


def _stop() -> None:
    """Stop the engine that runs, and release its memory: vLLM has global state for one."""
    while _running:
        _running.pop().engine_core.shutdown()
        cleanup_dist_env_and_memory()


def longest(engine: Any) -> int:
    """Most tokens of a prompt and its sample."""
    return int(engine.model_config.max_model_len)


@dataclass(eq=False)
class Request:
    """A prompt, and the function that chooses what follows it.

    Attributes
    ----------
    prompt
        Token ids.
    choose
        See `choice`.
    most
        Most new tokens.
    of
        What the new tokens belong to, for the reader of the output.
    reads_prompt
        Whether the log-likelihoods of the prompt's own tokens are computed.
    ended
        Set by the reader of the output, if no more tokens are wanted.
    """

    prompt: list[int]
    choose: Choose
    most: int
    of: Any
    reads_prompt: bool = False
    ended: bool = False


def run(engine: Any, waiting: Iterator[Request]) -> Generator[list[tuple[Request, Any]]]:
    """Run requests, few at a time, so that one is an object only from shortly before it begins.

    Yields after each step the requests with new tokens, and the `RequestOutput` of each, which has only the
    new tokens. Close it, so that no request stays in the engine after an error.

    Raises `ScoringError` if memory runs out.
    """
    most = AHEAD * int(engine.vllm_config.scheduler_config.max_num_seqs)
    names = map(str, itertools.count())
    live: dict[str, Request] = {}
    try:
        while True:
            for request in islice(waiting, most - len(live)):
                name = next(names)
                live[name] = request
                engine.add_request(name, {"prompt_token_ids": request.prompt}, _parameters(request))
            if not live:
                return
            found = [(live[output.request_id], output) for output in engine.step()]
            yield found
            gone = [output.request_id for request, output in found if request.ended or output.finished]
            engine.abort_request(gone)
            for name in gone:
                del live[name]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ScoringError(out_of_memory_message("a step of vLLM"), recurs=False) from error
    finally:
        engine.abort_request(list(live))


def _parameters(request: Request) -> Any:
    return SamplingParams(
        temperature=0,  # takes the token that `ChosenTokens` leaves
        max_tokens=request.most,
        ignore_eos=True,  # `Ends` decides
        detokenize=False,
        logprobs=int(request.reads_prompt),  # further ones than that of the chosen token
        prompt_logprobs=1 if request.reads_prompt else None,
        extra_args={CHOOSE: request.choose},
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,
    )
