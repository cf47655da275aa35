"""What a study asks of the hub: rows of a config as models, and models with a lock as the grid."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import locks
from ebbtide.checkpoints.hub.catalogue import PRETRAINING, HubModel, Stage, checkpoint_of
from ebbtide.checkpoints.hub.lock import Lock
from ebbtide.checkpoints.series import models_of
from ebbtide.errors import ConfigError
from ebbtide.schema import check, load_schema

SERIES: dict[str, Any] = {
    "title": "A tiny series",
    "sources": ["a test"],
    "confirmed": ["repositories"],
    "formats": ["safetensors", "bin"],
    "bos": "never",
    "revisions": ["stage1-step{step}-tokens{any}B", "step{step}"],
    "steps": [0, {"from": 1000, "to": 4000, "every": 1000}],
    "tokens_per_step": 2048,
    "unit": 1000,
    "stages": {"anneal": {"revisions": ["stage2-step{step}"], "tokens_before": 10_000, "steps": [1, 2]}},
    "defects": [{"models": ["tiny-a*"], "steps": [1000], "note": "odd", "thread": "lab/tiny#1"}],
    "allow": [{"finding": "duplicate", "steps": [0, 1000], "reason": "warm-up"}],
    "models": {
        "tiny-a": {"repo": "lab/tiny-a", "nominal": 70_000_000},
        "tiny-b": {"repo": "lab/tiny-b", "nominal": 160_000_000, "formats": ["bin"], "tokens_per_step": 4096},
    },
}


def rows(tmp_path: Path, series: dict[str, Any] | None = None, **row: Any) -> list[HubModel]:
    """The models of a row of a config that names this series."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(series or SERIES))
    return parsed({"series": str(tmp_path / "tiny.yaml"), **row})


def parsed(row: dict[str, Any]) -> list[HubModel]:
    config = {"study": "s", "models": [row], "tasks": ["t"]}
    checked = check(config, load_schema("config"), "s.yaml")["models"][0]
    models = models_of(checked, "s.yaml: models[0]")
    assert all(isinstance(model, HubModel) for model in models)
    return models  # type: ignore[return-value]


def test_a_series_gives_its_models_with_their_own_facts(tmp_path: Path) -> None:
    (a,) = rows(tmp_path, sizes=["tiny-a"])
    assert (a.name, a.repo, a.nominal, a.format) == ("tiny-a", "lab/tiny-a", 70_000_000, "safetensors")
    assert a.stages[0].steps == (0, 1000, 2000, 3000, 4000)
    assert a.stages[0].tokens(3000) == 3000 * 2048
    assert [d.thread for d in a.defects] == ["lab/tiny#1"]
    (b,) = rows(tmp_path, sizes=["tiny-b"], format="bin", steps="log2")
    assert (b.stages[0].tokens(3000), b.defects) == (3000 * 4096, ())
    assert b.steps({}) == [(b.stages[0], [2000, 4000])]


def test_bin_is_taken_by_explicit_choice_only(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"format: found 'safetensors'; tiny-b has only bin .*Set format: bin"
    ):
        rows(tmp_path, sizes=["tiny-b"])


def test_tokens_of_a_table_are_those_of_the_table(tmp_path: Path) -> None:
    ramp = {**SERIES, "tokens_per_step": {1000: 77, 2000: 555}}
    stage = rows(tmp_path, ramp, sizes=["tiny-a"])[0].stages[0]
    assert [stage.tokens(step) for step in (1000, 2000, 3000)] == [77, 555, 0]


def test_later_stages_are_taken_when_named(tmp_path: Path) -> None:
    (a,) = rows(tmp_path, sizes=["tiny-a"], stages=["pretraining", "anneal"])
    anneal = a.stages[1]
    assert (anneal.checkpoint(2), anneal.tokens(2)) == ("anneal-step2", 10_000 + 2 * 2048)
    with pytest.raises(
        ConfigError, match="found 'aneal'; tiny-a has pretraining, anneal; did you mean 'anneal'"
    ):
        rows(tmp_path, sizes=["tiny-a"], stages=["aneal"])


def test_a_ladder_takes_nothing_of_the_hub() -> None:
    with pytest.raises(ConfigError, match="stages, format and remote_code apply only to hub models"):
        parsed({"series": "ladder", "format": "bin"})


def test_unknown_size_and_unknown_step(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sizes: found 'tiny-c'; allowed: tiny-a, tiny-b"):
        rows(tmp_path, sizes=["tiny-c"])
    (a,) = rows(tmp_path, sizes=["tiny-a"], steps=[2600])
    with pytest.raises(
        ConfigError, match=r"steps: found 2600, but .*tiny.yaml has no such step; nearest: 2000 and 3000"
    ):
        list(a.wanted(Lock()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tokens_pre_step": 1}, "tokens_pre_step: unknown key"),
        ({"revisions": ["main"]}, "revisions[0]: found 'main'"),
        ({"models": {"../x": {"nominal": 1}}}, "../x"),
        ({"models": {"x": {"repo": "../etc", "nominal": 1}}}, "found '../etc'"),
        ({"defects": [{"models": ["x"], "note": "n"}]}, "thread: missing"),
    ],
)
def test_a_wrong_series_is_one_sentence(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rows(tmp_path, SERIES | change)
    assert says in str(caught.value) and "tiny.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("revision", "step"),
    [
        ("stage1-step1000-tokens3B", 1000),
        ("step2000", 2000),
        ("step0000000007", 7),
        ("stage2-step1000", None),
        ("xstep1000", None),
        ("step1000-final", None),
        ("stepX", None),
        ("main", None),
    ],
)
def test_revisions_are_matched_whole(tmp_path: Path, revision: str, step: int | None) -> None:
    assert rows(tmp_path, sizes=["tiny-a"])[0].stages[0].step_of(revision) == step


def test_a_pattern_is_no_regular_expression() -> None:
    assert Stage(PRETRAINING, ("v1.0+step{step}",)).step_of("v1x0step3") is None
    assert Stage(PRETRAINING, ("v1.0+step{step}",)).step_of("v1.0+step3") == 3


def test_a_repository_of_ones_own() -> None:
    (model,) = parsed(
        {"name": "mine", "repo": "lab/mine", "revision": "step{step}", "steps": "log2", "unit": 10}
    )
    assert (model.stages[0].unit, model.schedule, model.fixed) == (10, "log2", None)
    (model,) = parsed({"name": "mine", "repo": "lab/mine"})
    assert model.fixed == "main"
    with pytest.raises(ConfigError, match=r"revision: found 'main' with steps; it must contain \{step\}"):
        parsed({"name": "mine", "repo": "lab/mine", "steps": [1, 2]})
    with pytest.raises(ConfigError, match="repo: found 'mine'"):
        parsed({"name": "mine", "repo": "mine"})


def test_the_grid_holds_what_is_locked() -> None:
    model = locks.model((0, 8, 16), schedule=[8, 16])
    lock = locks.lock({0: locks.files("a"), 8: locks.files("b"), "main": locks.files("c")})
    wanted = {w.name: w for w in model.wanted(lock)}
    assert wanted.keys() == {"step8", "step16"}
    assert (wanted["step16"].locked, wanted["step16"].offered) == (None, False)
    locked = wanted["step8"].locked
    assert locked is not None
    row = checkpoint_of(model, wanted["step8"], locked, lock)
    assert (row.step, row.tokens, row.size_bytes) == (8, 800, 1000)
    assert row.weights.startswith("hub:") and row.marker.startswith("resources/checkpoints/tiny/step8/hub-")
    assert row.dtype == "unknown"  # its config.json does not say


def test_a_lock_of_another_repository_is_no_lock_of_this_model() -> None:
    lock = locks.lock({8: locks.files("a")})
    assert locks.model((8,)).is_listed(lock)
    assert not locks.model((8,), repo="lab/moved").is_listed(lock)
    assert not locks.model((8,), name="other").is_listed(lock)
