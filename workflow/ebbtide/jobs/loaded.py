"""The weights in a worker's memory: one checkpoint at a time, loaded once for all its cells."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.directory import directory_of, tokenizer_of
from ebbtide.checkpoints.verification import check_before_loading, check_weights
from ebbtide.errors import CheckpointError
from ebbtide.logs import log
from ebbtide.scoring.scorer import FAKE, backend_of

if TYPE_CHECKING:
    from ebbtide.scoring.scorer import Scorer

Job = Mapping[str, Any]


class Loaded:
    """The scorer in memory; one checkpoint at a time.

    `device_lost` is whether an error of the device makes all further work of this process fail.
    """

    def __init__(self, threads: int, *, offload: bool = False) -> None:
        self._threads, self._offload = threads, offload
        self._key: tuple[str, ...] | None = None
        self._scorer: Scorer | None = None
        self._broken: set[tuple[str, ...]] = set()  # keys whose weights cannot be loaded
        self.loads = 0
        self.device_lost = False
        self.digests: dict[str, str] = {}  # full sha256 of the weight files in memory, by name

    def get(self, job: Job, cells: str, *, encoded: bool) -> "Scorer":
        """Return the scorer of a job's checkpoint. Raises what loading raises.

        `encoded`: see `scoring.engine.load_scorer`.
        """
        checkpoint, identity, backend = job["checkpoint"], job["identity"], backend_of(job["identity"])
        wanted = _key_of(job)
        if self._scorer is None or not self.has(job):
            self._broken.add(wanted)  # until it is loaded
            self._scorer, self.digests = None, {}  # free the old weights before loading the new ones
            started = time.perf_counter()
            weights, planned = identity["weights"], (identity["weights"], identity["tokenizer"])
            if backend != FAKE:
                check_before_loading(checkpoint, *planned)
            elif not Path(checkpoint).exists():  # the fake backend reads no weights, but they must exist
                raise CheckpointError(f"{checkpoint} does not exist; run snakemake again.")
            directory = directory_of(checkpoint)
            from ebbtide.scoring.engine import load_scorer

            load = partial(load_scorer, directory, identity["dtype"], self._threads, backend=backend)
            if backend == FAKE:
                scorer = load(weights=weights)
            else:
                with ThreadPoolExecutor(1) as pool:  # hash the files while they are loaded
                    hashing = pool.submit(check_weights, checkpoint, *planned, cells)
                    own = tokenizer_of(checkpoint)
                    try:
                        scorer = load(tokenizer=own, offload=self._offload, encoded=encoded)
                    finally:  # a damaged file is the cause of what loading raises, and has a remedy
                        self.digests = hashing.result()
            self._scorer = scorer
            self._key = wanted
            self._broken.discard(wanted)
            self.loads += 1
            log.info("loaded weights of %s in %.1f s", directory, time.perf_counter() - started)
        return self._scorer

    def has(self, job: Job) -> bool:
        """Whether the weights of a job are in memory."""
        return self._scorer is not None and self._key == _key_of(job)

    def refuse(self, job: Job) -> None:
        """Treat the weights of a job as if they could not be loaded."""
        self._scorer, self.digests = None, {}
        self._broken.add(_key_of(job))

    def is_broken(self, job: Job) -> bool:
        """Whether the weights of a job could not be loaded."""
        return _key_of(job) in self._broken


def _key_of(job: Job) -> tuple[str, ...]:
    return job["checkpoint"], job["identity"]["dtype"], backend_of(job["identity"])
