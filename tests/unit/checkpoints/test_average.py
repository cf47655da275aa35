"""Averages of checkpoints: what they are called, what is refused, and the bits of their weights."""

import json
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import locks
import tiny
from ebbtide.checkpoints import average_weights
from ebbtide.checkpoints.average import AVERAGED, AveragedModel, average_identity, average_spec, shares
from ebbtide.checkpoints.average_weights import average_to_directory, write_average
from ebbtide.checkpoints.hub.lock import write_lock
from ebbtide.checkpoints.model_series import series_by_model
from ebbtide.checkpoints.verification import check_before_loading, check_weights
from ebbtide.checkpoints.weight_files import INDEX, WHOLE
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.files import file_sha256
from ebbtide.grid import Checkpoint, Model
from ebbtide.jobs.leads import check_deleted_weights
from ebbtide.scoring.weights import Weights
from ebbtide.study.arms import runs_of
from ebbtide.study.checks import check_checkpoints, find_baselines
from ebbtide.study.load import load_study, read_study
from ebbtide.study.notices import study_notices
from ebbtide.study.study import Study
from workspace import SMALL_SERIES

STEPS = [10, 20, 30, 40]
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def ladder_study(directory: Path, average: dict[str, Any], **row: Any) -> Study:
    """A study of the small ladder in the working directory, with averages."""
    (directory / "series.yaml").write_text(yaml.safe_dump(SMALL_SERIES, sort_keys=False))
    rows = [{"series": "series.yaml", "average": average, **row}]
    return study_of(directory, rows)


def study_of(directory: Path, rows: list[dict[str, Any]], **sections: Any) -> Study:
    toy = {"toy": "fact_qa", "world": SMALL_SERIES["corpus"]["world"], "examples": 8, "seed": 0}
    (directory / "toy.yaml").write_text(yaml.safe_dump({"title": "Toy", "source": toy}))
    study = {"study": "s", "models": rows, "tasks": ["toy.yaml"], **sections}
    (directory / "study.yaml").write_text(yaml.safe_dump(study))
    return read_study(directory / "study.yaml")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_of(place: Path, scales: list[float], family: str = "gpt_neox", dtype: str = "F32") -> list[Path]:
    """Directories `run/step10`, `run/step20`, …: one model, its weights times each scale."""
    made = [tiny.checkpoint(place / f"run/step{10 * i}", family, scale=s) for i, s in enumerate(scales, 1)]
    for directory in made:
        edit(directory, lambda tensors: {name: t.to(DTYPES[dtype]) for name, t in tensors.items()})
    return made


def edit(directory: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    save_file(change(load_file(directory / WHOLE)), directory / WHOLE, metadata={"format": "pt"})


ROW: dict[str, Any] = {"name": "run", "path": "run/step{step}", "steps": "all", "tokens_per_step": 100}


def average_of(parents: list[Path], folder: Path, weights: str = "uniform") -> dict[str, Any]:
    folder.mkdir()
    write_average(parents, shares(weights, len(parents)), folder)
    return load_file(folder / WHOLE)


# Planning.


def test_every_checkpoint_with_enough_before_it_has_an_average(place: Path) -> None:
    study = ladder_study(place, {"last": 3}, sizes=["small-d8"])
    found = study.models["small-d8-mean3"].checkpoints
    assert [c.name for c in found] == ["step64-mean3", "step256-mean3"]
    assert [[p.step for p in c.parents] for c in found] == [[0, 16, 64], [16, 64, 256]]
    newest = study.checkpoint("small-d8", "step256")
    assert (found[1].step, found[1].tokens, found[1].dtype) == (newest.step, newest.tokens, newest.dtype)
    assert study.averaged() == {"small-d8-mean3": "small-d8"}
    assert any("small-d8-mean3" in n.detail and "no regression" in n.detail for n in study_notices(study))


def test_listed_steps_make_one_average(place: Path) -> None:
    study = ladder_study(place, {"steps": [256, 16], "weights": "linear"}, sizes=["small-d8"])
    [found] = study.models["small-d8-linear2"].checkpoints
    assert found.name == "step256-linear2"
    assert [(p.step, s) for p, s in zip(found.parents, found.shares, strict=True)] == [(16, 1), (256, 2)]


def test_the_identity_follows_the_parents_and_their_weights(place: Path) -> None:
    first = ladder_study(place, {"last": 2}).models["small-d8-mean2"].checkpoints
    assert len({c.weights for c in first}) == 3
    assert first == ladder_study(place, {"last": 2}).models["small-d8-mean2"].checkpoints
    linear = ladder_study(place, {"last": 2, "weights": "linear"}).models["small-d8-linear2"].checkpoints
    assert not {c.weights for c in first} & {c.weights for c in linear}
    for c in first:
        kind, _, identity = c.weights.partition(":")
        assert kind == AVERAGED
        assert Path(c.marker).name == f"averaged-{identity}"
    assert average_identity(["a"], [1], "x") != average_identity(["a"], [1], "y")
    assert average_identity(["a", "b"], [1, 1], "x") != average_identity(["b", "a"], [1, 1], "x")


def test_the_shares() -> None:
    assert shares("uniform", 3) == (1, 1, 1)
    assert shares("linear", 3) == (1, 2, 3)
    assert shares("exponential", 4) == (1, 2, 4, 8)


def test_a_job_for_the_averages_alone_finds_them(place: Path) -> None:
    run_of(place, [1, 2, 3])
    whole = study_of(place, [{**ROW, "average": {"last": 2}}])
    config = yaml.safe_load((place / "study.yaml").read_text())
    own = load_study(config, ["study.yaml"], only={"run-mean2"})
    assert own.models == {"run-mean2": whole.models["run-mean2"]}


def test_averages_have_the_baseline_of_their_model(place: Path) -> None:
    study = ladder_study(place, {"last": 3}, sizes=["small-d8"])
    baseline = study.checkpoint("small-d8", "step16")  # no average is at this step
    found = find_baselines(study.models, 16, "f", study.averaged())
    assert found == {"small-d8": baseline, "small-d8-mean3": baseline}


def test_averages_are_no_further_runs_of_an_arm(place: Path) -> None:
    study = ladder_study(place, {"last": 3})
    assert [run.model for run in runs_of(study.models.values())] == ["small-d8", "small-d16"]


def test_averages_are_a_series_of_their_own(place: Path) -> None:
    study = ladder_study(place, {"last": 2}, sizes=["small-d8"])
    assert series_by_model(study.config["models"]) == {
        "small-d8": "series",
        "small-d8-mean2": "series-mean2",
    }


@pytest.mark.parametrize(
    ("average", "message"),
    [
        ({}, "models[0].average: found neither last nor steps; allowed: one of them."),
        ({"last": 2, "steps": [16]}, "models[0].average: found both last and steps; allowed: one of them."),
        (
            {"last": 5},
            "models[0].average.last: found 5, but small-d8 has 4 checkpoints in this study; allowed: 1 to 4.",
        ),
        (
            {"steps": [16, 100]},
            "models[0].average.steps: found 100, but small-d8 in this study has no such step; nearest: 16 "
            "and 64",
        ),
    ],
)
def test_what_cannot_be_averaged_is_refused_before_anything_runs(
    place: Path, average: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        ladder_study(place, average)
    assert message in str(refused.value)


# Fetched models.

FETCHED = {"name": "tiny", "repo": "lab/tiny", "revision": "step{step}", "steps": "all"}


def fetched_study(place: Path, average: dict[str, Any], steps: tuple[int, ...] = (1, 2, 3)) -> Study:
    lock = locks.lock({step: locks.files(f"weights {step}") for step in steps})
    write_lock(lock, place / "study.lock.json")
    return study_of(place, [{**FETCHED, "average": average}])


def test_the_identity_of_an_average_of_fetched_checkpoints_is_known_from_the_lock(place: Path) -> None:
    study = fetched_study(place, {"last": 2})
    found = study.models["tiny-mean2"].checkpoints
    assert [[p.name for p in c.parents] for c in found] == [["step1", "step2"], ["step2", "step3"]]
    assert found[0].weights.removeprefix("averaged:") == average_identity(
        [study.checkpoint("tiny", name).weights for name in ("step1", "step2")], [1, 1], found[0].tokenizer
    )
    changed = locks.lock({step: locks.files(f"weights {step}" + "!" * (step == 3)) for step in (1, 2, 3)})
    write_lock(changed, place / "study.lock.json")
    again = read_study(place / "study.yaml").models["tiny-mean2"].checkpoints
    assert (again[0] == found[0], again[1].weights == found[1].weights) == (True, False)
    config = yaml.safe_load((place / "study.yaml").read_text())
    own = load_study(config, ["study.yaml"], only={"tiny-mean2"})
    assert own.models == {"tiny-mean2": read_study(place / "study.yaml").models["tiny-mean2"]}


def test_a_study_that_is_not_locked_has_no_averages_and_can_be_locked(place: Path) -> None:
    study = study_of(place, [{**FETCHED, "average": {"last": 2}}])
    assert study.unlocked == ("tiny",)
    assert study.models["tiny-mean2"].checkpoints == ()
    study = fetched_study(place, {"last": 2})
    partly = locks.lock({1: locks.files("weights 1")})
    offered = {"pretraining": (1, 2, 3)}
    write_lock(
        replace(partly, models={"tiny": replace(partly.models["tiny"], offered=offered)}),
        place / "study.lock.json",
    )
    study = read_study(place / "study.yaml")
    assert study.unlocked == ("tiny step 2, 3",)
    assert study.models["tiny-mean2"].checkpoints == ()


def test_what_the_lock_does_not_have_cannot_be_averaged(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"average\.last: found 4, but tiny has 3 checkpoints"):
        fetched_study(place, {"last": 4})
    with pytest.raises(
        ConfigError, match=r"average\.steps: found 5, but tiny in this study has no such step"
    ):
        fetched_study(place, {"steps": [1, 5]})


def test_fetched_copies_of_another_step_are_no_parents(place: Path) -> None:
    lock = locks.lock({step: locks.files(f"weights {min(step, 2)}") for step in (1, 2, 3)})
    write_lock(lock, place / "study.lock.json")
    with pytest.raises(ConfigError, match=r"the audit has a finding about step 2, 3 of tiny \(duplicate"):
        study_of(place, [{**FETCHED, "average": {"last": 2}}], audit={"duplicate": "warn"})


def test_models_with_code_of_their_own_are_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\[0\]\.average: found for tiny with remote_code: true"):
        study_of(place, [{**FETCHED, "remote_code": True, "average": {"last": 2}}])


def test_averages_do_not_cross_stages() -> None:
    def checkpoint(name: str, step: int) -> Checkpoint:
        return Checkpoint("olmo", name, step, step, f"hub:{name}", "hub:t", f"hub-{name}", 1, "bfloat16", 1)

    steps = {"step10": 10, "step20": 20, "stage2-step10": 10, "stage2-step20": 20}
    found = [checkpoint(name, step) for name, step in steps.items()]

    def averages(last: int, *listed: int) -> list[str]:
        row = AveragedModel("olmo-mean", Model("olmo", ()), last, listed, "uniform", "study.yaml: average")
        return [checkpoint.name for checkpoint in row.model(found).checkpoints]

    assert averages(2) == ["step20-mean2", "stage2-step20-mean2"]
    with pytest.raises(ConfigError, match="no stage of training of olmo has more than 2 checkpoints"):
        averages(3)
    with pytest.raises(ConfigError, match="found step10, stage2-step10, which are of different stages"):
        averages(0, 10, 20)


def test_copies_of_another_step_are_no_parents(place: Path) -> None:
    run_of(place, [1, 2, 2, 3])
    row = {**ROW, "average": {"last": 2}}
    audited = study_of(place, [row])  # the audit stops it later, because its target must remain possible
    with pytest.raises(ConfigError, match="The audit stops the study: duplicate"):
        check_checkpoints(audited)
    with pytest.raises(ConfigError) as refused:
        study_of(place, [row], audit={"duplicate": "warn"})
    assert "models[0].average: the audit has a finding about step 20, 30 of run (duplicate: " in str(
        refused.value
    )
    with pytest.raises(ConfigError, match=r"models\[0\].average: the audit drops step 20, 30 of run"):
        study_of(place, [row], audit={"duplicate": "drop"})
    allowed = study_of(place, [{**ROW, "average": {"steps": [10, 40]}}], audit={"duplicate": "warn"})
    assert [c.name for c in allowed.models["run-mean2"].checkpoints] == ["step40-mean2"]


def test_parents_in_two_precisions_are_refused(place: Path) -> None:
    run_of(place, [1, 2])
    config = json.loads((place / "run/step10/config.json").read_text())
    (place / "run/step10/config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    with pytest.raises(ConfigError, match=r"saved in float16 \(step10\) and float32 \(step20\)"):
        study_of(place, [{**ROW, "average": {"last": 2}}])


def test_deleted_parents_are_missed_at_planning_only_if_an_average_needs_them(place: Path) -> None:
    run_of(place, [1, 2])
    row = {**ROW, "average": {"last": 2}}
    study = study_of(place, [row])
    [average] = study.models["run-mean2"].checkpoints
    for parent in average.parents:
        tiny.stored(Path("cells"), study.identity(parent, "toy"))
    shutil.rmtree("run/step10")
    study = study_of(place, [row])
    with pytest.raises(ConfigError, match="needed for the average run-mean2/step20-mean2"):
        check_deleted_weights(study)
    tiny.stored(Path("cells"), study.identity(average, "toy"))
    check_deleted_weights(study_of(place, [row]))


# The weights.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", ["uniform", "linear", "exponential"])
def test_the_mean_is_that_of_float64_rounded_to_the_precision_of_the_parents(
    place: Path, dtype: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(average_weights, "PIECE", 64)  # several pieces per tensor
    parents = run_of(place, [1.0, 0.3, -2.7], dtype=dtype)
    found = average_of(parents, place / "mean", weights)
    share = np.array(shares(weights, 3)) / sum(shares(weights, 3))
    read = [load_file(parent / WHOLE) for parent in parents]
    unit = {"F64": 1e-15, "F32": 2e-7, "F16": 2**-10, "BF16": 2**-7}[dtype]
    for name, tensor in found.items():
        expected = sum(s * one[name].double() for s, one in zip(share, read, strict=True))
        assert tensor.dtype == DTYPES[dtype]
        largest = max(float(one[name].double().abs().max()) for one in read)
        assert float((tensor.double() - expected).abs().max()) <= unit * largest


def test_a_few_pieces_are_in_memory_however_large_a_tensor_is(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = run_of(place, [1.0, 0.3, -2.7])
    for parent in parents:
        edit(parent, lambda tensors: {**tensors, "large": torch.ones(1 << 21)})  # 8 MiB
    monkeypatch.setattr(average_weights, "PIECE", 1 << 16)
    (place / "mean").mkdir()
    tracemalloc.start()
    write_average(parents, (1, 1, 1), place / "mean")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_bfloat16_is_rounded_as_torch_does() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    halves = np.arange(0, 2**31, 2**16 - 1, dtype=np.uint32) & 0xFFFF8000  # ties
    values = np.concatenate([bits, halves]).view("<f4")
    values = values[np.isfinite(values) & (np.abs(values) < 3e38)]
    ours = np.frombuffer(average_weights._encoded(values, "BF16"), "<i2")
    theirs = torch.from_numpy(values.copy()).bfloat16().view(torch.int16).numpy()
    assert np.array_equal(ours, theirs)
    back = average_weights._decoded(ours.tobytes(), "BF16")
    assert np.array_equal(back, torch.from_numpy(values.copy()).bfloat16().float().numpy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_average_of_one_or_of_equal_checkpoints_is_its_parent_bit_for_bit(place: Path, dtype: str) -> None:
    [one, *_] = parents = run_of(place, [0.7, 0.7, 0.7], dtype=dtype)
    average_of([one], place / "one")
    average_of(parents, place / "three", "linear")
    assert {file_sha256(d / WHOLE) for d in (one, place / "one", place / "three")} == {
        file_sha256(one / WHOLE)
    }


def shard(directory: Path) -> None:
    """Divide the weights into two files with an index."""
    tensors = load_file(directory / WHOLE)
    names, where = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, directory / file)
        where |= dict.fromkeys(part, file)
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (directory / WHOLE).unlink()


def test_parents_may_be_divided_into_files_in_other_ways(place: Path) -> None:
    parents = run_of(place, [1.0, 0.5])
    whole = average_of(parents, place / "whole")
    shard(parents[0])
    one = average_of(parents, place / "from_shards")
    shard(parents[1])
    (place / "to_shards").mkdir()
    write_average(parents, (1, 1), place / "to_shards")
    names = [sorted(path.name for path in one.iterdir()) for one in (place / "to_shards", parents[1])]
    assert names[0] == names[1]
    with Weights(place / "to_shards", torch.float32, "cpu") as read:
        for name, tensor in whole.items():
            assert torch.equal(one[name], tensor)
            assert torch.equal(read.take(name, tensor.shape), tensor)


def test_tied_weights_stay_tied(place: Path) -> None:
    parents = run_of(place, [1.0, 0.5], "llama")
    found = average_of(parents, place / "mean")
    assert "lm_head.weight" not in found
    assert json.loads((place / "mean/config.json").read_text())["tie_word_embeddings"]


def test_buffers_are_copied_and_must_be_equal(place: Path) -> None:
    parents = run_of(place, [1.0, 0.5])
    name = "gpt_neox.layers.0.attention.bias"
    for parent in parents:
        edit(parent, lambda tensors: {**tensors, name: torch.ones(3, 3, dtype=torch.bool)})
    assert average_of(parents, place / "mean")[name].all()
    edit(parents[0], lambda tensors: {**tensors, name: torch.zeros(3, 3, dtype=torch.bool)})
    with pytest.raises(CheckpointError, match=f"{name} is a buffer and differs"):
        average_of(parents, place / "other")


def test_the_biases_of_gpt2_are_averaged_although_their_names_end_like_those_of_buffers(place: Path) -> None:
    found = average_of(run_of(place, [1.0, 0.5], "gpt2"), place / "mean")
    name = "transformer.h.0.attn.c_attn.bias"
    newest = load_file(place / f"run/step20/{WHOLE}")
    assert torch.allclose(found[name], 1.5 * newest[name])


NORM = "gpt_neox.final_layer_norm.weight"
WRONG: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "shape": (lambda t: {**t, NORM: torch.ones(8)}, f"tensor {NORM} has the shape 8, but 16 in "),
    "dtype": (lambda t: {**t, NORM: t[NORM].half()}, f"tensor {NORM} has the dtype F16, but F32 in "),
    "missing": (lambda t: {k: v for k, v in t.items() if k != NORM}, f"has the tensor {NORM}, but "),
    "additional": (lambda t: {**t, "extra": torch.ones(1)}, "has the tensor extra, but "),
    "not finite": (lambda t: {**t, NORM: t[NORM] * torch.inf}, f"tensor {NORM} has non-finite values"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_parent_of_another_kind_is_refused_by_the_name_of_the_tensor(place: Path, what: str) -> None:
    change, message = WRONG[what]
    parents = run_of(place, [1.0, 0.5])
    edit(parents[0], change)
    with pytest.raises(CheckpointError) as refused:
        average_of(parents, place / "mean")
    assert message in str(refused.value)


def test_a_parent_of_another_architecture_is_refused_by_the_key(place: Path) -> None:
    parents = run_of(place, [1.0, 0.5])
    config = json.loads((parents[0] / "config.json").read_text())
    (parents[0] / "config.json").write_text(json.dumps({**config, "rotary_pct": 0.5}))
    with pytest.raises(CheckpointError, match=r"rotary_pct: found 0\.5, but"):
        average_of(parents, place / "mean")


def test_integers_cannot_be_averaged(place: Path) -> None:
    parents = run_of(place, [1.0, 0.5])
    for parent in parents:
        edit(parent, lambda tensors: {**tensors, "packed": torch.ones(4, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match="packed is saved in I8; allowed in an average: F64"):
        average_of(parents, place / "mean")


# The checkpoint.


@pytest.fixture
def planned(place: Path) -> Checkpoint:
    """The average of two checkpoints on disk, not made yet."""
    run_of(place, [1.0, 0.5])
    study = study_of(place, [{**ROW, "average": {"last": 2}}])
    return study.models["run-mean2"].checkpoints[0]


def made(checkpoint: Checkpoint) -> Checkpoint:
    average_to_directory(average_spec(checkpoint, "cells"), checkpoint.marker)
    return checkpoint


def verify(checkpoint: Checkpoint) -> None:
    identity = checkpoint.marker, checkpoint.weights, checkpoint.tokenizer
    check_before_loading(*identity)
    check_weights(*identity, "cells")


@pytest.mark.parametrize("name", [WHOLE, "config.json", "tokenizer.json"])
def test_a_damaged_average_is_refused_until_it_is_averaged_again(planned: Checkpoint, name: str) -> None:
    directory = Path(made(planned).marker)
    verify(planned)
    first = file_sha256(directory / name)
    content = bytearray((directory / name).read_bytes())
    content[-6] ^= 1
    (directory / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"delete {planned.marker}: it is averaged"):
        verify(planned)
    shutil.rmtree(directory)
    verify(made(planned))
    assert file_sha256(directory / name) == first


def test_a_parent_that_has_changed_since_planning_is_not_averaged(planned: Checkpoint) -> None:
    edit(Path("run/step10"), lambda tensors: {**tensors, NORM: tensors[NORM] + 1})
    with pytest.raises(CheckpointError, match=r"run/step10/model\.safetensors has the digest"):
        made(planned)
    assert not Path(planned.marker).exists()


def test_a_marker_of_another_average_is_refused(planned: Checkpoint) -> None:
    with pytest.raises(ConfigError, match=r"--to: found elsewhere/averaged-0; allowed"):
        average_to_directory(average_spec(planned, "cells"), "elsewhere/averaged-0")


def test_an_interrupted_average_leaves_nothing_that_is_taken_for_one(
    planned: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(average_weights, "_average_tensor", killed)
    with pytest.raises(KeyboardInterrupt):
        made(planned)
    place, root = Path(planned.marker).parent, Path.cwd()
    assert list(place.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.chdir(root)
    left = place / f".{Path(planned.marker).name}.1"  # by a process that was killed
    left.mkdir()
    verify(made(planned))
    assert list(place.iterdir()) == [Path(planned.marker)]
