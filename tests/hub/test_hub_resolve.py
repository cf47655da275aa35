"""Resolving a study into its lock: what is asked of the hub, kept, followed, and left when the hub fails."""

import json
from pathlib import Path
from typing import Any

import pytest

import locks
from ebbtide.checkpoints.hub.catalogue import PRETRAINING, HubModel, Stage
from ebbtide.checkpoints.hub.client import HubFile
from ebbtide.checkpoints.hub.lock import read_lock
from ebbtide.checkpoints.hub.resolve import lock_study
from ebbtide.errors import CheckpointError, ConfigError

NAMES = ("model.safetensors", "config.json", "tokenizer.json", "README.md", "training_args.bin", "code.py")


class StubHub:
    """Branches and their files; counts what it is asked."""

    def __init__(self, *branches: str) -> None:
        self.branches = {name: self.commit(name) for name in branches}
        self.content = {commit: name for name, commit in self.branches.items()}
        self.asked: list[str] = []
        self.fails_after: int | None = None
        self.lost: set[str] = set()  # commits that the hub no longer has
        self.name: str | None = None  # of the repository, if it was renamed

    def commit(self, seed: str) -> str:
        return locks.git(seed).removeprefix("git:")

    def move(self, branch: str, content: str) -> str:
        self.branches[branch] = self.commit(content)
        self.content[self.branches[branch]] = content
        return self.branches[branch]

    def refs(self, repo: str) -> dict[str, str]:
        self._ask("refs")
        return dict(self.branches)

    def files(self, repo: str, commit: str) -> list[HubFile]:
        self._ask(f"files {self.content[commit]}")
        config = locks.git("config")
        digests = {"model.safetensors": locks.sha(self.content[commit]), "config.json": config}
        return [HubFile(n, 10, digests.get(n, locks.git(n)), "2023-01-01") for n in NAMES]

    def read(self, repo: str, commit: str, name: str, file: Any) -> bytes:
        self._ask(f"read {name}")
        return json.dumps(locks.CONFIG).encode()

    def has(self, repo: str, commit: str) -> bool:
        return commit not in self.lost

    def renamed(self, repo: str) -> str | None:
        return self.name

    def _ask(self, what: str) -> None:
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            raise CheckpointError("the hub is down")
        self.asked.append(what)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.lock.json"


def suite(**changes: Any) -> HubModel:
    stage = Stage(PRETRAINING, ("step{step}-{any}", "step{step}"), None)
    return locks.model((), **{"stages": (stage,), "schedule": [1, 8], **changes})


def test_what_is_asked_and_what_is_locked(path: Path) -> None:
    hub = StubHub("main", "step1", "step8", "step16", "step99-8B", "notes")
    assert lock_study([suite()], hub, path) == []  # type: ignore[arg-type]
    # main and the last are there to compare with; the equal configurations are read once.
    assert hub.asked == [
        "refs",
        "files main",
        "read config.json",
        "files step1",
        "files step8",
        "files step99-8B",
    ]
    [model] = read_lock(path).models.values()
    assert list(model.checkpoints) == ["main", "step1", "step8", "step99"]
    assert model.offered == {PRETRAINING: (1, 8, 16, 99)}
    assert set(model.checkpoints["step8"].files) == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "code.py",
    }
    assert model.checkpoints["step99"].revision == "step99-8B"


def test_a_second_time_asks_for_refs_only_and_writes_the_same(path: Path) -> None:
    hub = StubHub("main", "step1", "step8")
    lock_study([suite()], hub, path)  # type: ignore[arg-type]
    before, hub.asked = path.read_bytes(), []
    lock_study([suite()], hub, path)  # type: ignore[arg-type]
    assert (hub.asked, path.read_bytes()) == (["refs"], before)


def test_a_new_step_asks_for_that_step(path: Path) -> None:
    hub = StubHub("main", "step1", "step8", "step16")
    lock_study([suite()], hub, path)  # type: ignore[arg-type]
    hub.asked = []
    lock_study([suite(schedule="all")], hub, path)  # type: ignore[arg-type]
    assert hub.asked == ["refs"]  # step 16 was the last, and locked for comparison
    hub.move("step32", "new")
    lock_study([suite(schedule="all")], hub, path)  # type: ignore[arg-type]
    assert hub.asked == ["refs", "refs", "files new"]


def test_a_moved_branch_is_kept_and_told_and_followed_on_demand(path: Path) -> None:
    hub = StubHub("main", "step1", "step8")
    lock_study([suite()], hub, path)  # type: ignore[arg-type]
    old = read_lock(path).models["tiny"].checkpoints["step8"]
    new = hub.move("step8", "other weights")
    [message] = lock_study([suite()], hub, path)  # type: ignore[arg-type]
    assert message == (
        f"tiny step8: step8 moved from {old.commit[:12]} to {new[:12]}; the lock keeps the old commit. "
        "To follow: ebbtide lock --study FILE --follow tiny/step8"
    )
    kept = read_lock(path).models["tiny"].checkpoints["step8"]
    assert (kept.commit, kept.files, kept.moved) == (old.commit, old.files, new)
    assert lock_study([suite()], hub, path, ["tiny/step8"]) == []  # type: ignore[arg-type]
    followed = read_lock(path).models["tiny"].checkpoints["step8"]
    assert (followed.commit, followed.moved) == (new, None)
    assert followed.files["model.safetensors"].digest == locks.sha("other weights")


def test_main_is_followed_since_nothing_is_scored_from_it(path: Path) -> None:
    hub = StubHub("main", "step1", "step8")
    lock_study([suite()], hub, path)  # type: ignore[arg-type]
    new = hub.move("main", "step16")
    assert lock_study([suite()], hub, path) == []  # type: ignore[arg-type]
    assert read_lock(path).models["tiny"].checkpoints["main"].commit == new


def test_the_old_commit_of_a_moved_branch_may_be_gone_and_following_helps(path: Path) -> None:
    hub = StubHub("main", "step1", "step8")
    lock_study([suite()], hub, path)  # type: ignore[arg-type]
    hub.lost.add(hub.branches["step8"])
    hub.move("step8", "other weights")
    studies = ["base.yaml", "s.yaml"]
    [message] = lock_study([suite()], hub, path, studies=studies)  # type: ignore[arg-type]
    assert message.endswith(
        "; the lock keeps the old commit, which the hub no longer has. "
        "To follow: ebbtide lock --study base.yaml s.yaml --follow tiny/step8"
    )
    assert lock_study([suite()], hub, path, ["tiny/step8"]) == []  # type: ignore[arg-type]


GONE = Stage(PRETRAINING, ("step{step}-{any}", "step{step}"), (1, 8, 9))


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        (False, "which the hub still has. Nothing needs to be done while it does."),
        (
            True,
            "which the hub no longer has. Only weights and cells on disk can be used; to fetch nothing, "
            "leave this step out.",
        ),
    ],
)
def test_a_branch_that_is_gone_stays_locked_and_no_hint_fails(path: Path, lost: bool, says: str) -> None:
    hub = StubHub("main", "step1", "step8", "step9")
    lock_study([suite(stages=(GONE,))], hub, path)  # type: ignore[arg-type]
    commit = hub.branches.pop("step8")
    hub.lost |= {commit} if lost else set()
    [message] = lock_study([suite(stages=(GONE,))], hub, path)  # type: ignore[arg-type]
    start = f"tiny step8: step8 is no longer on the hub; the lock keeps commit {commit[:12]}, "
    assert message == start + says
    kept = read_lock(path)
    assert kept.models["tiny"].checkpoints["step8"].moved == "gone"
    with pytest.raises(
        CheckpointError,
        match=rf"--follow: found tiny/step8, but lab/tiny no longer has the branch or tag 'step8', so there "
        rf"is no other commit to take; the lock keeps {commit[:12]}\. Lock without --follow tiny/step8, or",
    ):
        lock_study([suite(stages=(GONE,))], hub, path, ["tiny/step8"])  # type: ignore[arg-type]
    assert read_lock(path) == kept


def test_a_branch_that_has_another_name_now_can_be_followed(path: Path) -> None:
    hub = StubHub("main", "step1", "step8", "step9")
    lock_study([suite(stages=(GONE,))], hub, path)  # type: ignore[arg-type]
    del hub.branches["step8"]
    new = hub.move("step8-50B", "the same step")
    [message] = lock_study([suite(stages=(GONE,))], hub, path)  # type: ignore[arg-type]
    assert message.endswith(
        "still has. To use step8-50B instead: ebbtide lock --study FILE --follow tiny/step8"
    )
    assert lock_study([suite(stages=(GONE,))], hub, path, ["tiny/step8"]) == []  # type: ignore[arg-type]
    locked = read_lock(path).models["tiny"].checkpoints["step8"]
    assert (locked.revision, locked.commit, locked.moved) == ("step8-50B", new, None)


def test_a_commit_as_revision_never_moves(path: Path) -> None:
    hub = StubHub("main", "step1")
    commit = hub.branches["step1"]
    assert lock_study([suite(fixed=commit)], hub, path) == []  # type: ignore[arg-type]
    del hub.branches["step1"]
    assert lock_study([suite(fixed=commit)], hub, path) == []  # type: ignore[arg-type]
    assert lock_study([suite(fixed=commit)], hub, path, ["tiny/main"]) == []  # type: ignore[arg-type]
    locked = read_lock(path).models["tiny"].checkpoints["main"]
    assert (locked.revision, locked.commit, locked.moved) == (commit, commit, None)


def test_a_renamed_repository_is_told_with_its_new_name(path: Path) -> None:
    hub = StubHub("main", "step1", "step8")
    hub.name = "lab/new"
    [message] = lock_study([suite()], hub, path)  # type: ignore[arg-type]
    assert message == (
        "lab/tiny is now called lab/new; the old name works while the hub redirects it. "
        "Write lab/new in the study or series to be independent of that."
    )


def test_main_that_is_gone_is_told(path: Path) -> None:
    hub = StubHub("main", "step1", "step8")
    lock_study([suite()], hub, path)  # type: ignore[arg-type]
    del hub.branches["main"]
    assert lock_study([suite()], hub, path) == [  # type: ignore[arg-type]
        "tiny: lab/tiny has no branch main any more to compare with."
    ]


def test_following_what_is_not_there(path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"--follow: found tiny/step7; allowed: MODEL/CHECKPOINT of .*s\.lock\.json that this study "
        r"requests; did you mean 'tiny/step8' or",
    ):
        lock_study([suite()], StubHub("step1", "step8"), path, ["tiny/step7"])  # type: ignore[arg-type]


def test_two_names_of_one_step_are_told(path: Path) -> None:
    hub = StubHub("step1", "step8", "step8-50B", "step8-51B")
    [message] = lock_study([suite()], hub, path)  # type: ignore[arg-type]
    assert (
        message
        == "tiny step 8: step8-50B is used instead of step8-51B, step8, because they name the same step."
    )


def test_a_step_that_the_hub_does_not_list(path: Path) -> None:
    with pytest.raises(
        ConfigError, match="found 7, but lab/tiny on the hub has no such step; nearest: 1 and 8"
    ):
        lock_study([suite(schedule=[7])], StubHub("step1", "step8"), path)  # type: ignore[arg-type]


def test_no_revision_fits_the_pattern(path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"no branch or tag of lab/tiny matches 'step\{step\}-\{any\}' or"
    ):
        lock_study([suite()], StubHub("main", "v1"), path)  # type: ignore[arg-type]


def test_a_hub_that_fails_loses_nothing(path: Path) -> None:
    hub = StubHub("main", "step1", "step8")
    hub.fails_after = 4
    with pytest.raises(CheckpointError, match="the hub is down"):
        lock_study([suite()], hub, path)  # type: ignore[arg-type]
    assert list(read_lock(path).models["tiny"].checkpoints) == ["main", "step1"]
    assert not any(w.locked for w in suite().wanted(read_lock(path)) if w.name == "step8")
    hub.fails_after, hub.asked = None, []
    lock_study([suite()], hub, path)  # type: ignore[arg-type]
    assert hub.asked == ["refs", "files step8"]


def test_one_revision_without_steps(path: Path) -> None:
    hub = StubHub("main", "v1")
    lock_study([suite(fixed="v1")], hub, path)  # type: ignore[arg-type]
    [model] = read_lock(path).models.values()
    assert {name: c.revision for name, c in model.checkpoints.items()} == {"main": "v1"}
    with pytest.raises(CheckpointError, match="lab/tiny has no branch or tag 'v2'"):
        lock_study([suite(fixed="v2", name="other")], hub, path)  # type: ignore[arg-type]


def test_a_repository_per_checkpoint(path: Path) -> None:
    hub = StubHub("main")
    stage = Stage(PRETRAINING, (), (50, 240))
    repos = {50: "lab/tiny-50K", 240: "lab/tiny-240K"}
    lock_study([suite(repo="", repos=repos, stages=(stage,), schedule="all")], hub, path)  # type: ignore[arg-type]
    [model] = read_lock(path).models.values()
    assert {name: (c.repo, c.revision) for name, c in model.checkpoints.items()} == {
        "step50": ("lab/tiny-50K", "main"),
        "step240": ("lab/tiny-240K", "main"),
    }


def test_models_that_left_the_study_leave_the_lock(path: Path) -> None:
    hub = StubHub("step1", "step8")
    lock_study([suite()], hub, path)  # type: ignore[arg-type]
    lock_study([suite(name="other")], hub, path)  # type: ignore[arg-type]
    assert set(read_lock(path).models) == {"other"}


def test_what_another_has_written_meanwhile_is_left_as_it_is(path: Path) -> None:
    lock_study([suite(schedule=[1])], StubHub("main", "step1", "step8"), path)  # type: ignore[arg-type]
    before = path.read_text() + " "

    class Slow(StubHub):
        def refs(self, repo: str) -> dict[str, str]:
            path.write_text(before)
            return super().refs(repo)

    hub = Slow("main", "step1", "step8", "step9")
    with pytest.raises(
        CheckpointError, match="was changed by another process and is left as it is; lock again"
    ):
        lock_study([suite(schedule="all")], hub, path)  # type: ignore[arg-type]
    assert path.read_text() == before


def test_a_lock_that_fails_at_once_writes_nothing(path: Path) -> None:
    hub = StubHub()
    hub.fails_after = 0
    with pytest.raises(CheckpointError, match="the hub is down"):
        lock_study([suite()], hub, path)  # type: ignore[arg-type]
    assert not path.exists()


def test_another_revision_of_the_same_name_is_locked_anew(path: Path) -> None:
    hub = StubHub("main", "v2", "step1", "step8", "seed1-step1", "seed1-step8")
    lock_study([suite()], hub, path)  # type: ignore[arg-type]
    seeds = suite(stages=(Stage(PRETRAINING, ("seed1-step{step}",), None),))
    assert [w.locked for w in seeds.wanted(read_lock(path))] == [None, None]
    messages = lock_study([seeds], hub, path)  # type: ignore[arg-type]
    assert messages[0].startswith("tiny step1: was step1 of lab/tiny, but the study now requests seed1-step1")
    locked = [w.locked for w in seeds.wanted(read_lock(path))]
    assert [c.revision for c in locked if c] == ["seed1-step1", "seed1-step8"]


def test_another_fixed_revision_is_locked_anew(path: Path) -> None:
    hub = StubHub("main", "v2", "step1")
    lock_study([suite(fixed="main")], hub, path)  # type: ignore[arg-type]
    assert suite(fixed="main").is_listed(read_lock(path))
    assert not suite(fixed="v2").is_listed(read_lock(path))
    assert not suite().is_listed(read_lock(path))
    lock_study([suite(fixed="v2")], hub, path)  # type: ignore[arg-type]
    assert read_lock(path).models["tiny"].checkpoints["main"].revision == "v2"
