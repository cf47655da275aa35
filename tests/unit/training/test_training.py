"""Training: a spec determines the weights, whatever happens on the way; checkpoints are whole or absent."""

import copy
import json
import logging
import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from ebbtide import cli, logs
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.logs import Progress
from ebbtide.training import spec as recipe
from ebbtide.training.spec import check_spec
from ebbtide.training.train import train, train_to_markers

STEPS = [0, 8, 24, 40]
SPEC = {
    "corpus": {
        "world": {"seed": 0, "proverbs": 16, "zipf": 0.7},
        "mixture": {"plain": 0.5, "proverb": 0.3, "fact": 0.2},
        "seed": 0,
    },
    "recipe": {
        "seed": 0,
        "steps": 40,
        "batch": 4,
        "length": 16,
        "warmup": 4,
        "final_fraction": 0.1,
        "betas": [0.9, 0.95],
        "weight_decay": 0.01,
        "clip": 1.0,
    },
    "model": {"width": 8, "layers": 1, "heads": 2, "learning_rate": 0.02},
    "checkpoints": STEPS,
}
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "checkpoint.json"}


def changed(**changes):
    """`SPEC` with values replaced; keys are paths such as `model__width`."""
    spec = copy.deepcopy(SPEC)
    for path, value in changes.items():
        *parents, key = path.split("__")
        section = spec
        for parent in parents:
            section = section[parent]
        section[key] = value
    return spec


def weights(directory):
    return {path.parent.name: path.read_bytes() for path in directory.glob("step*/model.safetensors")}


def made(directory):
    """What identifies each file as written once: a rewrite makes another inode."""
    return {str(p.relative_to(directory)): p.stat().st_ino for p in directory.glob("step*/*")}


LOSSES = [5.604305, 4.758561, 3.574169, 3.355498]  # nats per token, held out


class KilledError(Exception):
    """What a test throws into the middle of a run."""


class Watch(Progress):
    """Collects what is shown; raises when the text begins to mention `kill_at`."""

    def __init__(self, kill_at=None):
        super().__init__()
        self.shown, self.kill_at = [], kill_at

    def show(self, text):
        self.shown.append(text)
        if self.kill_at and self.kill_at in text:
            raise KilledError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A directory trained without disturbance. Tests copy it; none may change it."""
    directory = tmp_path_factory.mktemp("ladder") / "tiny"
    train(SPEC, directory, Watch())
    return directory


@pytest.fixture
def trained(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "tiny")


def killed_run(directory):
    """A run that died at step 32, after the checkpoint and the state of step 24."""
    with pytest.raises(KilledError):
        train(SPEC, directory, Watch(kill_at="step 32 "))
    assert not (directory / "trained.json").exists()
    return directory / "training_state.safetensors"


# ------------------------------------------------------------------ what a run leaves


def test_each_checkpoint_is_a_whole_hugging_face_model(finished):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert {p.name for p in finished.iterdir()} == {f"step{s}" for s in STEPS} | {"trained.json"}
    for step in STEPS:
        directory = finished / f"step{step}"
        assert {p.name for p in directory.iterdir()} == FILES
        assert all(p.stat().st_mode & stat.S_IRGRP for p in directory.iterdir())
        model, info = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert sum(p.numel() for p in model.parameters()) == check_spec(SPEC).parameters()
        assert model.config.max_position_embeddings == 128 and not model.config.tie_word_embeddings
        ids = AutoTokenizer.from_pretrained(directory)("the river", return_tensors="pt").input_ids
        assert ids.tolist()[0][0] == 0 and model(ids).logits.shape == (1, 3, 271)


def test_the_record_of_a_run_names_its_checkpoints(finished):
    record = json.loads((finished / "trained.json").read_text())
    assert record["spec"] == SPEC and record["training_version"] == recipe.TRAINING_VERSION
    assert [c["step"] for c in record["checkpoints"]] == STEPS
    assert [c["tokens"] for c in record["checkpoints"]] == [0, 8 * 64, 24 * 64, 40 * 64]
    for checkpoint in record["checkpoints"]:
        assert checkpoint["weights"] == check_spec(SPEC).identity(checkpoint["step"])
        assert checkpoint["files"].keys() == FILES - {"checkpoint.json"}
    losses = [c["held_out_loss"] for c in record["checkpoints"]]
    assert losses == sorted(losses, reverse=True)


def test_the_maths_of_this_training_version_never_changes(finished):
    """A failure here means: raise TRAINING_VERSION, then put in the new losses."""
    record = json.loads((finished / "trained.json").read_text())
    losses = [c["held_out_loss"] for c in record["checkpoints"]]
    assert record["training_version"] == 1
    assert losses == pytest.approx(LOSSES, abs=2e-3)  # kernels differ in rounding


def test_progress_tells_checkpoint_step_loss_and_speed(tmp_path):
    watch = Watch()
    train(SPEC, tmp_path / "tiny", watch)
    assert len(watch.shown) == 2
    assert "checkpoint 2 of 4, step 16 of 40, loss " in watch.shown[0] and "tokens/s" in watch.shown[0]


def test_torch_is_left_as_it_was(tmp_path):
    import torch

    torch.manual_seed(5)
    before = (torch.get_num_threads(), torch.random.get_rng_state())
    train(changed(checkpoints=[0, 1]), tmp_path / "tiny", Progress())
    assert torch.get_num_threads() == before[0] and torch.equal(torch.random.get_rng_state(), before[1])
    assert not torch.are_deterministic_algorithms_enabled()


# ------------------------------------------------------------------ disturbed runs


def test_a_killed_run_goes_on_and_gives_the_same_weights(tmp_path, finished, caplog):
    directory = tmp_path / "tiny"
    killed_run(directory)
    early = made(directory)
    assert {name.split("/")[0] for name in early} == {"step0", "step8", "step24"}
    watch = Watch()
    with caplog.at_level(logging.INFO, "ebbtide"):
        train(SPEC, directory, watch)
    assert "resuming from step 24" in caplog.text
    assert [text.split(",")[1] for text in watch.shown] == [" step 32 of 40"]
    assert weights(directory) == weights(finished)
    assert early.items() <= made(directory).items()
    assert {p.name for p in directory.iterdir()} == {p.name for p in finished.iterdir()}
    assert (directory / "trained.json").read_text() == (finished / "trained.json").read_text()


def truncate(state):
    state.write_bytes(state.read_bytes()[:-100])


def flip_a_bit(state):
    content = bytearray(state.read_bytes())
    content[-7] ^= 1
    state.write_bytes(content)


def scribble(state):
    state.write_text("not a state")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, scribble])
def test_a_damaged_state_is_ignored(tmp_path, finished, caplog, damage):
    directory = tmp_path / "tiny"
    damage(killed_run(directory))
    with caplog.at_level(logging.INFO, "ebbtide"):
        train(SPEC, directory, Watch())
    assert "training starts from scratch" in caplog.text and "resuming" not in caplog.text
    assert weights(directory) == weights(finished)


def test_a_state_of_another_spec_is_ignored(tmp_path, finished, caplog):
    directory = tmp_path / "tiny"
    state = killed_run(tmp_path / "other")
    with pytest.raises(KilledError):
        train(changed(model__learning_rate=0.01), directory, Watch(kill_at="step 32 "))
    shutil.copy(directory / "training_state.safetensors", state)
    shutil.rmtree(directory)
    with caplog.at_level(logging.INFO, "ebbtide"):
        train(SPEC, tmp_path / "other", Watch())
    assert "belongs to another spec; training starts from scratch" in caplog.text
    assert weights(tmp_path / "other") == weights(finished)


def test_a_state_that_is_a_pipe_is_ignored(tmp_path, finished, caplog):
    directory = tmp_path / "tiny"
    directory.mkdir()
    os.mkfifo(directory / "training_state.safetensors")
    with caplog.at_level(logging.INFO, "ebbtide"):
        train(SPEC, directory, Watch())
    assert "is not a regular file; training starts from scratch" in caplog.text
    assert weights(directory) == weights(finished)


def test_a_state_past_a_missing_checkpoint_is_ignored(tmp_path, finished, caplog):
    directory = tmp_path / "tiny"
    killed_run(directory)
    shutil.rmtree(directory / "step8")
    with caplog.at_level(logging.INFO, "ebbtide"):
        train(SPEC, directory, Watch())
    assert "past the first missing checkpoint (8)" in caplog.text
    assert weights(directory) == weights(finished)


# ------------------------------------------------------------------ what is there already


def test_nothing_is_trained_twice(trained):
    before, watch = made(trained), Watch()
    (trained / "trained.json").unlink()  # as Snakemake does before it runs a rule
    train(SPEC, trained, watch)
    assert made(trained) == before and watch.shown == []
    assert json.loads((trained / "trained.json").read_text())["spec"] == SPEC


def test_more_checkpoints_add_only_themselves(tmp_path, finished):
    directory = tmp_path / "tiny"
    train(changed(checkpoints=[40, 8]), directory, Watch())
    before = made(directory)
    train(SPEC, directory, Watch())
    assert before.items() <= made(directory).items()
    assert weights(directory) == weights(finished)


def test_training_stops_at_the_last_checkpoint_wanted_on_the_same_schedule(tmp_path, finished):
    watch = Watch()
    train(changed(checkpoints=[24]), tmp_path / "tiny", watch)
    assert len(watch.shown) == 1
    assert weights(tmp_path / "tiny")["step24"] == weights(finished)["step24"]


def damage_weights(checkpoint):
    flip_a_bit(checkpoint / "model.safetensors")


def lose_config(checkpoint):
    (checkpoint / "config.json").unlink()


def lose_record(checkpoint):
    (checkpoint / "checkpoint.json").unlink()


def block_record(checkpoint):
    lose_record(checkpoint)
    os.mkfifo(checkpoint / "checkpoint.json")


def empty(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


@pytest.mark.parametrize(
    "damage", [damage_weights, lose_config, lose_record, block_record, empty, shutil.rmtree]
)
def test_a_damaged_checkpoint_is_made_again_and_the_others_stay(trained, finished, damage):
    before = {name: inode for name, inode in made(trained).items() if not name.startswith("step8/")}
    damage(trained / "step8")
    train(SPEC, trained, Watch())
    assert weights(trained) == weights(finished)
    assert {p.name for p in (trained / "step8").iterdir()} == FILES
    assert before.items() <= made(trained).items()


def test_checkpoints_of_another_recipe_go_and_other_files_stay(trained, finished):
    (trained / "notes.txt").write_text("mine")
    (trained / "step9").mkdir()
    other = changed(recipe__seed=1, checkpoints=[0, 8])
    train(other, trained, Watch())
    assert {p.name for p in trained.iterdir()} == {"step0", "step8", "step9", "notes.txt", "trained.json"}
    assert weights(trained)["step0"] != weights(finished)["step0"]
    assert json.loads((trained / "trained.json").read_text())["spec"] == other


# ------------------------------------------------------------------ what can go wrong


def test_divergence_names_the_learning_rate(tmp_path):
    with pytest.raises(CheckpointError, match=r"model.learning_rate 1e\+30 is too large"):
        train(changed(model__learning_rate=1e30), tmp_path / "tiny", Watch())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (changed(checkpoints=[0, 41]), r"f.yaml: checkpoints: found 41; allowed: 0 to recipe.steps \(40\)"),
        (changed(checkpoints=[]), r"checkpoints: found \[\]; allowed: at least 1"),
        (changed(checkpoints=[8, 8]), r"checkpoints: found \[8, 8\]; allowed: each entry once"),
        (changed(checkpoints=[True]), r"checkpoints\[0\]: found True"),
        (changed(corpus__mixture={"provreb": 1}), r"corpus.mixture.provreb: .*did you mean 'proverb'"),
        (changed(corpus__mixture={"plain": 0}), r"corpus.mixture: found no share above 0"),
        (
            changed(corpus__mixture={"plain": -1}),
            r"corpus.mixture.plain: found -1; allowed: at least 0",
        ),
        (changed(corpus__mixture={"plain": float("nan")}), r"corpus.mixture.plain: found nan"),
        (changed(corpus__mixture={"plain": "1"}), r"corpus.mixture.plain: found '1'"),
        (changed(corpus__world__proverbs=0), r"corpus.world.proverbs: found 0; allowed: at least 1"),
        (changed(corpus=None), r"corpus: empty; allowed: object"),
        (changed(model__heads=3), r"model.width: found 8 with 3 heads; allowed: a multiple of 6"),
        (changed(model__heads=8), r"model.width: found 8 with 8 heads; allowed: a multiple of 16"),
        (changed(model__depth=3), r"model.depth: unknown key; .*llowed: width, layers"),
        (changed(recipe__length=129), r"recipe.length: found 129; allowed: at most 128"),
        (changed(recipe__steps=1.5), r"recipe.steps: found 1.5"),
        (changed(recipe__betas=[0.9]), r"recipe.betas: found \[0.9\]; allowed: at least 2 entries"),
        (changed(recipe__final_fraction=2), r"recipe.final_fraction: found 2; allowed: at most 1"),
        ({k: v for k, v in SPEC.items() if k != "model"}, r"f.yaml: model: missing"),
    ],
)
def test_a_bad_spec_is_explained(spec, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        check_spec(spec, "f.yaml")
    with pytest.raises(ConfigError):
        train(spec, tmp_path / "tiny", Progress())
    assert not (tmp_path / "tiny").exists()


# ------------------------------------------------------------------ identity


def test_identity_does_not_depend_on_what_is_kept_or_on_spelling():
    same = [
        changed(checkpoints=[8]),
        changed(model__learning_rate=2e-2, recipe__clip=1, recipe__betas=[0.9, 0.95]),
        changed(corpus__mixture={"story": 0, "fact": 0.2, "proverb": 0.3, "plain": 0.5}),
    ]
    assert {check_spec(spec).identity(8) for spec in same} == {check_spec(SPEC).identity(8)}


WHOLE = ("seed", "steps", "batch", "length", "warmup")
REAL = ("final_fraction", "weight_decay", "clip")


def test_identity_depends_on_everything_that_moves_the_weights(monkeypatch):
    different = [
        changed(corpus__seed=1),
        changed(corpus__world__seed=1),
        changed(corpus__world__proverbs=17),
        changed(corpus__world__zipf=0.8),
        changed(corpus__mixture={"plain": 0.5, "proverb": 0.3, "fact": 0.21}),
        *(changed(**{f"recipe__{key}": SPEC["recipe"][key] + 1}) for key in WHOLE),
        *(changed(**{f"recipe__{key}": SPEC["recipe"][key] / 2}) for key in REAL),
        changed(recipe__betas=[0.9, 0.9]),
        changed(model__width=16),
        changed(model__layers=2),
        changed(model__heads=1),
        changed(model__learning_rate=0.01),
    ]
    found = [check_spec(spec).identity(8) for spec in different]
    found += [check_spec(SPEC).identity(8), check_spec(SPEC).identity(24)]
    monkeypatch.setattr(recipe, "TRAINING_VERSION", 2)
    found.append(check_spec(SPEC).identity(8))
    assert len(set(found)) == len(found) == 21


def test_the_log_of_a_training_job_gets_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the terminal does, less often; the rule writes stderr to the log."""
    terminal = tmp_path / "terminal"
    terminal.touch()
    monkeypatch.setenv("EBBTIDE_TERMINAL", f"{socket.gethostname()}:{terminal}")
    monkeypatch.setattr(logs, "TERMINAL_SECONDS", 0.0)
    monkeypatch.setattr(logs, "QUIET_SECONDS", 0.0)
    spec = json.dumps({key: value for key, value in SPEC.items() if key != "checkpoints"})
    markers = [str(tmp_path / f"m/step{step}/trained-new.json") for step in STEPS]
    assert cli.main(["train", "--spec", spec, "--markers", *markers]) == 0
    *logged, last = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert logged == terminal.read_text().splitlines()
    assert [line.partition(", loss")[0] for line in logged] == [
        "checkpoint 2 of 4, step 16 of 40",
        "checkpoint 3 of 4, step 32 of 40",
    ]
    assert last.endswith("4 checkpoints, 4 of them new")


def test_markers_name_the_steps_and_replace_those_of_earlier_recipes(tmp_path: Path) -> None:
    markers = [tmp_path / f"m/step{step}/trained-new.json" for step in (2, 0)]
    stale = tmp_path / "m/step2/trained-old.json"
    stale.parent.mkdir(parents=True)
    stale.touch()
    train_to_markers({key: value for key, value in SPEC.items() if key != "checkpoints"}, markers, Progress())
    assert not stale.exists()
    written = [json.loads(marker.read_text()) for marker in markers]
    assert [marker["step"] for marker in written] == [2, 0]
    assert [marker["checkpoints"] for marker in written] == [[0, 2], [0, 2]]
    assert (tmp_path / "m/step0/model.safetensors").exists()


def test_a_marker_of_another_form_is_a_sentence(tmp_path: Path) -> None:
    for name in ("m/final/trained-1.json", "other/step4/trained-1.json"):
        with pytest.raises(ConfigError, match=rf"--markers: found .*{name}; allowed: DIR/stepN/trained-ID"):
            train_to_markers(SPEC, [tmp_path / "m/step2/trained-1.json", tmp_path / name], Progress())
