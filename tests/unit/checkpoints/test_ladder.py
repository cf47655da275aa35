"""Ladders: which models and steps a series file stands for, and what identifies their weights."""

import copy
from pathlib import Path

import pytest
import yaml

from ebbtide.checkpoints.series import models_of, read_series
from ebbtide.errors import ConfigError
from ebbtide.grid import Model
from ebbtide.parameters import count
from ebbtide.training.spec import TRAINING_VERSION
from workspace import ROOT, SMALL_SERIES

LAWS = ROOT / "workflow/series/overtraining_ladder.yaml"
BATCH_TOKENS = 16 * 64


def models(series: str, steps: object = "all", sizes: object = "all") -> list[Model]:
    row = {"series": series, "sizes": sizes, "steps": steps}
    rest = {"stages": ["pretraining"], "format": "safetensors", "remote_code": False}
    return [m for m in models_of({**row, **rest}, "s.yaml: models[0]") if isinstance(m, Model)]


def small(tmp_path: Path, **changes: object) -> str:
    """A series file of two sizes."""
    series = copy.deepcopy(SMALL_SERIES) | changes
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(series, sort_keys=False))
    return str(tmp_path / "small.yaml")


@pytest.mark.parametrize(
    ("series", "weights"),
    [
        ("ladder", ["a7b570cf03d8", "abc060216677", "674cad9f197c", "723e9de97bd8"]),
        ("ladder_control", ["0bfd4340be99", "00be339e01e1", "2849e7382a4c", "0710ce23a5fc"]),
    ],
)
def test_the_weights_of_published_ladders_keep_their_identity(series, weights):
    """A failure here means: whoever has trained this ladder trains and scores it again."""
    found = [model.checkpoints[-1].weights.removeprefix("trained:")[:12] for model in models(series)]
    assert (TRAINING_VERSION, found) == (1, weights)


def test_a_model_may_train_for_steps_of_its_own(tmp_path):
    sizes = copy.deepcopy(SMALL_SERIES["models"])
    sizes["small-d8"]["steps"] = 40
    file = small(tmp_path, models=sizes, checkpoints="last")
    short, usual = models(file)
    assert [c.step for c in short.checkpoints] == [40] and [c.step for c in usual.checkpoints] == [256]
    assert short.checkpoints[0].tokens == 40 * BATCH_TOKENS
    assert short.training["recipe"]["steps"] == 40 and "steps" not in short.training["model"]


def test_steps_of_its_own_are_the_cosine_and_so_the_identity(tmp_path):
    """The end of a run of 64 steps is not step 64 of a longer run."""
    sizes = copy.deepcopy(SMALL_SERIES["models"])
    middle = models(small(tmp_path), steps=[64])[0].checkpoints[0]
    sizes["small-d8"]["steps"] = 64
    end = models(small(tmp_path, models=sizes, checkpoints="last"))[0].checkpoints[0]
    recipe = {**SMALL_SERIES["recipe"], "steps": 64}
    same = models(small(tmp_path, recipe=recipe, checkpoints=[64]))[0].checkpoints[0]
    assert middle.step == end.step == 64
    assert middle.weights != end.weights == same.weights


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoints": "end"}, "checkpoints: found 'end'; allowed: last"),
        ({"checkpoints": []}, "checkpoints"),
        (
            {"recipe": {k: v for k, v in SMALL_SERIES["recipe"].items() if k != "steps"}},
            "models.small-d8.steps: missing, and so is recipe.steps",
        ),
        (
            {"models": {"a": {"width": 8, "layers": 1, "heads": 1, "learning_rate": 0.1, "steps": 16}}},
            r"found 256; allowed: 0 to recipe.steps \(16\)",
        ),
    ],
)
def test_a_ladder_that_cannot_be_trained_is_explained(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        models(small(tmp_path, **changes))


def test_the_scaling_ladder_trains_for_the_tokens_per_parameter_that_its_names_say():
    series, is_ladder = read_series(LAWS)
    assert is_ladder and len(series["models"]) == 14
    for name, model in series["models"].items():
        architecture = {
            "model_type": "gpt_neox",
            "vocab_size": 271,
            "hidden_size": model["width"],
            "intermediate_size": 4 * model["width"],
            "num_hidden_layers": model["layers"],
            "num_attention_heads": model["heads"],
            "tie_word_embeddings": False,
        }
        total = count(architecture).total
        wanted = int(name.rsplit("-m", 1)[1])
        assert model["steps"] == round(wanted * total / BATCH_TOKENS), name
        assert name.startswith(f"laws-d{model['width']}-")


def test_the_scaling_ladder_reads_the_corpus_of_the_ladder():
    laws, ladder = (read_series(ROOT / f"workflow/series/{name}.yaml")[0] for name in (LAWS.stem, "ladder"))
    assert laws["corpus"] == ladder["corpus"]
    assert {**laws["recipe"], "steps": ladder["recipe"]["steps"]} == ladder["recipe"]
    sizes = {(m["width"], m["layers"], m["heads"], m["learning_rate"]) for m in ladder["models"].values()}
    assert {
        (m["width"], m["layers"], m["heads"], m["learning_rate"]) for m in laws["models"].values()
    } == sizes
