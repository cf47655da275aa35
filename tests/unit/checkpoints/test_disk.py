"""Room for fetched weights: never more than the budget, whoever fetches at the same time."""

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from ebbtide.checkpoints import disk
from ebbtide.checkpoints.disk import (
    ROOM,
    Averaged,
    Budget,
    directory_bytes,
    format_bytes,
    make_room,
    partial_of,
    remove,
)
from ebbtide.errors import CheckpointError

NOW = (0.0,)


def fetched(root: Path, name: str, size: int, age: int = 0) -> Path:
    """A fetched directory of this size; the oldest has the largest age."""
    directory = root / "model" / name / "hub-1"
    directory.mkdir(parents=True)
    (directory / "weights").write_bytes(bytes(size))
    os.utime(directory, (1e9 - age, 1e9 - age))
    return directory


def stale(root: Path, name: str, size: int) -> Path:
    """What a killed fetch has left."""
    directory = root / "model" / name / ".partial-hub-1"
    directory.mkdir(parents=True)
    (directory / ".weights.part").write_bytes(bytes(size))
    (directory / ".room").write_text("1000000")
    return directory


def mine(root: Path) -> Path:
    return partial_of(root / "model/new/hub-1")


@contextmanager
def other_process(partial: Path, need: int, budget: Budget) -> Iterator[None]:
    """A second process that holds room until the block ends."""
    code = (
        "import sys; from pathlib import Path; from ebbtide.checkpoints.disk import *\n"
        f"budget = Budget(Path({str(budget.root)!r}), {budget.size})\n"
        f"with make_room(Path({str(partial)!r}), {need}, budget):\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        try:
            yield
        finally:
            process.kill()


def test_nothing_is_removed_while_there_is_room(tmp_path: Path) -> None:
    old, half = fetched(tmp_path, "a", 40), stale(tmp_path, "b", 20)
    with make_room(mine(tmp_path), 33, Budget(tmp_path, 100)):  # 7 bytes of `.room` count too
        assert old.exists()
        assert half.exists()


def test_as_much_as_needed_goes_the_oldest_first(tmp_path: Path) -> None:
    new, old, middle = (fetched(tmp_path, n, 30, age) for n, age in [("a", 1), ("b", 3), ("c", 2)])
    with make_room(mine(tmp_path), 30, Budget(tmp_path, 100)):
        assert [d.exists() for d in (new, old, middle)] == [True, False, True]
    with make_room(mine(tmp_path), 60, Budget(tmp_path, 100)):
        assert [d.exists() for d in (new, old, middle)] == [True, False, False]
    assert not list(tmp_path.glob("*/*/.removed*"))


def test_what_nobody_fills_goes_before_what_is_whole(tmp_path: Path) -> None:
    whole, half = fetched(tmp_path, "a", 40), stale(tmp_path, "b", 40)
    with make_room(mine(tmp_path), 50, Budget(tmp_path, 100)):
        assert whole.exists()
        assert not half.exists()


def test_what_is_needed_stays(tmp_path: Path) -> None:
    whole = fetched(tmp_path, "a", 60)
    with (
        pytest.raises(
            CheckpointError,
            match=r"hub-1 needs 50 bytes, but 60 bytes are in use .*weights\.disk_gb is 100 bytes",
        ),
        make_room(mine(tmp_path), 50, Budget(tmp_path, 100, {whole}.__contains__, waits=NOW)),
    ):
        pass
    assert whole.exists()


def test_two_that_wait_do_not_wait_for_each_others_leftovers(tmp_path: Path) -> None:
    """Both were killed half way, and neither can be whole beside the other's half."""
    theirs = stale(tmp_path, "b", 80)
    (theirs / ROOM).write_text("")
    with (theirs / ROOM).open("r+") as room:
        fcntl.flock(room, fcntl.LOCK_EX)  # a living process, without a reservation
        with make_room(mine(tmp_path), 90, Budget(tmp_path, 100, waits=())):
            assert [path.name for path in theirs.iterdir()] == [ROOM]


def test_nobody_waits_for_a_run_that_is_over(tmp_path: Path) -> None:
    whole = fetched(tmp_path, "a", 60)

    def over() -> None:
        raise CheckpointError("the run has ended")

    with (
        pytest.raises(CheckpointError, match="the run has ended"),
        make_room(mine(tmp_path), 50, Budget(tmp_path, 100, {whole}.__contains__, check=over)),
    ):
        pass


def test_nothing_is_removed_in_vain(tmp_path: Path) -> None:
    kept, other = fetched(tmp_path, "a", 60), fetched(tmp_path, "b", 30)
    with (
        pytest.raises(CheckpointError, match="needs 50 bytes"),
        make_room(mine(tmp_path), 50, Budget(tmp_path, 100, {kept}.__contains__, waits=())),
    ):
        pass
    assert other.exists()


def test_more_than_the_budget_is_an_error_at_once(tmp_path: Path) -> None:
    endless = Budget(tmp_path, 100, waits=(3600.0,))
    with (
        pytest.raises(CheckpointError, match=r"needs 101 bytes, but 0 bytes are in use \(nothing\)"),
        make_room(mine(tmp_path), 101, endless),
    ):
        pass


def test_it_waits_for_what_others_remove(tmp_path: Path) -> None:
    kept = fetched(tmp_path, "a", 60)
    budget = Budget(tmp_path, 100, {kept}.__contains__, waits=(0.05,) * 200)
    timer = threading.Timer(0.2, (kept / "weights").unlink)
    timer.start()
    with make_room(mine(tmp_path), 50, budget):
        assert not (kept / "weights").exists()
    timer.join()


def test_what_was_needed_a_moment_ago_is_left_to_snakemake(tmp_path: Path) -> None:
    spare, needed, attempts = fetched(tmp_path, "a", 60), [True], []

    def needs(path: Path) -> bool:
        attempts.append(spare.exists())
        return needed[0]

    def waits() -> Iterator[float]:
        yield 0.0
        needed[0] = False  # its last cell exists: Snakemake may be removing it now
        yield from (0.02,) * 1000

    with make_room(mine(tmp_path), 50, Budget(tmp_path, 100, needs, waits=waits(), settle=0.2)):
        assert not spare.exists()
    assert all(attempts) and len(attempts) > 4


def test_what_a_living_process_will_hold_counts_and_what_a_dead_one_holds(tmp_path: Path) -> None:
    theirs, budget = partial_of(tmp_path / "model/theirs/hub-1"), Budget(tmp_path, 100, waits=())
    with other_process(theirs, 60, budget):
        (theirs / "weights").write_bytes(bytes(10))
        with (
            pytest.raises(CheckpointError, match=r"needs 50 bytes, but 60 bytes are in use"),
            make_room(mine(tmp_path), 50, budget),
        ):
            pass
        with make_room(mine(tmp_path), 40, budget):
            pass
        assert theirs.exists()
    with make_room(mine(tmp_path), 50, budget):  # it was killed
        assert (theirs / "weights").exists()
    with make_room(mine(tmp_path), 95, budget):
        assert not theirs.exists()


def test_an_average_counts_as_soon_as_the_last_of_its_parents_has_its_space(tmp_path: Path) -> None:
    one, average = fetched(tmp_path, "a", 30), tmp_path / "mean/a/averaged-1"
    new = mine(tmp_path).with_name("hub-1")
    needed = {one, average}
    last = Budget(tmp_path, 100, needed.__contains__, waits=(), averages={average: Averaged(40, [one, new])})
    with make_room(mine(tmp_path), 30, last):
        pass
    with pytest.raises(CheckpointError, match="but 70 bytes are in use"), make_room(mine(tmp_path), 31, last):
        pass
    other = Averaged(40, [one, tmp_path / "model/later/hub-1"])  # which has none yet
    with make_room(mine(tmp_path), 70, replace(last, averages={average: other})):
        pass
    stale(tmp_path, "later", 0)
    with make_room(mine(tmp_path), 70, replace(last, averages={average: other})):
        pass


def test_an_average_on_disk_counts_and_goes_when_it_is_scored(tmp_path: Path) -> None:
    average = tmp_path / "mean/a/averaged-1"
    average.mkdir(parents=True)
    (average / "weights").write_bytes(bytes(60))
    needed = {average}
    budget = Budget(tmp_path, 100, needed.__contains__, waits=(), averages={average: Averaged(50, [])})
    with (
        pytest.raises(CheckpointError, match="but 60 bytes are in use"),
        make_room(mine(tmp_path), 50, budget),
    ):
        pass
    needed.clear()
    with make_room(mine(tmp_path), 50, budget):
        assert not average.exists()


def test_space_is_reserved_in_order(tmp_path: Path) -> None:
    """Else the later ones fill the space in which an average of the earlier ones is made."""
    first = tmp_path / "model/first/hub-1"
    needed, failed = {first}, set[Path]()
    budget = Budget(
        tmp_path, 100, needed.__contains__, waits=NOW, earlier=[first], failed=failed.__contains__
    )
    waits = pytest.raises(CheckpointError, match="needs 10 bytes")
    with waits, make_room(mine(tmp_path), 10, budget):
        pass
    stale(tmp_path, "first", 10)  # what a killed run has left is no reservation
    with waits, make_room(mine(tmp_path), 10, budget):
        pass
    with other_process(partial_of(first), 20, Budget(tmp_path, 100)), make_room(mine(tmp_path), 10, budget):
        pass
    failed.add(first)
    with make_room(mine(tmp_path), 10, budget):
        pass
    failed.clear()
    needed.clear()  # all is scored and made, and it is removed already
    with make_room(mine(tmp_path), 10, budget):
        pass
    needed.add(first)
    fetched(tmp_path, "first", 10)
    with make_room(mine(tmp_path), 10, budget):
        pass


def test_one_directory_is_filled_by_one_process(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("ebbtide.checkpoints.disk._PAUSE", 0.001)
    monkeypatch.setattr("ebbtide.checkpoints.disk._TRIES", 200)
    with (
        other_process(mine(tmp_path), 10, Budget(tmp_path, 100)),
        pytest.raises(CheckpointError, match=r"\.partial-hub-1 is being filled by another process"),
        make_room(mine(tmp_path), 10),
    ):
        pass
    with make_room(mine(tmp_path), 10):
        pass


def test_a_directory_that_is_removed_while_it_is_claimed_is_made_anew(tmp_path: Path, monkeypatch) -> None:
    partial, lock = mine(tmp_path), disk._try_lock
    meanwhile = [remove]

    def late(file: IO[str]) -> bool:
        if meanwhile:
            meanwhile.pop()(partial)
        return lock(file)

    monkeypatch.setattr(disk, "_try_lock", late)
    with make_room(partial, 10, Budget(tmp_path, 100)):
        assert (partial / ".room").read_text() == "10"


WORKER = """
import sys
from contextlib import suppress
from pathlib import Path
from ebbtide.checkpoints.disk import ROOM, Budget, directory_bytes, make_room, partial_of, remove
root, name = Path(sys.argv[1]), sys.argv[2]
budget = Budget(root, 100, waits=(0.002,) * 20000, settle=0.0)
for turn in range(25):
    to = root / "model" / f"{name}{turn}" / "hub-1"
    partial = partial_of(to)
    with make_room(partial, 60, budget):
        for place in range(6):  # what the other holds and what is reserved here never pass the budget
            (partial / f"weights{place}").write_bytes(bytes(9))
            whole = sum(directory_bytes(p) for p in root.glob("*/*/hub-*"))
            partials = sum(directory_bytes(p) for p in root.glob("*/*/.partial-hub-*"))
            print(whole + partials)
        partial.rename(to)
    if turn % 2:  # as Snakemake does; else the other process removes it for its own
        with suppress(FileNotFoundError):
            remove(to)
"""


def test_two_processes_never_pass_the_budget_together(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), name], stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    for worker in workers:
        output, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0
        sizes = list(map(int, output.split()))
        assert len(sizes) == 150
        assert max(sizes) <= 100
    assert directory_bytes(tmp_path) > 0


def test_conversions_count_and_go_as_fetched_weights_do(tmp_path: Path) -> None:
    old, needed = (fetched(tmp_path, name, 40) for name in ("a", "b"))
    old, needed = (one.rename(one.with_name("converted-1")) for one in (old, needed))
    half = stale(tmp_path, "c", 10)
    half = half.rename(half.with_name(".partial-converted-1"))
    budget = Budget(tmp_path, 100, {needed}.__contains__, waits=())
    with make_room(mine(tmp_path), 50, budget):
        assert [one.exists() for one in (old, needed, half)] == [False, True, False]
    with (
        pytest.raises(CheckpointError, match=r"but 40 bytes are in use .*converted-1 40 bytes"),
        make_room(partial_of(tmp_path / "model/d/converted-1"), 70, budget),
    ):
        pass


def test_a_budget_spares_what_a_run_without_one_is_making(tmp_path: Path) -> None:
    partial = partial_of(tmp_path / "model/a/converted-1")
    code = (
        "import sys; from pathlib import Path; from ebbtide.checkpoints.disk import *\n"
        f"with make_room(Path({str(partial)!r}), 60):\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        (partial / "weights").write_bytes(bytes(30))
        with (
            pytest.raises(CheckpointError, match=r"but 60 bytes are in use"),
            make_room(mine(tmp_path), 50, Budget(tmp_path, 100, waits=NOW)),
        ):
            pass
        assert (partial / "weights").exists()
        process.kill()


def test_links_below_the_root_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_bytes(bytes(90))
    root = tmp_path / "root"
    (root / "model/a").mkdir(parents=True)
    (root / "model/a/hub-1").symlink_to(outside)
    partial = mine(root)
    partial.parent.mkdir(parents=True)
    partial.symlink_to(outside)
    with make_room(partial, 100, Budget(root, 100)):
        assert not partial.is_symlink()
        assert sorted(p.name for p in partial.iterdir()) == [".room"]
    assert [p.name for p in outside.iterdir()] == ["mine"]


def test_a_lock_file_that_is_a_link_is_replaced(tmp_path: Path) -> None:
    partial = mine(tmp_path)
    partial.mkdir(parents=True)
    (tmp_path / "mine").write_text("untouched")
    (partial / ".room").symlink_to(tmp_path / "mine")
    with make_room(partial, 10):
        assert not (partial / ".room").is_symlink()
    assert (tmp_path / "mine").read_text() == "untouched"


def test_a_removal_that_was_killed_is_finished(tmp_path: Path) -> None:
    half = fetched(tmp_path, "a", 90)
    half.rename(half.with_name(".removed-hub-1"))
    with make_room(mine(tmp_path), 100, Budget(tmp_path, 100)):
        assert not list((tmp_path / "model/a").iterdir())


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2_340_000, "2.3 MB"), (10**12, "1000.0 GB")],
)
def test_amounts_are_readable(size: int, text: str) -> None:
    assert format_bytes(size) == text
