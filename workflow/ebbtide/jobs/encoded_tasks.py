"""The encoded tasks of a worker: read from the cell store or, if missing, encoded and written to it.

All checkpoints with one tokenizer share them, so that most workers neither tokenise nor build tries.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ebbtide.checkpoints.configuration import configuration, context_window
from ebbtide.checkpoints.directory import directory_of
from ebbtide.errors import CellError, EbbtideError, StorageError, first_line
from ebbtide.jobs.answers import Asked, Prepared, answers_of
from ebbtide.logs import log
from ebbtide.scoring.encoded_file import Key, key_of, path_of, read_encoded, write_encoded
from ebbtide.scoring.engine import window_of
from ebbtide.scoring.scorer import FAKE, backend_of
from ebbtide.tables import REQUESTS, read_footer, read_parquet

if TYPE_CHECKING:
    from ebbtide.jobs.loaded import Job
    from ebbtide.scoring.scorer import Scorer


class EncodedTasks:
    """Encoded tasks by job. `prepare` gets the next one in a thread, while a GPU is busy with this one."""

    def __init__(self, cells: str | Path) -> None:
        self._cells = cells
        self._pool = ThreadPoolExecutor(1)
        self._ahead: tuple[Job, Future[Prepared]] | None = None

    def are_probably_stored(self, job: "Job") -> bool:
        """Whether the arrays of a job's task exist for the vocabulary in its `config.json`.

        Raises `CellError` for requests that are damaged or not those of the identity.
        """
        frozen = _frozen(job)
        try:
            config = _configuration(job)
            window = job["identity"]["max_length"] or context_window(config)
            key = _key(job, frozen, window, int(config["vocab_size"]))
            return path_of(self._cells, key).exists()
        except (EbbtideError, LookupError, TypeError, ValueError):
            return False  # loading reports what is wrong

    def get(self, job: "Job", scorer: "Scorer") -> Prepared:
        """The encoded task of a job.

        Raises the errors of `are_probably_stored`, and those of encoding.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == job:
            return ahead[1].result()
        return self._get(job, scorer)

    def prepare(self, job: "Job", scorer: "Scorer") -> None:
        """Get the encoded task of a job in a thread, for a later `get` with the same scorer."""
        self._ahead = job, self._pool.submit(self._get, job, scorer)

    def _get(self, job: "Job", scorer: "Scorer") -> Prepared:
        requests, frozen = job["requests"], _frozen(job)
        window, answers = window_of(scorer, job["identity"]["max_length"]), answers_of(frozen)
        key = _key(job, frozen, window, scorer.vocabulary)
        path = path_of(self._cells, key)
        try:
            if answers.stored:
                return Prepared(read_encoded(path, key), _keys(requests), answers)
        except FileNotFoundError:
            pass
        except ValueError as reason:
            log.warning("%s is not used, but written again: %s", path, reason)
        table = read_parquet(requests, REQUESTS)
        task = answers.encode(scorer, Asked(job, table, frozen), window)
        try:
            if answers.stored:
                write_encoded(task, path, key)
        except (StorageError, OSError) as error:  # scores are not lost for it
            log.warning("%s is encoded again next time: %s", requests, error)
        return Prepared(task, table.select(["example", "choice"]), answers)


def _frozen(job: "Job") -> Mapping[str, Any]:
    """The footer of a job's requests. Raises `CellError` if they are not those of the identity."""
    frozen = read_footer(job["requests"], REQUESTS)
    if (found := frozen.get("identity")) != job["identity"]["task"]:
        raise CellError(
            f"{job['requests']}: found task {found}, expected {job['identity']['task']}; {REQUESTS.remedy}."
        )
    return frozen


def _configuration(job: "Job") -> Mapping[str, Any]:
    """The checkpoint's `config.json`; empty for the fake back end, which has a tokenizer of its own."""
    return {} if backend_of(job["identity"]) == FAKE else configuration(directory_of(job["checkpoint"]))


def _key(job: "Job", frozen: Mapping[str, Any], window: int, vocabulary: int) -> Key:
    """Everything that determines the arrays: texts, tokenizer, rules, window, and rows of the embedding."""
    identity, config = job["identity"], _configuration(job)
    rules = {name: identity[name] for name in answers_of(frozen).rules}
    return key_of(
        task=identity["task"],
        requests_sha256=frozen["content_sha256"],
        # The class of a tokenizer may follow from that of the model.
        tokenizer=FAKE if backend_of(identity) == FAKE else identity["tokenizer"],
        model_type=config.get("model_type"),
        tokenizer_class=config.get("tokenizer_class"),
        window=window,
        vocabulary=vocabulary,
        **rules,
    )


def _keys(requests: str | Path) -> pa.Table:
    """The columns `example, choice` of frozen requests; the others are not read."""
    try:
        with pq.ParquetFile(requests, page_checksum_verification=True) as file:
            return file.read(columns=["example", "choice"])
    except (pa.ArrowException, OSError) as error:
        raise CellError(f"{requests} is damaged ({first_line(error)}); {REQUESTS.remedy}.") from error
