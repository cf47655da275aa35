"""One pass of a watcher: lock, audit, score, compare, gate, publish, with a line for each event."""

import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.errors import ConfigError, EbbtideError
from ebbtide.logs import duration
from ebbtide.notices import counted
from ebbtide.study.checks import check_checkpoints
from ebbtide.study.load import read_settings
from ebbtide.study.study import Study
from ebbtide.watch.cells import Lacking, done, lacking
from ebbtide.watch.notify import publish, report_alarms
from ebbtide.watch.ownership import Ownership
from ebbtide.watch.plan import Place, Plan, key_of, plan_of
from ebbtide.watch.snakemake import Ended, remove_left_lock, run, run_snakemake, still_running
from ebbtide.watch.state import State, read_state

GOOD, ALARMS, WRONG = 0, 1, 2  # exit statuses
_VERDICT = re.compile(r"^(?!A job failed)(?P<reason>.*): exit status (?P<status>[012])\.$", re.MULTILINE)


@dataclass(frozen=True)
class Watched:
    """What is watched: the files of the study and its name, and further options for Snakemake."""

    files: tuple[str, ...]
    name: str
    options: tuple[str, ...] = ()

    @property
    def lock(self) -> Path:
        """Path of the lock that one watcher holds."""
        return Path("results", self.name, ".watch.lock")

    def log(self, what: str) -> Path:
        """Path of the log of a command that a pass runs."""
        return Path("logs/watch", f"{self.name}.{what}.log")


class DeferredError(EbbtideError):
    """A pass that could not begin because another run works on the same files."""


def run_pass(
    watched: Watched, ownership: Ownership, say: Callable[[str], None], *, retry: bool = False
) -> int:
    """Take in what is new and return the exit status: that of the gate, or 2 if anything went wrong.

    A checkpoint that waits is not wrong; one that fails or is refused is, and the others go on without it.
    With `retry`, checkpoints that have failed too often are tried again.

    Raises
    ------
    DeferredError
        Another run of Snakemake has locked the files of the study, or that of a killed watcher goes on.
    EbbtideError
        The study cannot be used.
    """
    if goes_on := still_running(ownership.run):
        raise DeferredError(goes_on)
    settings = read_settings(*watched.files)
    if settings["study"] != watched.name:
        raise ConfigError(
            f"{watched.files[-1]}: study: found {settings['study']!r}, but {watched.name!r} is watched; "
            "end this watcher and start another."
        )
    state, damage = read_state(watched.name)
    if damage:
        say(damage)
    if retry:
        state.failed.clear()
    this = _Pass(watched, ownership, say, settings, state)
    try:
        return this.run()
    finally:
        state.write(watched.name)


class _Pass:
    """The steps of a pass; `wrong` says whether any of them has failed."""

    def __init__(
        self,
        watched: Watched,
        ownership: Ownership,
        say: Callable[[str], None],
        settings: Mapping[str, Any],
        state: State,
    ) -> None:
        self._watched, self._ownership, self._say = watched, ownership, say
        self._settings, self._state = settings, state
        self._wrong = False

    def run(self) -> int:
        """Make the pass and return its status."""
        plan = self._planned()
        self._say_what_waits(plan)
        for place, reason in plan.refused.items():
            self._fail(f"{'/'.join(place)}: refused: {reason}")
        verdict = GOOD
        if not plan.study.has_page() or not (any(plan.study.checkpoints()) or plan.study.imported):
            self._say("no checkpoint to score yet")
        else:
            verdict = self._run_workflow(plan)
        return WRONG if self._wrong else verdict

    def _fail(self, text: str) -> None:
        self._wrong = True
        self._say(text)

    def _planned(self) -> Plan:
        """The plan, with a new lock if there are models from a hub."""
        files = self._watched.files
        plan = plan_of(files, self._settings, self._state)
        if not plan.study.hub:
            return plan
        command = [sys.executable, "-m", "ebbtide", "lock", "--study", *plan.files]
        ended = run(command, self._watched.log("lock"))
        if ended.status:
            self._fail(f"lock: failed, so new revisions of the hub are not seen: {ended.last_words()}")
        plan = plan_of(files, self._settings, self._state)
        check_checkpoints(plan.study)
        return plan

    def _say_what_waits(self, plan: Plan) -> None:
        now, patience = time.time(), self._settings["watch"]["patience_hours"] * 3600
        reasons = {
            f"{model}/{name}": reason
            for model, found in plan.on_disk.items()
            for name, reason in found.waiting.items()
        }
        empty = [model for model, found in plan.on_disk.items() if not (found.whole or found.waiting)]
        reasons |= dict.fromkeys(empty, "no directory matches its path yet")
        self._state.wait(reasons, now)
        for name, reason in reasons.items():
            waited = now - self._state.waiting[name]
            since = f" for {duration(waited)}" if waited >= 1 else ""
            warning = "warning: " if waited > patience else ""
            self._say(f"{warning}{name}: waits{since}: {reason}")

    def _run_workflow(self, plan: Plan) -> int:
        """Score, compare and ask the gate; without the checkpoints that fail, if some do."""
        before = lacking(plan.study)
        ended = self._snakemake(plan, "run")
        failed = self._say_what_was_done(plan.study, before)
        if failed:
            plan = plan.without(failed)
            if any(plan.study.checkpoints()) and not lacking(plan.study):
                ended = self._snakemake(plan, "rest")
        verdict = self._verdict(plan.study, ended)
        if verdict is None:
            return WRONG
        for tracker in self._settings["watch"]["publish"]:
            if why := publish(tracker, plan.files, self._watched.log(f"publish-{tracker}")):
                self._fail(f"publish {tracker}: failed: {why}")
            else:
                self._say(f"publish {tracker}: done")
        return verdict

    def _snakemake(self, plan: Plan, what: str) -> Ended:
        if remove_left_lock(self._ownership.run):
            self._say("removed the lock of a run of Snakemake that was killed")
        targets = ["all", "check_alarms"] if _has_gate(plan.study) else ["all"]
        ended = run_snakemake(
            targets, plan.files, self._watched.options, self._watched.log(what), self._ownership
        )
        if ended.found_lock:
            raise DeferredError(
                "another run of Snakemake has locked the files of this study. If there is none, "
                f"run: snakemake --unlock --configfile {' '.join(self._watched.files)}"
            )
        return ended

    def _say_what_was_done(self, study: Study, before: Mapping[Place, Lacking]) -> dict[Place, str]:
        """Print a line for each checkpoint that lacked cells; return those that failed, with the cause."""
        failed: dict[Place, str] = {}
        for checkpoint in study.checkpoints():
            place = checkpoint.model, checkpoint.name
            if place not in before:
                continue
            name, made = "/".join(place), done(study, checkpoint, before[place])
            parts = [f"scored {counted(made.scored, 'cell')}"] if made.scored else []
            parts += [f"copied {counted(made.copied, 'cell')} of the store"] if made.copied else []
            if not made.missing:
                self._state.failed.pop(name, None)
            elif made.cause:
                known = self._state.fail(name, key_of(study, checkpoint), made.cause)
                failed[place] = made.cause
                most = self._settings["watch"]["attempts"]
                parts.append(
                    f"failed {counted(known.attempts, 'time')} (watch.attempts: {most}): {made.cause}"
                )
            else:
                parts.append(f"{counted(made.missing, 'cell')} not reached")
            self._wrong |= made.missing > 0
            self._say(f"{name}: {', '.join(parts)}")
        if unchanged := sum(1 for c in study.checkpoints() if (c.model, c.name) not in before):
            self._say(f"{counted(unchanged, 'checkpoint')} scored before")
        return failed

    def _verdict(self, study: Study, ended: Ended) -> int | None:
        """Print what the gate found and return its status; None if the run failed."""
        if not _has_gate(study):
            if ended.status == 0:
                self._say(f"gate: not asked: {study.lacks(trained=2) or 'nothing is compared'}")
                return GOOD
            self._fail(f"run: failed: {ended.last_words()}")
            return None
        verdicts = list(_VERDICT.finditer(ended.output))
        if not verdicts or int(verdicts[-1]["status"]) != ended.status:
            self._fail(f"run: failed: {ended.last_words()}")
            return None
        reason = verdicts[-1]["reason"]
        self._say(f"gate: {reason}")
        self._wrong |= ended.status == WRONG
        if ended.status == ALARMS:
            self._report(study, reason)
        elif ended.status == GOOD:  # a gate that could not judge says nothing of earlier alarms
            self._state.alarms = []
        return ended.status

    def _report(self, study: Study, verdict: str) -> None:
        failure = report_alarms(study, verdict, self._state, self._watched.log("on_alarm"))
        if failure:
            self._fail(f"on_alarm: failed: {failure}")
        elif failure is not None:
            self._say("on_alarm: done")


def _has_gate(study: Study) -> bool:
    """Whether there is anything to compare, which alarms are made of."""
    return study.has_examples() and not study.lacks(trained=2)
