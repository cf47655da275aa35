"""The audit of a lock: every planted defect is found, and nothing where there is none."""

from collections.abc import Mapping
from typing import Any

import pytest

import locks
from ebbtide.checkpoints.findings import CLASSES, DROP, STOP, WARN, Allowance, Finding, audit_lines, dropped
from ebbtide.checkpoints.hub.audit import audit
from ebbtide.checkpoints.hub.catalogue import Defect, HubModel
from ebbtide.checkpoints.hub.lock import Lock
from ebbtide.schema import load_schema

ACTIONS = {name: STOP for name in CLASSES} | {"missing": DROP, "moved": WARN, "defect": WARN}
STEPS = (0, 1, 8, 16)


def clean(**changes: Mapping[str, Any]) -> dict[int | str, Mapping[str, Any]]:
    """Four steps with weights of their own in two shards; `main` is the last."""
    revisions: dict[int | str, Mapping[str, Any]] = {
        step: locks.files(f"{step}a", f"{step}b") for step in STEPS
    }
    revisions["main"] = revisions[16]
    return revisions | {int(k[1:]) if k[1:].isdigit() else k: v for k, v in changes.items()}


def findings(
    lock: Lock, model: HubModel | None = None, allow: tuple[Allowance, ...] = (), **actions: str
) -> list[Finding]:
    return audit([model or locks.model(STEPS)], lock, ACTIONS | actions, allow)


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, [(f.finding, f.steps, f.detail) for f in found]
    return found[0]


def test_classes_are_those_of_the_schemas() -> None:
    config = set(load_schema("config")["properties"]["audit"]["properties"]) - {"allow"}
    series = set(load_schema("series")["$defs"]["finding"]["enum"])
    assert set(CLASSES) == config == series


def test_a_clean_suite_has_no_findings() -> None:
    assert findings(locks.lock(clean())) == []


def test_equal_weights_at_two_steps() -> None:
    found = only(findings(locks.lock(clean(s8=locks.files("1a", "1b")))))
    assert (found.finding, found.steps, found.severity, found.action) == ("duplicate", (1, 8), "error", STOP)


def test_final_weights_at_an_early_step() -> None:
    found = only(findings(locks.lock(clean(s1=locks.files("16a", "16b"), s8=locks.files("16a", "16b")))))
    assert (found.finding, found.steps) == ("equal_to_main", (1, 8))


def test_the_last_step_may_equal_main_and_main_may_be_another() -> None:
    assert findings(locks.lock(clean(main=locks.files("souped", "anneal")))) == []


def test_main_may_lag_behind_a_run_that_goes_on() -> None:
    """One step is main and the last one is not: nothing says that this step has the weights of another."""
    found = only(findings(locks.lock(clean(main=locks.files("8a", "8b")))))
    assert (found.finding, found.steps, found.severity, found.action) == ("equal_to_main", (8,), "note", WARN)
    both = clean(main=locks.files("8a", "8b"), s1=locks.files("8a", "8b"))
    assert only(findings(locks.lock(both))).action == STOP


def test_one_shard_of_the_final_weights() -> None:
    found = only(findings(locks.lock(clean(s8=locks.files("16a", "8b")))))
    assert (found.finding, found.steps) == ("mixed_shards", (8,))
    assert found.detail == (
        "model-00001-of-00002.safetensors is equal to that of step16 and main, but the other shard differs"
    )


def test_equal_shards_under_swapped_names_are_equal_weights() -> None:
    found = only(findings(locks.lock(clean(s1=locks.files("8b", "8a")))))
    assert (found.finding, found.steps, found.action) == ("duplicate", (1, 8), STOP)
    assert found.detail == "the same weights at 2 steps (step1, step8), whose files have other names"
    found = only(findings(locks.lock(clean(s1=locks.files("16b", "16a")))))
    assert (found.finding, found.steps) == ("equal_to_main", (1,))
    assert found.detail == "the weights are equal to those of main, whose files have other names"


@pytest.mark.parametrize(
    ("one", "eight", "detail"),
    [
        (
            ("a", "b", "1c"),
            ("a", "b", "8c"),
            "2 of 3 shards (model-00001-of-00003.safetensors, model-00002-of-00003.safetensors) are equal to "
            "those of step8, but the other shard differs",
        ),
        (
            ("a", "1b", "1c"),
            ("8a", "a", "8c"),
            "model-00001-of-00003.safetensors is equal to a file with another name of step8, but the other 2 "
            "shards differ",
        ),
        (("a", "b"), ("a", "b", "8c"), "all 2 shards are equal to files of step8, which has others besides"),
        (
            ("0a", "8b"),
            ("8a", "8b"),
            "model-00001-of-00002.safetensors is equal to that of step0, but the other shard differs; "
            "model-00002-of-00002.safetensors is equal to that of step8, but the other shard differs",
        ),
    ],
)
def test_what_is_said_of_shared_shards_is_what_is_known(
    one: tuple[str, ...], eight: tuple[str, ...], detail: str
) -> None:
    found = findings(locks.lock(clean(s1=locks.files(*one), s8=locks.files(*eight))))
    assert {f.finding for f in found} == {"mixed_shards"}
    assert next(f for f in found if f.steps == (1,)).detail == detail


def test_two_steps_that_share_a_shard_are_both_named() -> None:
    found = findings(locks.lock(clean(s1=locks.files("1a", "x"), s8=locks.files("8a", "x"))))
    assert [(f.finding, f.steps) for f in found] == [("mixed_shards", (1,)), ("mixed_shards", (8,))]


def test_a_missing_revision_is_dropped_and_known_gaps_are_called_so() -> None:
    revisions = clean()
    del revisions[8]
    found = only(findings(locks.lock(revisions), locks.model(STEPS, gaps=frozenset({8}))))
    assert (found.finding, found.steps, found.action) == ("missing", (8,), DROP)
    assert "known gaps: 8" in found.detail


def test_weights_in_another_format_only() -> None:
    found = findings(locks.lock(clean(s8=locks.files("8a", "8b", format="bin"))))
    assert [(f.finding, f.steps) for f in found] == [("no_weights", (8,))]
    assert "available: bin" in found[0].detail


def test_a_shard_that_is_not_there() -> None:
    files = locks.files("8a", "8b")
    del files["model-00001-of-00002.safetensors"]
    found = only(findings(locks.lock(clean(s8=files))))
    assert (found.finding, found.detail) == ("incomplete", "the revision lacks shard 1 of 2")


def test_no_tokenizer_and_no_configuration() -> None:
    files = locks.files("8a", "8b")
    del files["tokenizer.json"]
    assert only(findings(locks.lock(clean(s8=files)))).finding == "no_tokenizer"
    files = locks.files("8a", "8b")
    del files["config.json"]
    assert only(findings(locks.lock(clean(s8=files)))).finding == "incomplete"


def test_another_tokenizer_is_named_by_the_steps_that_differ_from_the_last() -> None:
    found = only(findings(locks.lock(clean(s1=locks.files("1a", "1b", tokenizer="other")))))
    assert (found.finding, found.steps) == ("tokenizer_changed", (1,))
    assert found.detail == "the tokenizer files differ from those of step16 (tokenizer.json)"


def test_a_configuration_that_changes_in_more_than_words() -> None:
    revisions = clean(s1=locks.files("1a", "1b", config="new"))
    same = {
        locks.git("config"): locks.CONFIG,
        locks.git("new"): {**locks.CONFIG, "transformers_version": "9"},
    }
    other = {**same, locks.git("new"): {**locks.CONFIG, "rope_theta": 5.0}}
    assert findings(locks.lock(revisions, configs=same)) == []
    found = only(findings(locks.lock(revisions, configs=other)))
    assert (found.finding, found.steps) == ("config_changed", (1,))
    assert found.detail == "config.json differs from that of step16 (rope_theta)"


def test_formats_of_different_days() -> None:
    both = {
        **locks.files("8a", "8b", date="2023-05-01"),
        **{n: f for n, f in locks.files("8c", "8d", format="bin", date="2022-01-01").items() if "bin" in n},
    }
    found = only(findings(locks.lock(clean(s8=both))))
    assert (found.finding, found.severity, found.steps) == ("formats_disagree", "note", (8,))
    assert "2023-05-01, 2022-01-01" in found.detail


def test_the_other_format_is_audited_too_but_stops_nothing() -> None:
    """Which of two formats is the clean one is what a user wants to know."""
    revisions = {}
    for step in STEPS:
        pickled = locks.files("final", format="bin")
        revisions[step] = {**locks.files(f"{step}"), "pytorch_model.bin": pickled["pytorch_model.bin"]}
    found = only(findings(locks.lock(revisions)))
    assert (found.finding, found.format, found.severity, found.action) == ("duplicate", "bin", "note", WARN)
    found = only(findings(locks.lock(revisions), locks.model(STEPS, format="bin")))
    assert (found.severity, found.action) == ("error", STOP)


def test_shapes_that_are_not_those_of_the_catalogue() -> None:
    assert findings(locks.lock(clean()), locks.model(STEPS, architecture=locks.CONFIG)) == []
    wider = locks.model(STEPS, architecture={**locks.CONFIG, "hidden_size": 32})
    found = findings(locks.lock(clean()), wider)
    assert {f.finding for f in found} == {"shape"} and "parameters" in found[0].detail


def test_remote_code() -> None:
    revisions = {step: locks.files(f"{step}a", f"{step}b", code="x") for step in STEPS}
    carried = {locks.git("config"): {**locks.CONFIG, "auto_map": {"AutoModelForCausalLM": "modeling.M"}}}
    lock = locks.lock(revisions, configs=carried)
    assert (only(findings(lock)).severity, only(findings(lock)).action) == ("note", WARN)
    needed = only(findings(lock, locks.model(STEPS, needs_code=True)))
    assert (needed.finding, needed.action) == ("remote_code", STOP) and "modeling.py" in needed.detail
    allowed = only(findings(lock, locks.model(STEPS, needs_code=True, remote_code=True)))
    assert (allowed.action, "may run" in allowed.detail) == (WARN, True)


def test_a_moved_branch_and_one_that_is_gone() -> None:
    found = only(findings(locks.lock(clean(), moved={8: "f" * 40})))
    assert (found.finding, found.steps) == ("moved", (8,)) and "now points to ffffffffffff" in found.detail
    assert found.row()["remedy"] == (
        "check what changed; to use the new commit, ebbtide lock --study FILE --follow tiny/step8"
    )
    gone = only(findings(locks.lock(clean(), moved={8: "gone"})))
    assert gone.detail.endswith(" and its branch or tag no longer exists")
    assert "--follow" not in gone.row()["remedy"] and "the hub keeps the commit" in gone.row()["remedy"]
    both = findings(locks.lock(clean(), moved={1: "gone", 8: "f" * 40, 16: "e" * 40}))
    assert [(f.steps, f.detail.rpartition("; ")[2]) for f in both if len(f.steps) > 1] == [
        ((8, 16), "1 more moved")
    ]
    assert {f.steps for f in both} == {(1,), (8, 16)}


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_size": None},
        {"hidden_size": "16"},
        {"hidden_size": -1},
        {"num_hidden_layers": [2]},
        {"text_config": 7},
        {"text_config": [1]},
    ],
)
def test_a_configuration_of_no_shape_is_a_finding(config: dict[str, Any]) -> None:
    odd = {locks.git("config"): {**locks.CONFIG, **config}}
    found = findings(locks.lock(clean(), configs=odd), locks.model(STEPS, architecture=locks.CONFIG))
    assert {f.finding for f in found} <= {"shape"}
    assert all(f.detail.startswith("config.json ") for f in found)


def test_code_that_is_named_but_not_there() -> None:
    named = {locks.git("config"): {**locks.CONFIG, "auto_map": {"AutoModel": "other/repo--modeling.M"}}}
    found = only(findings(locks.lock(clean(), configs=named)))
    assert (found.finding, found.severity) == ("remote_code", "note")
    assert found.detail == (
        "config.json names code (auto_map), but the repository has no Python files; none is run"
    )


def test_a_known_defect_names_its_thread() -> None:
    defect = Defect("the weights are final ones", "lab/tiny#205", frozenset({8, 99}))
    found = only(findings(locks.lock(clean()), locks.model(STEPS, defects=(defect,))))
    assert (found.finding, found.steps, found.reason) == ("defect", (8,), "lab/tiny#205")


def test_an_allowance_needs_all_steps_and_the_right_model() -> None:
    lock = locks.lock(clean(s1=locks.files("0a", "0b")))
    warm_up = Allowance("duplicate", ("ti*",), frozenset({0, 1}), "no learning rate yet")
    found = only(findings(lock, allow=(warm_up,)))
    assert (found.severity, found.action, found.reason) == ("allowed", "allowed", "no learning rate yet")
    for other in [
        Allowance("duplicate", ("ti*",), frozenset({0}), "x"),
        Allowance("duplicate", ("pythia",), None, "x"),
        Allowance("mixed_shards", ("*",), None, "x"),
    ]:
        assert only(findings(lock, allow=(other,))).action == STOP


def test_dropping_takes_out_what_the_finding_names() -> None:
    lock = locks.lock(clean(s8=locks.files("16a", "16b")))
    assert dropped(findings(lock, equal_to_main=DROP)) == {("tiny", "step8")}
    assert dropped(findings(lock)) == set()


def test_errors_come_first_and_are_told() -> None:
    revisions = clean(s8=locks.files("16a", "16b"), s1=locks.files("1a", "1b", tokenizer="other"))
    found = findings(locks.lock(revisions))
    assert [f.severity for f in found] == ["error", "warning"]
    lines = audit_lines([f.row() for f in found])
    assert lines[0] == "Audit: 1 error, 1 warning."
    assert "equal_to_main" in lines[1] and "step 8" in lines[1]


def test_nothing_found_is_said() -> None:
    assert audit_lines([]) == ["Audit: nothing found."]


@pytest.mark.parametrize("steps", [(0,), (16,), (0, 16)])
def test_only_the_steps_of_the_study_are_audited(steps: tuple[int, ...]) -> None:
    lock = locks.lock(clean(s8=locks.files("1a", "1b")))
    assert findings(lock, locks.model(STEPS, schedule=steps)) == []
