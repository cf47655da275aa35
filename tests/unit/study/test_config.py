"""Bad input: each mistake gets one sentence that names file, key, what was found and what is allowed."""

import copy
from collections.abc import Callable

import pytest
import yaml

import tiny
from ebbtide.errors import ConfigError
from ebbtide.study.checks import RENAMED
from ebbtide.study.load import load_study, read_study
from ebbtide.study.study import Study
from workspace import ROOT, Workspace, write_small_study


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return write_small_study(tmp_path)


def change(name: str, edit: Callable[[dict], object]) -> Callable[[Workspace], None]:
    """A mistake made by editing one YAML file."""

    def make(workspace: Workspace) -> None:
        with workspace.edited(name) as content:
            edit(content)

    return make


def text(name: str, content: str) -> Callable[[Workspace], None]:
    """A mistake made by writing a file."""
    return lambda workspace: (workspace.path / name).write_text(content) and None


def config(edit: Callable[[dict], object]) -> Callable[[Workspace], None]:
    return change("config.yaml", edit)


def series(edit: Callable[[dict], object]) -> Callable[[Workspace], None]:
    return change("series.yaml", edit)


def task(edit: Callable[[dict], object]) -> Callable[[Workspace], None]:
    return change("tasks/memo_trap.yaml", edit)


DATA = {"file": "https://example.org/data.jsonl", "sha256": "0" * 64}

# mistake → what the sentence must contain
MISTAKES = {
    "typo in a key": (
        config(lambda c: c.update(modles=c.pop("models"))),
        ["config.yaml", "modles", "unknown key", "did you mean 'models'"],
    ),
    "typo in a nested key": (
        config(lambda c: c["scoring"].update(dytpe="float32")),
        ["config.yaml", "scoring.dytpe", "did you mean 'dtype'"],
    ),
    "a key written twice": (
        text("config.yaml", "study: a\nstudy: b\nmodels: []\ntasks: []\n"),
        ["config.yaml", "'study'", "twice", "line 2"],
    ),
    "not YAML": (text("config.yaml", "study: [a\n"), ["config.yaml", "not valid YAML"]),
    "no models": (config(lambda c: c.pop("models")), ["config.yaml", "models", "found none"]),
    "empty grid": (
        config(lambda c: c.update(models=[])),
        ["config.yaml", "models", "found none", "at least one"],
    ),
    "empty tasks": (config(lambda c: c.update(tasks=[])), ["config.yaml", "tasks", "at least one"]),
    "empty steps": (
        config(lambda c: c["models"][0].update(steps=[])),
        ["config.yaml", "models[0].steps", "[]", "at least 1 entries", "a list of steps"],
    ),
    "unknown task": (
        config(lambda c: c["tasks"].append("memo_trip")),
        ["config.yaml", "tasks[3]", "'memo_trip'", "arithmetic", "did you mean 'memo_trap'"],
    ),
    "missing task file": (
        config(lambda c: c["tasks"].append("tasks/none.yaml")),
        ["config.yaml", "tasks[3]", "tasks/none.yaml", "does not exist"],
    ),
    "task named twice": (
        config(lambda c: c["tasks"].append("memo_trap")),
        ["config.yaml", "tasks[3]", "second task", "'memo_trap'"],
    ),
    "unknown series": (
        config(lambda c: c["models"][0].update(series="laddder")),
        [
            "config.yaml",
            "models[0].series",
            "'laddder'",
            "ladder, ladder_cases, ladder_control",
            "did you mean",
        ],
    ),
    "unknown size": (
        config(lambda c: c["models"][0].update(sizes=["small-d12"])),
        ["config.yaml", "models[0].sizes", "'small-d12'", "small-d8, small-d16"],
    ),
    "step that does not exist": (
        config(lambda c: c["models"][0].update(steps=[17])),
        ["config.yaml", "models[0].steps", "17", "series.yaml", "nearest: 0 and 16"],
    ),
    "duplicate checkpoint": (
        config(lambda c: c["models"][0].update(steps=[16, 16])),
        ["config.yaml", "models[0].steps", "[16, 16]", "each entry once"],
    ),
    "two models with one name": (
        config(lambda c: c["models"].append(copy.deepcopy(c["models"][0]))),
        ["config.yaml", "models[1]", "'small-d8'", "names must differ"],
    ),
    "study name with a slash": (
        config(lambda c: c.update(study="a/b")),
        ["config.yaml", "study", "'a/b'", "matches"],
    ),
    "study name that climbs": (config(lambda c: c.update(study="..")), ["config.yaml", "study", "'..'"]),
    "model name with a slash": (
        series(lambda s: s["models"].update({"../d8": s["models"].pop("small-d8")})),
        ["series.yaml", "models", "'../d8'"],
    ),
    "wrong type": (
        config(lambda c: c["models"][0].update(steps="1000")),
        ["config.yaml", "models[0].steps", "'1000'", "list of steps"],
    ),
    "wrong value": (
        config(lambda c: c["scoring"].update(dtype="float8")),
        ["config.yaml", "scoring.dtype", "'float8'", "checkpoint, float32, float64, bfloat16, float16"],
    ),
    "unknown encoding": (
        config(lambda c: c["scoring"].update(encoding="seperate")),
        ["config.yaml", "scoring.encoding", "harness, joint, separate", "did you mean 'separate'"],
    ),
    "unknown use of the beginning token": (
        config(lambda c: c["scoring"].update(bos=True)),
        ["config.yaml", "scoring.bos", "True", "tokenizer, always, never"],
    ),
    "unknown truncation": (
        config(lambda c: c["scoring"].update(truncation="right")),
        ["config.yaml", "scoring.truncation", "'right'", "left, refuse"],
    ),
    "window of one token": (
        config(lambda c: c["scoring"].update(max_length=1)),
        ["config.yaml", "scoring.max_length", "1", "at least 2"],
    ),
    "unknown back end": (
        config(lambda c: c["scoring"].update(backend="fakes")),
        ["config.yaml", "scoring.backend", "'fakes'", "auto, transformers, fake", "did you mean 'fake'"],
    ),
    "checks of made-up numbers": (
        config(lambda c: c["scoring"].update(backend="fake", rescore_examples=2)),
        ["config.yaml", "scoring.rescore_examples", "found 2", "scoring.backend: fake", "set it to 0"],
    ),
    "negative number of checks": (
        config(lambda c: c["scoring"].update(rescore_examples=-1)),
        ["config.yaml", "scoring.rescore_examples", "-1", "at least 0"],
    ),
    "checks that are no number": (
        config(lambda c: c["scoring"].update(rescore_examples="all")),
        ["config.yaml", "scoring.rescore_examples", "'all'", "integer"],
    ),
    "negative step": (
        config(lambda c: c["models"][0].update(steps=[-1])),
        ["config.yaml", "models[0].steps"],
    ),
    "level outside (0, 1)": (
        config(lambda c: c.update(regression={"alpha": 1.5})),
        ["config.yaml", "regression.alpha", "1.5", "less than 1"],
    ),
    "missing directory": (
        config(lambda c: c["models"].append({"name": "mine", "path": "/no/such/model"})),
        ["config.yaml", "models[1].path", "/no/such/model", "not a directory"],
    ),
    "steps without a place in the path": (
        config(lambda c: c["models"].append({"name": "mine", "path": "m", "steps": [1, 2]})),
        ["config.yaml", "models[1].path", "{step}"],
    ),
    "a place without steps": (
        config(lambda c: c["models"].append({"name": "mine", "path": "m/{step}"})),
        ["config.yaml", "models[1].steps", "missing", "{step}"],
    ),
    "missing mirror": (
        config(lambda c: c.update(mirrors=["/no/such/mirror"])),
        ["mirrors", "/no/such/mirror"],
    ),
    "negative size": (
        series(lambda s: s["models"]["small-d8"].update(width=-8)),
        ["series.yaml", "models.small-d8.width", "-8", "at least"],
    ),
    "size that heads do not divide": (
        series(lambda s: s["models"]["small-d16"].update(heads=3)),
        ["series.yaml", "models.small-d16", "heads"],
    ),
    "checkpoint after the end": (
        series(lambda s: s["checkpoints"].append(512)),
        ["series.yaml", "checkpoints", "512", "256"],
    ),
    "unknown kind of document": (
        series(lambda s: s["corpus"]["mixture"].update(proverbs=0.1)),
        ["series.yaml", "mixture", "proverbs", "proverb"],
    ),
    "unknown toy task": (
        task(lambda t: t["source"].update(toy="memotrap")),
        ["tasks/memo_trap.yaml", "source.toy", "'memotrap'", "did you mean 'memo_trap'"],
    ),
    "task about another world": (
        task(lambda t: t["source"].update(world={"seed": 1, "proverbs": 24, "zipf": 0.7})),
        ["tasks/memo_trap.yaml", "source.world", "'seed': 1", "small-d8", "must be equal"],
    ),
    "held-out text of another mixture": (
        change("config.yaml", lambda c: c["tasks"].append("tasks/held_out_loss.yaml")),
        ["tasks/held_out_loss.yaml", "source.mixture", "'story'", "small-d8", "must be equal"],
    ),
    "task without a hash": (
        task(
            lambda t: (
                t.update(include="_toy_language.yaml", source={"file": DATA["file"]}) or t.pop("include")
            )
        ),
        ["tasks/memo_trap.yaml", "source.sha256", "missing"],
    ),
    "source on a branch": (
        task(lambda t: t.pop("include") and t.update(source={**DATA, "file": "github:a/b@main:c.jsonl"})),
        ["tasks/memo_trap.yaml", "source.file", "main", "40"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_sentence(workspace, mistake):
    make, fragments = MISTAKES[mistake]
    make(workspace)
    with pytest.raises(ConfigError) as caught:
        read_study("config.yaml")
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?")), sentence
    for fragment in fragments:
        assert fragment in sentence, sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake", ["typo in a key", "unknown task", "negative size", "task about another world"]
)
def test_snakemake_shows_the_sentence_and_no_traceback(workspace, mistake):
    make, fragments = MISTAKES[mistake]
    make(workspace)
    done = workspace.snakemake("--dry-run", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert 'File "' not in done.stdout
    for fragment in fragments:
        assert fragment in done.stdout


def test_the_file_that_holds_the_key_is_named(workspace):
    """With several config files, the message names the one at fault."""
    from ebbtide.study.load import load_study

    (workspace.path / "more.yaml").write_text("tasks: [nothing]\n")
    merged = {**workspace.read_yaml("config.yaml"), **workspace.read_yaml("more.yaml")}
    with pytest.raises(ConfigError, match=r"^ConfigError: more\.yaml: tasks\[0\]"):
        load_study(merged, ["config.yaml", "more.yaml"])


def test_the_nearest_name_comes_before_the_long_list(workspace):
    with workspace.edited("config.yaml") as content:
        content["tasks"] = ["memo_trip"]
    with pytest.raises(ConfigError) as caught:
        read_study("config.yaml")
    sentence = str(caught.value)
    assert sentence.startswith(
        "ConfigError: config.yaml: tasks[0]: found 'memo_trip'; did you mean 'memo_trap' or "
    )
    assert "? Allowed: addition_1_digits, " in sentence
    assert sentence.endswith(", or the path of a YAML file.")


def test_the_small_study_is_valid(workspace):
    study = read_study("config.yaml")
    assert isinstance(study, Study)
    assert [c.name for c in study.checkpoints()] == ["step0", "step16", "step256"] * 2


def on_disk(workspace: Workspace, **scoring: object) -> Study:
    """The study of a checkpoint on disk that says its precision is an eight-bit type."""
    checkpoint = workspace.path / "eight"
    if not checkpoint.exists():
        tiny.hollow_checkpoint(checkpoint)
        (checkpoint / "config.json").write_text('{"dtype": "float8_e4m3fn"}')
    with workspace.edited("config.yaml") as content:
        content["models"] = [{"name": "eight", "path": "eight"}]
        content["scoring"] = scoring
    return read_study("config.yaml")


def test_a_precision_that_cannot_be_scored_in_must_be_replaced(workspace):
    with pytest.raises(ConfigError) as caught:
        on_disk(workspace)
    assert str(caught.value) == (
        "ConfigError: config.yaml: scoring.dtype: found 'checkpoint', but eight/main has the precision "
        "'float8_e4m3fn'; set one of float32, float64, bfloat16, float16."
    )
    study = on_disk(workspace, dtype="bfloat16")
    [checkpoint] = study.checkpoints()
    assert study.identity(checkpoint, "fact_qa")["dtype"] == "bfloat16"


def test_models_trained_here_are_scored_in_their_own_precision(workspace):
    study = read_study("config.yaml")
    assert {study.identity(c, "fact_qa")["dtype"] for c in study.checkpoints()} == {"float32"}


def test_the_schema_allows_what_the_code_knows():
    from ebbtide.checkpoints.precision import DTYPES
    from ebbtide.schema import load_schema
    from ebbtide.scoring.encoding import BOS, ENCODINGS, TRUNCATIONS
    from ebbtide.scoring.scorer import BACKENDS

    scoring = load_schema("config")["properties"]["scoring"]["properties"]
    known = {"encoding": ENCODINGS, "bos": BOS, "truncation": TRUNCATIONS, "dtype": ("checkpoint", *DTYPES)}
    known["backend"] = BACKENDS
    assert {key: tuple(scoring[key]["enum"]) for key in known} == known


@pytest.mark.parametrize("path", ["config.yaml", "studies/ladder_control.yaml"])
def test_shipped_studies_are_valid(path, monkeypatch):
    from workspace import ROOT

    monkeypatch.chdir(ROOT)
    assert read_study(path).name


def test_every_key_of_every_schema_is_described():
    from workspace import ROOT

    def undescribed(schema: dict, place: str) -> list[str]:
        found = []
        for name, value in schema.get("properties", {}).items():
            here = f"{place}.{name}"
            if "description" not in value and "$ref" not in value and "if" not in value:
                found.append(here)
            found += undescribed(value, here)
            found += undescribed(value.get("items", {}), here)
        if "properties" in schema and schema.get("additionalProperties") is not False:
            found.append(f"{place}: additionalProperties is not false")
        return found

    for file in (ROOT / "workflow/schemas").glob("*.yaml"):
        schema = yaml.safe_load(file.read_text())
        parts = {"": schema, **schema.get("$defs", {})}
        assert [u for name, part in parts.items() for u in undescribed(part, f"{file.name}{name}")] == []


def test_a_job_of_a_run_loads_its_own_models_and_repeats_no_check_of_the_whole(workspace):
    with workspace.edited("config.yaml") as content:
        content["models"].append({"name": "other", "path": "nowhere", "steps": [1], "tokens_per_step": 1})
        content["alarms"] = {
            "allow": [{"model": "small-d16", "task": "memo_trap", "reason": "known", "until": "2999-01-01"}]
        }
    content = workspace.read_yaml("config.yaml")
    with pytest.raises(ConfigError, match="nowhere"):
        load_study(content, ["config.yaml"])
    part = load_study(content, ["config.yaml"], only={"small-d8"})
    assert list(part.models) == ["small-d8"]  # no directory of another row was read
    content["models"].pop()
    whole = load_study(content, ["config.yaml"])
    checkpoint = part.checkpoint("small-d8", "step16")
    assert checkpoint == whole.checkpoint("small-d8", "step16")
    assert part.part("metrics", checkpoint) == whole.part("metrics", checkpoint)


def test_the_changelog_lists_every_renamed_key() -> None:
    table = (ROOT / "CHANGELOG.md").read_text()
    for old, new in RENAMED.items():
        assert f"| `{old}` | `{new}` |" in table
