"""Weights pass through the disk within a budget: what stays, what goes, and whether it can."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import locks
from ebbtide.cells.store import path_of
from ebbtide.checkpoints.average import AveragedModel
from ebbtide.checkpoints.directory import directory_of
from ebbtide.checkpoints.formats.record import CONVERTED, STAMPS
from ebbtide.checkpoints.hub.fetched import fetch_directory
from ebbtide.checkpoints.hub.lock import RECORD
from ebbtide.checkpoints.record import stamp
from ebbtide.errors import ConfigError
from ebbtide.grid import CHECKPOINTS, Checkpoint, Model
from ebbtide.jobs.snakemake_internals import FailedJob
from ebbtide.jobs.weight_budget import GB, WeightBudget
from ebbtide.jobs.weight_plan import budget_of, failed_mark_of
from ebbtide.study.study import Study
from ebbtide.tasks.kinds import KINDS

SIZE = 10


def study(
    sizes: list[int], disk: float | None, keep: Any = "none", last: int = 0, kind: str = "hub"
) -> Study:
    """A study of one model of the hub with checkpoints of these sizes in bytes; no cell is scored.

    With `last`, it has the averages of so many checkpoints. `kind` may be `converted`.
    """
    checkpoints = tuple(
        Checkpoint(
            "tiny",
            f"step{n}",
            n,
            n,
            f"{kind}:{n}",
            "hub:t",
            f"r/tiny/step{n}/{kind}-{n}",
            size,
            "float32",
            size,
        )
        for n, size in enumerate(sizes)
    )
    models = {"tiny": Model("tiny", checkpoints)}
    if last:
        row = AveragedModel("tiny-mean", models["tiny"], last, (), "uniform", "study.yaml: average")
        models["tiny-mean"] = row.model(checkpoints)
    config = {
        "weights": {"keep": keep, "disk_gb": None if disk is None else disk / GB, "parallel_downloads": 2},
        "scoring": {
            **dict.fromkeys(("dtype", "encoding", "bos", "truncation", "max_length")),
            "backend": "auto",
            "generation_backend": "same",
            "store": "cells",
        },
        "recompute": True,  # every cell is missing
    }
    return Study(
        "s",
        config,
        models,
        {"t": SimpleNamespace(identity="t", frozen="t.frozen", kind=KINDS["choice"])},
        hub=(locks.model(range(9)),),
    )  # type: ignore[dict-item]


def test_a_budget_below_one_checkpoint_is_an_error_before_anything_runs() -> None:
    with pytest.raises(
        ConfigError,
        match=r"weights\.disk_gb: .*tiny/step1 needs .* in addition to 0 GB of kept weights; increase it\.",
    ):
        WeightBudget(study([5, 50], 20)).check()
    WeightBudget(study([5, 50], 50)).check()
    WeightBudget(study([5, 50], None)).check()


def test_what_stays_counts_for_good() -> None:
    with pytest.raises(ConfigError, match="keep fewer weights"):
        WeightBudget(study([SIZE] * 4, 3 * SIZE, "all")).check()
    WeightBudget(study([SIZE] * 4, 4 * SIZE, "all")).check()
    with pytest.raises(ConfigError, match="keep fewer weights"):
        WeightBudget(study([SIZE] * 4, 2 * SIZE, 2)).check()
    WeightBudget(study([SIZE] * 4, 3 * SIZE, 2)).check()


def test_what_is_kept_is_the_end_of_training() -> None:
    budget = WeightBudget(study([SIZE] * 4, None, 2))
    assert budget.missing_directories(kept=True) == ["hub-2", "hub-3"]
    assert budget.missing_directories(kept=False) == ["hub-0", "hub-1"]


def test_the_plan_names_the_cells_that_wait_for_each_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = study([SIZE] * 3, 100, 1)
    Path("r/tiny/step0/hub-0").mkdir(parents=True)
    Path("r/tiny/step0/hub-0/fetched.json").touch()
    plan = WeightBudget(planned).plan()
    assert (plan["budget_bytes"], plan["pid"]) == (100, os.getpid())
    assert plan["stay"] == ["r/tiny/step2/hub-2"]
    key = path_of("cells", planned.identity(next(planned.checkpoints()), "t"))
    assert plan["wanted"]["r/tiny/step0/hub-0"] == [
        ["results/scores/tiny/step0/t.parquet", str(key), "t.frozen"]
    ]
    assert len(plan["wanted"]) == 3
    scored = replace(planned, config={**planned.config, "recompute": False}, tasks={})
    assert WeightBudget(scored).plan()["wanted"] == {}
    assert WeightBudget(scored).unneeded() == [Path("r/tiny/step0/hub-0")]
    assert WeightBudget(planned).unneeded() == []  # its cells wait for it


def test_what_a_removal_has_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("step0/hub-0", "step1/hub-1"):
        Path("r/tiny", name).mkdir(parents=True)
        Path("r/tiny", name, "model.safetensors").touch()
    Path("r/tiny/step1/hub-1/fetched.json").touch()
    budget = WeightBudget(study([SIZE] * 2, None))
    assert budget.missing_directories(kept=False) == ["hub-0.beside2"]
    budget.clean_up()
    assert [path.name for path in Path("r").rglob("hub-*")] == ["hub-1"]
    assert WeightBudget(study([SIZE] * 2, None)).missing_directories(kept=False) == ["hub-0"]


def test_weights_fetched_beside_a_leftover_get_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    leftover = Path("r/tiny/step0/hub-0")
    assert fetch_directory(str(leftover)) == str(leftover)
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").touch()
    place = fetch_directory(str(leftover))
    assert place != str(leftover) and leftover.exists()  # planning deletes nothing
    Path(place).mkdir()
    (Path(place) / "fetched.json").touch()
    assert fetch_directory(str(leftover)) == place  # the same for every job of the run

    planned = study([SIZE], None, "all")
    budget = WeightBudget(planned)
    assert budget.directory(str(leftover)) == place
    assert budget.missing_directories(kept=True) == []
    assert directory_of(leftover) == Path(place)  # where a job that was planned with the marker looks
    budget.clean_up()
    assert [path.name for path in Path("r").rglob("hub-*")] == ["hub-0"]
    assert fetch_directory(str(leftover)) == str(leftover)


def converted(checkpoint: Checkpoint, source: Path) -> Path:
    """The conversion of a file."""
    source.write_text("weights")
    directory = Path(checkpoint.marker)
    directory.mkdir(parents=True, exist_ok=True)
    record = {"weights": "1", "files": {"model.safetensors": "0"}, STAMPS: {str(source): stamp(source)}}
    (directory / "checkpoint.json").write_text(json.dumps(record))
    return directory


def test_conversions_pass_through_the_disk_as_fetched_weights_do(place: Path) -> None:
    made = study([SIZE] * 4, 2 * SIZE, 1, kind=CONVERTED)
    budget = WeightBudget(made)
    budget.check()
    assert budget.plan()["stay"] == ["r/tiny/step3/converted-3"]
    assert budget.missing_directories(kept=True) == budget.missing_directories(kept=False) == []
    assert set(budget.plan()["wanted"]) == {f"r/tiny/step{n}/converted-{n}" for n in range(4)}
    with pytest.raises(ConfigError, match="keep fewer weights"):
        WeightBudget(study([SIZE] * 4, 2 * SIZE, 2, kind=CONVERTED)).check()


def test_a_conversion_is_removed_only_if_its_source_can_be_converted_again(place: Path) -> None:
    made = study([SIZE] * 4, None, "none", kind=CONVERTED)
    first, changed, gone, early = made.checkpoints()
    places = [converted(c, Path(f"{c.name}.pt")) for c in (first, changed, gone, early)]
    Path("step1.pt").write_text("other weights")
    Path("step2.pt").unlink()
    record = json.loads((places[3] / "checkpoint.json").read_text())
    del record[STAMPS]  # of an earlier version
    (places[3] / "checkpoint.json").write_text(json.dumps(record))
    assert WeightBudget(made).unneeded() == []  # cells wait for them
    scored = WeightBudget(replace(made, config={**made.config, "recompute": False}, tasks={}))
    assert scored.unneeded() == [places[0]]
    Path("step0.pt").rename("aside.pt")  # deleted while the run lasts
    scored.clean_up()
    assert all(place.exists() for place in places)
    Path("aside.pt").rename("step0.pt")
    places[0] = converted(replace(first, marker=first.marker), Path("step0.pt"))
    scored.clean_up()
    assert [place.exists() for place in places] == [False, True, True, True]
    plan = {**WeightBudget(made).plan(), "budget_bytes": 100}
    Path("plan.json").write_text(json.dumps(plan))
    other = converted(replace(first, marker="r/other/step0/converted-9"), Path("other.pt"))
    needs = budget_of("plan.json", Path(first.marker)).needs
    assert not needs(other)
    Path("other.pt").unlink()
    assert needs(other)  # also that of another study


def test_conversions_of_others_that_must_stay_take_space_of_the_budget(place: Path) -> None:
    made = study([GB // 1000], GB // 900, kind=CONVERTED)
    of_another = replace(next(made.checkpoints()), marker=f"{CHECKPOINTS}/other/step0/converted-9")
    directory = converted(of_another, Path("other.pt"))
    (directory / "model.safetensors").write_bytes(bytes(GB // 1000))
    WeightBudget(made).check()
    Path("other.pt").unlink()
    with pytest.raises(ConfigError, match=r"0\.001 GB of conversions whose sources are gone .*converted-9\)"):
        WeightBudget(made).check()


def test_averages_of_conversions_pass_as_those_of_fetched_weights_do(place: Path) -> None:
    planned = study([BIG] * 6, 4 * BIG + RECORD, last=3, kind=CONVERTED)
    WeightBudget(planned).check()
    with pytest.raises(ConfigError, match=r"weights\.disk_gb: found "):
        WeightBudget(study([BIG] * 6, 4 * BIG, last=3, kind=CONVERTED)).check()
    averages = planned.models["tiny-mean"].checkpoints
    assert WeightBudget(planned).unmade_averages(kept=False) == [Path(c.marker).name for c in averages]


# Averages.

BIG = 100_000


def fetched(checkpoint: Checkpoint) -> None:
    Path(checkpoint.marker).mkdir(parents=True)
    (Path(checkpoint.marker) / "fetched.json").touch()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("sizes", "last", "keep", "needed"),
    [
        ([BIG] * 6, 3, "none", 4 * BIG + RECORD),
        ([BIG] * 6, 1, "none", 2 * BIG + RECORD),
        (
            [BIG, 9 * BIG, BIG, BIG, BIG],
            2,
            "none",
            19 * BIG + RECORD,
        ),  # the second, the first and their average
        ([BIG] * 4, 3, "all", 4 * BIG + 2 * (BIG + RECORD)),
        ([BIG] * 4, 3, 1, 4 * BIG + RECORD),
        ([BIG] * 4, 3, 2, 4 * BIG + 2 * (BIG + RECORD) - BIG),
    ],
)
def test_a_budget_holds_the_parents_of_an_average_and_itself(
    place: Path, sizes: list[int], last: int, keep: Any, needed: int
) -> None:
    WeightBudget(study(sizes, needed, keep, last)).check()
    with pytest.raises(ConfigError, match=r"weights\.disk_gb: found "):
        WeightBudget(study(sizes, needed - 1, keep, last)).check()


def test_a_budget_that_is_too_small_for_averages_is_said_with_what_they_need(place: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        WeightBudget(study([GB] * 4, 3 * GB, last=3)).check()
    assert str(refused.value) == (
        "ConfigError: weights.disk_gb: found 3.0, but tiny/step2 needs 1 GB in addition to 0 GB of kept "
        "weights and 3 GB of averages and their checkpoints; increase it, or average fewer checkpoints."
    )


def test_parents_that_are_on_disk_before_their_turn_count(place: Path) -> None:
    """As after a study has changed; removing them would break the jobs that were planned with them."""
    planned = study([BIG] * 5, 3 * BIG + RECORD, last=2)
    WeightBudget(planned).check()
    fetched(planned.checkpoint("tiny", "step4"))
    with pytest.raises(ConfigError, match="average fewer checkpoints"):
        WeightBudget(planned).check()


def test_scored_averages_need_nothing(place: Path) -> None:
    planned = study([BIG] * 4, 2 * BIG, last=3)
    scored = replace(planned, config={**planned.config, "recompute": False}, tasks={})
    WeightBudget(scored).check()
    [first, _] = planned.models["tiny-mean"].checkpoints
    Path(first.marker).mkdir(parents=True)
    fetched(planned.checkpoint("tiny", "step0"))
    assert WeightBudget(planned).unneeded() == []
    unneeded = WeightBudget(scored).unneeded()
    assert unneeded == [Path(planned.checkpoint("tiny", "step0").marker), Path(first.marker)]


def test_averages_are_kept_as_the_checkpoints_are(place: Path) -> None:
    budget = WeightBudget(study([SIZE] * 4, None, 1, last=3))
    names = [Path(c.marker).name for c in study([SIZE] * 4, None, last=3).models["tiny-mean"].checkpoints]
    assert budget.unmade_averages(kept=True) == names[1:]
    assert budget.unmade_averages(kept=False) == names[:1]


def test_the_plan_has_the_averages_of_the_run_and_the_order_of_its_fetches(place: Path) -> None:
    planned = study([SIZE] * 4, 100, last=2)
    averages = planned.models["tiny-mean"].checkpoints
    jobs = {("tiny", name) for name in ("step2", "step1")} | {("tiny-mean", averages[1].name)}
    plan = WeightBudget(planned).plan(jobs)
    assert plan["order"] == ["r/tiny/step1/hub-1", "r/tiny/step2/hub-2"]
    assert plan["averages"] == {
        averages[1].marker: {"bytes": SIZE + RECORD, "parents": ["r/tiny/step1/hub-1", "r/tiny/step2/hub-2"]}
    }
    assert [cell[0] for cell in plan["wanted"][averages[1].marker]] == [
        f"results/scores/tiny-mean/{averages[1].name}/t.parquet"
    ]
    assert WeightBudget(planned).plan({("tiny", "step1")})["order"] == []  # nothing waits for another


def test_fetches_start_in_the_order_of_training() -> None:
    budget = WeightBudget(study([SIZE] * 3, None))
    first, second, third = (budget.priority("tiny", f"step{step}") for step in range(3))
    assert 2 >= first > second > third > 1


def test_a_failure_is_marked_until_the_end_of_a_run(place: Path) -> None:
    planned = study([SIZE] * 2, None, last=2)
    weights, average = (
        planned.checkpoint("tiny", "step0").marker,
        planned.models["tiny-mean"].checkpoints[0].marker,
    )
    budget = WeightBudget(planned)
    for output in (weights, average):
        Path(output).parent.mkdir(parents=True)
        budget.note_failure(FailedJob([output], []))
        assert failed_mark_of(Path(output)).exists()
    budget.note_failure(FailedJob(["results/metrics.parquet"], []))
    budget.clean_up()
    assert not list(Path("r").rglob(".*"))
