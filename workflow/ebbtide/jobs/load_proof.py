"""The load proof in a scoring job: made once, and judged before the first task of a checkpoint is scored.

The hint lists the checkpoints of the model in the order of training (`proofs`: name, step, tokens, key; and
backend, unless it is `auto`), and what findings do (`proof_rules`). A job without them makes the proof, and
judges the checkpoint by itself. A proof that cannot be made or kept never fails a job: the reason is logged.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.checkpoints.configuration import configuration
from ebbtide.checkpoints.directory import directory_of
from ebbtide.checkpoints.findings import STOP, Finding, allowances, judged
from ebbtide.errors import CellError, EbbtideError, ScoringError, StorageError, type_and_reason
from ebbtide.locks import node_lock
from ebbtide.logs import log
from ebbtide.scoring.proof.load_key import VERSION, key_of, path_of
from ebbtide.scoring.proof.proof_file import Proof, read_proof, write_proof
from ebbtide.scoring.proof.series import Step, judge, nearest
from ebbtide.scoring.proof.verdicts import capital
from ebbtide.scoring.scorer import FAKE, backend_of

if TYPE_CHECKING:
    from ebbtide.scoring.encoded_task import EncodedTask
    from ebbtide.scoring.scorer import Scorer

Job = Mapping[str, Any]
WARN_ONLY = {"load_loss": "warn", "load_tensors": "warn", "allow": []}


def check_known_proof(job: Job, hint: Job, cells: str) -> None:
    """Raise `ScoringError` if the store has a proof with a finding that stops, so that nothing is loaded."""
    if STOP in _rules(hint).values() and backend_of(job["identity"]) != FAKE:
        try:
            proof = read_proof(cells, key_of(job["identity"]))
        except CellError:
            return
        _refuse(_findings(proof, job, hint, cells))


def prove_load(
    job: Job, hint: Job, cells: str, scorer: "Scorer", tell: Callable[[str], None] = lambda _: None
) -> None:
    """Make the proof of a loaded checkpoint unless the store has it, and judge it.

    Parameters
    ----------
    scorer
        The loaded checkpoint of the job.
    tell
        Prints a sentence on the terminal; the log has it, too.

    Raises
    ------
    ScoringError
        A finding that stops (`audit.load_loss`, `audit.load_tensors`), with its sentence.
    """
    if backend_of(job["identity"]) == FAKE:
        return
    findings = _findings(_made_once(job, cells, scorer), job, hint, cells)
    for finding in findings:
        sentence = f"load proof: {finding.detail}. {capital(finding.remedy)}."
        if finding.action == STOP:
            continue  # the error says it
        level = logging.WARNING if finding.action == "warn" else logging.INFO
        log.log(level, "%s", sentence if not finding.reason else f"{sentence} Allowed: {finding.reason}.")
        if finding.action == "warn":
            tell(f"Warning: {sentence}")
    _refuse(findings)


def _made_once(job: Job, cells: str, scorer: "Scorer") -> Proof:
    """The proof in the store, or a new one; jobs with the same weights wait for the one that makes it."""
    identity = job["identity"]
    key = key_of(identity)
    with closing(node_lock(cells, f"proof {key}")):
        try:
            known = read_proof(cells, key)
            if not known.unread:  # what failed for lack of memory, or of a disk, may succeed now
                return known
        except CellError as error:
            if path_of(cells, key).exists():
                log.warning("%s The proof is made again.", error)
        started = time.perf_counter()
        proof = _new_proof(job, cells, scorer)
        try:
            write_proof(proof, cells, identity)
        except (StorageError, OSError) as error:
            log.warning("the load proof is made again next time: %s", error)
        log.info("made the load proof of %s in %.2f s", job["checkpoint"], time.perf_counter() - started)
    return proof


def _new_proof(job: Job, cells: str, scorer: "Scorer") -> Proof:
    from ebbtide.scoring.proof.losses import losses_of
    from ebbtide.scoring.proof.sketch import sketches_of

    losses = sketches = None
    unread = []
    try:
        losses = losses_of(scorer, _encoded_texts(job, cells, scorer))
    except Exception as error:  # whatever a library raises: the tasks are scored all the same
        unread.append(f"no loss: {_reason(error)}")
    try:
        sketches = sketches_of(directory_of(job["checkpoint"]), str(job["identity"]["dtype"]))
    except Exception as error:
        unread.append(f"no sketch of the tensors: {_reason(error)}")
    for reason in unread:
        log.warning("load proof of %s: %s", job["checkpoint"], reason)
    return Proof(losses, sketches, "; ".join(unread))


def _encoded_texts(job: Job, cells: str, scorer: "Scorer") -> "EncodedTask":
    """The encoded texts, kept in the store like a task: without them, each job would load its tokenizer."""
    from ebbtide.scoring import encoded_file as files
    from ebbtide.scoring.proof.losses import encode_texts

    config = configuration(directory_of(job["checkpoint"]))
    key = files.key_of(
        task=f"load_proof:{VERSION}",
        tokenizer=job["identity"]["tokenizer"],
        model_type=config.get("model_type"),
        tokenizer_class=config.get("tokenizer_class"),
        window=scorer.window,
        vocabulary=scorer.vocabulary,
    )
    path = files.path_of(cells, key)
    with suppress(FileNotFoundError, ValueError):  # a damaged file is written again
        return files.read_encoded(path, key)
    task = encode_texts(scorer)
    with suppress(StorageError, OSError):  # they are encoded again next time
        files.write_encoded(task, path, key)
    return task


def _reason(error: Exception) -> str:
    return str(error.args[0]).rstrip(".") if isinstance(error, EbbtideError) else type_and_reason(error)


def _findings(proof: Proof, job: Job, hint: Job, cells: str) -> Sequence[Finding]:
    """The findings about a proof, with their actions."""
    rules = _rules(hint)
    model, steps, own = _series(proof, job, hint, cells)
    found = judge(model, steps, own).findings
    return list(judged(found, rules, allowances(rules["allow"])))


def _rules(hint: Job) -> Job:
    rules: Job = hint.get("proof_rules", WARN_ONLY)
    return rules


def _series(proof: Proof, job: Job, hint: Job, cells: str) -> tuple[str, list[Step], int]:
    """The name of the model, its checkpoints in the order of training, and the index of the own."""
    key, backend = key_of(job["identity"]), backend_of(job["identity"])
    entries: dict[str, Job] = {e["name"]: e for e in hint.get("proofs", []) if backend_of(e) == backend}
    own = next((name for name, entry in entries.items() if entry["key"] == key), None)
    if own is None:  # a job started by hand
        directory = directory_of(job["checkpoint"])
        return directory.parent.name, [Step(directory.name, 0, 0, proof)], 0
    having = [name for name, entry in entries.items() if path_of(cells, entry["key"]).exists()]
    proofs = {own: proof}
    for name in nearest(list(entries), own, having):
        try:
            proofs[name] = read_proof(cells, entries[name]["key"])
        except CellError as error:
            log.info("%s is not compared: %s", name, error)
    names = [name for name in entries if name in proofs]
    steps = [Step(name, entries[name]["step"], entries[name]["tokens"], proofs[name]) for name in names]
    return str(hint.get("model") or Path(job["checkpoint"]).parent.parent.name), steps, names.index(own)


def _refuse(findings: Sequence[Finding]) -> None:
    """Raise `ScoringError` for the first finding that stops."""
    for finding in findings:
        if finding.action == STOP:
            raise ScoringError(
                f"{finding.detail}. {capital(finding.remedy)}. "
                "The load proof stops it before its first task is scored; "
                f"to score it all the same, set audit.{finding.finding} to warn, or allow "
                "the finding with a reason under audit.allow."
            )
