"""The audit of directories: what is found before anything is scored, from what planning reads."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import tiny
from ebbtide.checkpoints.directory_audit import audit_directories, equal_across_models
from ebbtide.checkpoints.findings import CLASSES, DROP, STOP, WARN, Allowance, Finding
from ebbtide.checkpoints.load import load_model
from ebbtide.checkpoints.on_disk import DiskModel, model_on_disk
from ebbtide.checkpoints.record import LOCATED
from ebbtide.errors import CheckpointError, ConfigError
from ebbtide.schema import load_schema
from ebbtide.scoring.engine import load_scorer
from ebbtide.scoring.weights import Weights
from reading import opened

AUDIT = load_schema("config")["properties"]["audit"]["properties"]
ACTIONS = {name: rule["default"] for name, rule in AUDIT.items() if name != "allow"}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 5678912345\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for step in (1, 2, 3):
        tiny.hollow_checkpoint(Path(f"r/step{step}"), step)


def model(name: str = "m", path: str = "r/step{step}", **more: Any) -> DiskModel:
    row = {"name": name, "path": path, "steps": "all", "tokens_per_step": 1, "unit": 1, **more}
    return model_on_disk(row, "study.yaml: models[0]")


def audit(*allow: Allowance, **actions: str) -> list[Finding]:
    return audit_directories([model()], {**ACTIONS, **actions}, allow)


def only(found: list[Finding]) -> Finding:
    [finding] = found
    return finding


def shard(directory: str, *files: dict[str, np.ndarray], index: dict[str, int]) -> None:
    """Replace the weights of a directory by shards; `index` has the number of the shard of each tensor."""
    names = [f"model-{i:05}-of-{len(files):05}.safetensors" for i, _ in enumerate(files, start=1)]
    (Path(directory) / WEIGHTS).unlink(missing_ok=True)
    for name, tensors in zip(names, files, strict=True):
        save_file(tensors, Path(directory) / name)
    weight_map = {tensor: names[number - 1] for tensor, number in index.items()}
    (Path(directory) / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def values(number: int, length: int = 4) -> np.ndarray:
    return np.full(length, number, dtype=np.float32)


def test_fatal_classes_are_those_that_cannot_be_allowed() -> None:
    allowed = set(AUDIT["allow"]["items"]["properties"]["finding"]["enum"])
    assert {name for name, kind in CLASSES.items() if not kind.is_fatal} == allowed
    hard = {name for name, rule in AUDIT.items() if rule.get("$ref") == "#/$defs/hard_action"}
    assert hard == CLASSES.keys() - allowed


def test_different_weights_have_no_findings_and_are_read_once() -> None:
    assert audit() == []
    assert opened(audit) == []


def test_equal_weights_at_two_steps_are_found_even_under_another_config() -> None:
    shutil.copy("r/step1/model.safetensors", "r/step3")
    config = json.loads(Path("r/step3/config.json").read_text())
    Path("r/step3/config.json").write_text(json.dumps({**config, "_name_or_path": "elsewhere"}))
    found = only(audit())
    assert (found.finding, found.steps, found.action, found.where) == (
        *("duplicate", (1, 3), STOP),
        "study.yaml: models[0].path",
    )
    assert found.detail == "the same weights at 2 steps (r/step1, r/step3)"
    assert opened(audit) == []  # also when everything is from the records
    allowed = only(audit(Allowance("duplicate", ("m",), frozenset({1, 3}), "warm-up from zero")))
    assert (allowed.action, allowed.reason) == ("allowed", "warm-up from zero")


def test_one_directory_under_two_names_is_found() -> None:
    one, other = model(), model("other", "r/../r/step{step}", steps=[1, 3])
    found = only(equal_across_models({m.name: m.model() for m in (one, other)}, [one, other], ACTIONS, ()))
    assert (found.finding, found.model, found.steps, found.action) == (
        "duplicate_models",
        "other",
        (1, 3),
        WARN,
    )
    assert found.detail == "the same weights as m (step1, step3)"


def test_a_copy_of_one_step_among_another_models_steps_is_found() -> None:
    shutil.copytree("r/step2", "other/step20")
    tiny.hollow_checkpoint(Path("other/step40"), 40)
    one, other = model(), model("other", "other/step{step}")
    found = only(equal_across_models({m.name: m.model() for m in (one, other)}, [one, other], ACTIONS, ()))
    assert (found.steps, found.detail) == ((20,), "the same weights as m (step2)")


def test_an_interrupted_copy_shares_a_shard() -> None:
    for step in (1, 2, 3):
        shard(f"r/step{step}", {"a": values(step)}, {"b": values(-step)}, index={"a": 1, "b": 2})
    shutil.copy("r/step1/model-00002-of-00002.safetensors", "r/step2")
    found = audit()
    assert [(f.finding, f.steps, f.action) for f in found] == [
        ("mixed_shards", (1,), STOP),
        ("mixed_shards", (2,), STOP),
    ]
    assert found[1].detail == (
        "model-00002-of-00002.safetensors is equal to that of r/step1, but the other files differ"
    )


# What can be wrong with one directory: change → class, sentence
def entry(size: int, *shape: int) -> dict[str, Any]:
    """A tensor of a header, of `size` bytes from the beginning of the values."""
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}


def headed(directory: Path, header: dict[str, Any], length: int | None = None) -> None:
    """Write a safetensors file with this header and four bytes of values."""
    text = json.dumps(header).encode()
    size = len(text) if length is None else length
    (directory / WEIGHTS).write_bytes(size.to_bytes(8, "little") + text + bytes(4))


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no weights": (
        lambda d: (d / WEIGHTS).unlink(),
        "no_weights",
        f"r/step2 has neither {WEIGHTS} nor {INDEX} (found: config.json, tokenizer.json, "
        "tokenizer_config.json)",
    ),
    "DeepSpeed": (
        lambda d: [(d / WEIGHTS).unlink(), (d / "zero_to_fp32.py").touch(), (d / "global_step2").mkdir()],
        "no_weights",
        "it has a DeepSpeed state: run `python zero_to_fp32.py . . --safe_serialization` in it)",
    ),
    "pickled": (
        lambda d: (d / WEIGHTS).rename(d / "pytorch_model.bin"),
        "no_weights",
        "it has pickled weights: set `format: pt`, and `map:` if its names are not those of transformers",
    ),
    "adapter": (
        lambda d: (d / "adapter_config.json").write_text('{"base_model_name_or_path": "big/base"}'),
        "no_weights",
        "is a PEFT adapter (adapter_config.json) of the model big/base, not a whole model; set `format",
    ),
    "pointer": (
        lambda d: (d / WEIGHTS).write_text(POINTER),
        "incomplete",
        f"r/step2/{WEIGHTS} is a pointer of Git LFS (135 bytes) instead of the file; run git lfs pull in its "
        "repository",
    ),
    "pointer of a config": (
        lambda d: (d / "config.json").write_text(POINTER),
        "incomplete",
        "r/step2/config.json is a pointer of Git LFS (135 bytes) instead of the file; run git lfs pull",
    ),
    "pointer of a tokenizer": (
        lambda d: (d / "tokenizer.json").write_text(POINTER),
        "incomplete",
        "r/step2/tokenizer.json is a pointer of Git LFS (135 bytes) instead of the file; run git lfs pull",
    ),
    "empty": (
        lambda d: (d / WEIGHTS).write_bytes(b""),
        "incomplete",
        f"r/step2/{WEIGHTS} is empty; copy the file again",
    ),
    "header beyond the file": (
        lambda d: (d / WEIGHTS).write_bytes(b"\xff\xff" + bytes(6) + b'{"a": '),
        "incomplete",
        f"r/step2/{WEIGHTS} is not a complete safetensors file (its header claims 65,535 of 14 bytes);",
    ),
    "deep header": (
        lambda d: (d / WEIGHTS).write_bytes((200_000).to_bytes(8, "little") + b"[" * 200_000),
        "incomplete",
        f"r/step2/{WEIGHTS} is not a complete safetensors file; copy the file again",
    ),
    "truncated": (
        lambda d: (d / WEIGHTS).write_bytes((d / WEIGHTS).read_bytes()[:-2]),
        "incomplete",
        f"r/step2/{WEIGHTS} has 74 bytes, its header implies 76; copy the file again",
    ),
    "empty tensor": (
        lambda d: save_file({"a": values(1, 0)}, d / WEIGHTS),
        "incomplete",
        "tensor a has no values, as ZeRO stage 3 saves it; gather the weights when saving",
    ),
    "no config": (
        lambda d: (d / "config.json").unlink(),
        "incomplete",
        "r/step2 has no config.json; it is needed to load the checkpoint",
    ),
    "missing shard": (
        lambda d: [
            shard(str(d), {"a": values(1)}, {"b": values(2)}, index={"a": 1, "b": 2}),
            (d / "model-00002-of-00002.safetensors").unlink(),
        ],
        "incomplete",
        f"r/step2 lacks model-00002-of-00002.safetensors, which {INDEX} lists",
    ),
    "index of another file": (
        lambda d: shard(str(d), {"a": values(1)}, {"b": values(2)}, index={"a": 2, "b": 1}),
        "incomplete",
        f"r/step2: {INDEX} assigns a to model-00002-of-00002.safetensors, which does not contain it "
        "(it is in model-00001-of-00002.safetensors); copy or save the checkpoint again",
    ),
    "index of an unknown tensor": (
        lambda d: shard(str(d), {"a": values(1)}, {"b": values(2)}, index={"a": 1, "b": 2, "c": 2}),
        "incomplete",
        "assigns c to model-00002-of-00002.safetensors, which does not contain it (no file has it)",
    ),
    "index that climbs": (
        lambda d: [
            (d / WEIGHTS).unlink(),
            (d / INDEX).write_text('{"weight_map": {"a": "../x.safetensors"}}'),
        ],
        "incomplete",
        f"r/step2/{INDEX} lists '../x.safetensors', which is not a plain file name",
    ),
    "no tensors": (
        lambda d: (d / WEIGHTS).write_bytes(b"\x02" + bytes(7) + b"{}"),
        "no_weights",
        f"r/step2/{WEIGHTS} contains no tensors",
    ),
    "index of nothing": (
        lambda d: [(d / WEIGHTS).unlink(), (d / INDEX).write_text('{"weight_map": {}}')],
        "no_weights",
        f"r/step2/{INDEX} lists no files",
    ),
    "broken link": (
        lambda d: [(d / WEIGHTS).unlink(), (d / WEIGHTS).symlink_to("../blobs/0")],
        "no_weights",
        f"; {WEIGHTS} is a link to a file that does not exist)",
    ),
    "deep config": (
        lambda d: (d / "config.json").write_text('{"a": ' + "[" * 100_000),
        "incomplete",
        "r/step2/config.json is not readable JSON (",
    ),
    "a directory as a file": (
        lambda d: [(d / WEIGHTS).unlink(), (d / WEIGHTS).mkdir()],
        "incomplete",
        f"r/step2/{WEIGHTS} cannot be read (it is a directory, not a regular file)",
    ),
    "header that claims everything": (
        lambda d: headed(d, {"a": entry(4, 1)}, length=1 << 60),
        "incomplete",
        "safetensors file (its header claims 1,152,921,504,606,846,976 of 73 bytes); copy the file again",
    ),
    "a million tensors": (
        lambda d: headed(d, {str(i): entry(4, 1) for i in range(200_001)}),
        "incomplete",
        "safetensors file (its header has more than 200,000 tensors); copy the file again",
    ),
    "shape that overflows": (
        lambda d: headed(d, {"a": entry(4, 2**62, 2**62, 4)}),
        "incomplete",
        "safetensors file (tensor a has 4 bytes, its shape implies another number); copy the file again",
    ),
    "shape of a million dimensions": (
        lambda d: headed(d, {"a": entry(4, *([2**62] * 200_000))}),
        "incomplete",
        "safetensors file (tensor a has 4 bytes, its shape implies another number); copy the file again",
    ),
    "overlapping tensors": (
        lambda d: headed(d, {"a": entry(4, 1), "b": entry(4, 1)}),
        "incomplete",
        "safetensors file (tensor b does not begin where the one before it ends); copy the file again",
    ),
    "a billion layers": (
        lambda d: (d / "config.json").write_text('{"text_config": {"num_hidden_layers": 1000000000}}'),
        "incomplete",
        "r/step2/config.json: text_config.num_hidden_layers: found 1,000,000,000, allowed: at most 10,000",
    ),
    "a pipe as weights": (
        lambda d: [(d / WEIGHTS).unlink(), os.mkfifo(d / WEIGHTS)],
        "incomplete",
        f"r/step2/{WEIGHTS} cannot be read (it is a named pipe, not a regular file)",
    ),
    "a pipe as index": (
        lambda d: [(d / WEIGHTS).unlink(), os.mkfifo(d / INDEX)],
        "incomplete",
        f"r/step2/{INDEX} cannot be read (it is a named pipe, not a regular file)",
    ),
    "a pipe as tokenizer": (
        lambda d: [(d / "tokenizer.json").unlink(), os.mkfifo(d / "tokenizer.json")],
        "incomplete",
        "r/step2/tokenizer.json cannot be read (it is a named pipe, not a regular file)",
    ),
    "a device as settings of the tokenizer": (
        lambda d: (d / "special_tokens_map.json").symlink_to("/dev/zero"),
        "incomplete",
        "r/step2/special_tokens_map.json cannot be read (it is a device, not a regular file)",
    ),
    "10 GB of tokenizer": (
        lambda d: os.truncate(d / "tokenizer.json", 10**10),
        "incomplete",
        "r/step2/tokenizer.json has 10,000,000,000 bytes, allowed: at most 268,435,456; copy the file again",
    ),
    "no tokenizer": (
        lambda d: (d / "tokenizer.json").unlink(),
        "no_tokenizer",
        "no tokenizer.json in r/step2 or its parent",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_directory_is_a_finding_with_its_reason(what: str) -> None:
    damage, kind, sentence = BROKEN[what]
    damage(Path("r/step2"))
    found = only(audit())
    assert (found.finding, found.steps, found.action) == (kind, (2,), STOP)
    assert sentence in found.detail
    assert [c.step for c in model().model().checkpoints] == [1, 3]
    assert only(audit(**{kind: DROP})).action == DROP


def test_leftovers_beside_good_weights_are_ignored() -> None:
    for name in (
        "optimizer.pt",
        "rng_state.pth",
        "trainer_state.json",
        "zero_to_fp32.py",
        "training_args.bin",
    ):
        Path("r/step2", name).write_text("x")
    Path("r/step2/global_step2").mkdir()
    Path("r/step2/global_step2/mp_rank_00_model_states.pt").touch()
    before = [c.weights for c in model().model().checkpoints]
    assert audit() == []
    assert [c.weights for c in model().model().checkpoints] == before


@pytest.fixture
def llama() -> Path:
    """A tied model in two shards."""
    directory = tiny.checkpoint(Path("whole"), "llama")
    shutil.rmtree("r")
    shutil.copytree(directory, "r/step1")
    return Path("r/step1")


@pytest.mark.parametrize("named", [1, 2])
def test_a_tensor_in_two_shards_is_found_and_the_index_decides(llama: Path, named: int) -> None:
    tensors, norm = load_file(llama / WEIGHTS), "model.norm.weight"
    rest = {name: tensor for name, tensor in tensors.items() if name != norm}
    first, *others = rest
    right, old = {norm: tensors[norm]}, {norm: tensors[norm] * 9}
    files = [{first: rest[first]}, {name: rest[name] for name in others}]
    files = [part | (right if number == named else old) for number, part in enumerate(files, start=1)]
    shard(str(llama), *files, index=dict.fromkeys(others, 2) | {first: 1, norm: named})

    found = only(audit())
    assert (found.finding, found.action) == ("repeated_tensor", STOP)
    assert found.detail == (
        f"r/step1: several files contain the same tensors: {norm} (model-00001-of-00002.safetensors and "
        "model-00002-of-00002.safetensors)"
    )
    with Weights(llama, torch.float32, "cpu") as weights:
        assert np.array_equal(weights.take(norm, [16]).numpy(), tensors[norm])
    assert load_scorer(llama).implementation == "ebbtide"  # no tensor is left over
    with pytest.raises(CheckpointError, match="two files, for which transformers ignores the index"):
        load_model(llama, "float32")


def test_a_head_that_differs_from_the_embedding_it_is_tied_to_is_found(llama: Path) -> None:
    tensors = load_file(llama / WEIGHTS)
    embedding = tensors["model.embed_tokens.weight"]
    save_file({**tensors, "lm_head.weight": embedding.copy()}, llama / WEIGHTS, metadata={"format": "pt"})
    assert audit() == []
    save_file({**tensors, "lm_head.weight": embedding * 2}, llama / WEIGHTS, metadata={"format": "pt"})
    found = only(audit())
    assert (found.finding, found.action) == ("lone_head", WARN)
    assert found.detail == ("r/step1: lm_head.weight differs from the embedding to which config.json ties it")
    head = load_model(llama, "float32").get_output_embeddings().weight
    assert np.array_equal(head.detach().numpy(), embedding * 2)  # as the remedy says


def test_other_shapes_configurations_and_tokenizers_are_found() -> None:
    save_file({"number": values(2, 5)}, "r/step2/model.safetensors")
    config = json.loads(Path("r/step1/config.json").read_text())
    Path("r/step1/config.json").write_text(json.dumps({**config, "rotary_pct": 1.0, "use_cache": False}))
    Path("r/step1/tokenizer_config.json").write_text("{}")
    found = {f.finding: f for f in audit()}
    assert {name: (f.steps, f.action) for name, f in found.items()} == {
        "tokenizer_changed": ((1,), WARN),
        "config_changed": ((1,), WARN),
        "shape": ((2,), STOP),
    }
    assert found["shape"].detail == "the tensors of step2 and step3 have different shapes (5 and 1 values)"
    assert found["config_changed"].detail == "config.json differs from that of step3 ('rotary_pct')"


def test_a_tokenizer_of_the_parent_is_said_and_a_missing_one_has_its_remedy() -> None:
    for file in Path("r").glob("*/tokenizer*"):
        file.unlink()
    found = only(audit())
    assert (found.finding, found.steps, found.where) == (
        "no_tokenizer",
        (1, 2, 3),
        "study.yaml: models[0].path",
    )
    assert f"{found.detail}. {found.how_to_fix()}" == (
        "no tokenizer.json in r/step1 or its parent. set `tokenizer:` to the directory that has it"
    )
    tiny.hollow_checkpoint(Path("words"))
    shutil.copy("words/tokenizer.json", "r")
    found = only(audit())
    assert (found.finding, found.severity) == ("tokenizer_of_parent", "note")
    assert found.detail == "no tokenizer.json beside the weights; that of the parent directory is used (r)"


def test_shards_beside_a_whole_file_are_said_to_be_ignored() -> None:
    """The last save of a run may be one file, an earlier one shards, in the same directory."""
    whole = Path("r/step2") / WEIGHTS
    kept = whole.read_bytes()
    shard("r/step2", {"a": values(1)}, {"b": values(2)}, index={"a": 1, "b": 2})
    whole.write_bytes(kept)
    found = only(audit())
    assert (found.finding, found.steps, found.severity) == ("index_disagrees", (2,), "warning")
    assert f"{found.detail}; {found.how_to_fix()}" == (
        f"{WEIGHTS} is used; the shards of {INDEX} beside it are ignored (r/step2); delete {WEIGHTS}, or "
        f"{INDEX} and its shards, whichever is not of this step"
    )


@pytest.mark.parametrize("delete", ["directory", "weights"])
def test_weights_deleted_after_scoring_keep_their_results_and_are_said(delete: str) -> None:
    before = model().model()
    if delete == "directory":
        shutil.rmtree("r/step2")
    else:
        Path("r/step2/model.safetensors").unlink()
    assert model().model() == before  # also with `steps: all`, although the directory is gone
    found = only(audit())
    assert (found.finding, found.steps, found.severity) == ("gone", (2,), "note")
    assert found.detail == "weights have been deleted (r/step2); earlier results are used"
    assert model(steps=[2]).model().checkpoints == before.checkpoints[1:2]


def test_records_answer_for_their_own_path_only() -> None:
    """The path of a model was changed to one that does not exist."""
    model()
    shutil.rmtree("r/step2")
    Path("b").mkdir()
    for path, steps in (("b/step{step}", [1, 2]), ("nowhere/step{step}", [2])):
        with pytest.raises(
            ConfigError, match=rf"path: {path.format(step=steps[0])} is not a directory, and "
        ):
            model(path=path, steps=steps)
    with pytest.raises(ConfigError, match=r"no directory matches 'b/step\{step\}'"):
        model(path="b/step{step}")
    with pytest.raises(ConfigError, match=r"path: r/step2 is not a directory|step 2|found 2"):
        model("another", steps=[2])
    # An older record has no path.
    record = Path("resources/checkpoints/m/step2", LOCATED)
    known = json.loads(record.read_text())
    record.write_text(json.dumps({k: v for k, v in known.items() if k not in ("path", "facts")}))
    with pytest.raises(ConfigError, match=r"is the record of another, .*/r/step2\. Correct the path"):
        model(path="nowhere/step{step}", steps=[2])
    found = only(audit())
    assert (found.finding, found.detail) == (
        "gone",
        f"weights have been deleted ({Path('r/step2').resolve()}); earlier results are used; no audit has "
        "seen 1 of them",
    )


def test_a_link_that_now_leads_elsewhere_is_another_path() -> None:
    shutil.move("r", "first")
    Path("second").mkdir()
    Path("r").symlink_to("first")
    model()
    Path("r").unlink()
    Path("r").symlink_to("second")
    with pytest.raises(ConfigError, match=r"path: r/step1 is not a .* of another, .*/first/step1"):
        model(steps=[1])


def test_the_same_path_may_be_written_differently_or_move_with_its_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model().model()
    shutil.rmtree("r/step2")
    assert model(path=f"{tmp_path}/r/step{{step}}").model() == before
    assert model(path="./r/step{step}").model() == before
    moved = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}-moved")
    monkeypatch.chdir(moved)
    assert [c.weights for c in model(steps=[2]).model().checkpoints] == [before.checkpoints[1].weights]


WORDS = ("weight_map", "dtype", "shape", "data_offsets", "F32", "text_config", "model_type", "llama", "facts")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
CONTENT = st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode())
FILES = ("config.json", INDEX, WEIGHTS, "tokenizer.json", "adapter_config.json", "record")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FILES), CONTENT)
def test_no_content_of_a_file_is_a_traceback(tmp_path: Path, name: str, content: bytes) -> None:
    shutil.rmtree("r")
    shutil.rmtree("resources", ignore_errors=True)
    directory = tiny.hollow_checkpoint(Path("r/step1"))
    if name == "record":
        record = Path("resources/checkpoints/m/step1", LOCATED)
        record.parent.mkdir(parents=True)
        record.write_bytes(content)
    elif name == WEIGHTS:
        (directory / name).write_bytes(len(content).to_bytes(8, "little") + content)
    else:
        (directory / name).write_bytes(content)
        if name == INDEX:
            (directory / WEIGHTS).unlink()
    for finding in audit():
        assert finding.action in (STOP, WARN)
        assert not any(character in finding.detail for character in "\n\r\x1b")
    assert {path.name for path in tmp_path.iterdir()} <= {"r", "resources"}
