"""`ebbtide publish`: what each tracker's own reader finds after one publication, and after further ones."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from ebbtide import cli, environment
from ebbtide.exchange.trackers import points as points_module
from ebbtide.exchange.trackers.points import tracker_name
from ebbtide.study.study import Study
from tracked import READERS, Found, Points, alarms, metrics, near, study_of, write_results

Z = NormalDist().inv_cdf(0.975)
TRACKERS = [
    "tensorboard",
    pytest.param("mlflow", marks=pytest.mark.xdist_group("mlflow")),
    pytest.param("wandb", marks=pytest.mark.xdist_group("wandb")),
    pytest.param(
        "trackio",
        marks=pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed"),
    ),
]
PRECISION = {"tensorboard": 1e-6}  # of 32 bits


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow without runs: making its tables takes seconds."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, which reads it
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


class Publisher:
    """The verb, and the reader, of one tracker in a directory."""

    def __init__(self, to: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.to, self.directory, self._capsys = to, directory, capsys
        self.project = f"p{directory.parent.name}"  # Trackio reads its directory once for all tests

    def __call__(self, *options: str, study: str = "s.yaml", status: int = 0, named: bool = True) -> str:
        """Publish, and return what is printed; without `named`, without `--dir`."""
        arguments = ["publish", study, "--to", self.to, *(["--dir", str(self.directory)] if named else [])]
        found = cli.main([*arguments, "--project", self.project, *options])
        printed = self._capsys.readouterr()
        assert found == status, printed.err
        return printed.out + printed.err

    def found(self, study: Study, model: str = "a") -> Found:
        """Read a run back."""
        if self.to == "tensorboard":
            return READERS[self.to](self.directory, study, model)
        return READERS[self.to](self.directory, study, model, self.project)

    def near(self, study: Study, expected: Points, model: str = "a") -> bool:
        """Whether a run has these points, each once."""
        found = self.found(study, model)
        return found.count == len(expected) and near(found.points, expected, PRECISION.get(self.to, 0))


@pytest.fixture(params=TRACKERS)
def publish(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Publisher:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "out"
    if request.param == "mlflow":
        directory.mkdir()
        shutil.copy(request.getfixturevalue("empty_database"), directory / "mlflow.db")
    if request.param == "trackio":
        directory = tmp_path_factory.getbasetemp() / tmp_path.name / "trackio"
    return Publisher(request.param, directory, capsys)


def expected(rows: pd.DataFrame, tokens: bool = True) -> Points:
    """The points of rows, by the definition."""
    found: Points = set()
    for row in rows.to_dict("records"):
        name, reach = tracker_name(row["task"], row["metric"]), Z * row["stderr"]
        ends = [row["value"] - reach, row["value"] + reach]
        if row["metric"].startswith("accuracy"):
            ends = [min(max(end, 0), 1) for end in ends]
        values = {name: row["value"], f"{name}/low": ends[0], f"{name}/high": ends[1]}
        found |= {(key, row["step"], value) for key, value in values.items() if not np.isnan(value)}
        if tokens:
            found.add(("training_tokens", row["step"], row["tokens"]))
    return found


def snapshot(directory: Path) -> dict[str, bytes]:
    """The content of all files, without logs and locks."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.suffix not in (".log", ".lock"))
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_points_have_the_training_step_their_interval_and_tokens(publish: Publisher) -> None:
    rows = metrics([0, 1, 2], names={"accuracy": 0.9, "margin": 3.0})  # of which one interval is clipped at 1
    study = study_of(rows, metrics([1], "b"), alarms=alarms())
    out = publish()
    assert "s/a: 21 new points at steps 0, 1, 2" in out and "s/b: 7 new points at step 1" in out
    assert publish.near(study, expected(rows))
    assert publish.near(study, expected(metrics([1], "b")), "b")
    of_a, of_b = publish.found(study).texts, publish.found(study, "b").texts
    assert "severe: t accuracy at step2: 0.5, -0.4" in of_a and "country" not in of_a
    assert "severe" not in of_b
    for text in ("float32", "harness", "scored"):  # settings of scoring, and the source
        assert text in of_a
    if publish.to == "wandb":
        assert "* by training_step" in of_a and "alarm-severe" in of_a


def test_a_second_publication_changes_nothing(publish: Publisher) -> None:
    rows = metrics([1, 2])
    study = study_of(rows, alarms=alarms())
    publish()
    before, files = publish.found(study), snapshot(publish.directory)
    assert "s/a: unchanged, 14 points" in publish()
    assert publish.found(study) == before
    if publish.to in ("tensorboard", "wandb"):
        assert snapshot(publish.directory) == files


def test_an_earlier_checkpoint_adds_exactly_its_points(publish: Publisher) -> None:
    study = study_of(metrics([2, 4]))
    publish()
    rows = metrics([1, 2, 4])
    write_results("s", rows)
    assert "s/a: 7 new points at step 1\n" in publish()
    assert publish.near(study, expected(rows))
    # A task that is scored later, at known checkpoints.
    more = pd.concat([rows, metrics([1, 2], names={"hit": 1.0})])
    write_results("s", more)
    assert "s/a: 6 new points at steps 1, 2\n" in publish()
    assert publish.near(study, expected(more))
    assert "unchanged" in publish()


def test_a_changed_value_is_refused_and_replaced_if_asked(publish: Publisher) -> None:
    study = study_of(metrics([1, 2]))
    publish()
    before = publish.found(study).points
    rows = metrics([1, 2], shift=0.25)
    write_results("s", rows)
    out = publish(status=2)
    assert "12 values published earlier changed, the first at step 1: t/accuracy was 0.501, now 0.751" in out
    assert "--replace" in out and out.count("\n") == 2  # with the note that there are no alarms
    assert publish.found(study).points == before
    assert "s/a: replaced, 14 points (12 values changed, 0 removed)" in publish("--replace")
    assert publish.near(study, expected(rows))
    assert "unchanged" in publish("--replace")
    write_results("s", metrics([1, 2, 4], shift=0.25))
    assert "s/a: 7 new points at step 4" in publish()
    assert publish.near(study, expected(metrics([1, 2, 4], shift=0.25)))


def test_points_that_the_study_has_no_more_stay_and_are_said(publish: Publisher) -> None:
    study = study_of(metrics([1, 2]))
    publish()
    write_results("s", metrics([2, 4]))
    assert "7 points of earlier publications not in the study any more" in publish()
    assert publish.near(study, expected(metrics([1, 2, 4])))
    assert "replaced, 14 points (0 values changed, 7 removed)" in publish("--replace")
    assert publish.near(study, expected(metrics([2, 4])))


def test_a_new_alarm_changes_the_description_alone(publish: Publisher) -> None:
    rows = metrics([1, 2])
    study = study_of(rows, alarms=alarms().iloc[:0])
    publish()
    assert "severe" not in publish.found(study).texts
    evil = "<script>alert(1)</script>\n# known"
    write_results("s", rows, alarms=alarms(allowed=evil, allowed_until="2030-01-01"))
    assert "s/a: description updated, no new points" in publish()
    assert publish.near(study, expected(rows))
    texts = publish.found(study).texts
    assert "allowed until 2030-01-01" in texts
    if publish.to != "trackio":  # which shows it as text
        assert "<script" not in texts and "\n#" not in texts
    assert "unchanged" in publish()


def test_a_changed_configuration_is_updated_where_the_tracker_can(publish: Publisher) -> None:
    rows = metrics([1])
    study = study_of(rows)
    publish()
    write_results("s", rows.assign(source="imported"))
    if publish.to == "mlflow":
        assert "parameter source was scored, now imported. Publish with --replace" in publish(status=2)
        assert "replaced, 7 points (parameter source was scored, now imported)" in publish("--replace")
    else:
        assert "s/a: description updated, no new points" in publish()
    assert "imported" in publish.found(study).texts
    assert publish.near(study, expected(rows))
    assert "unchanged" in publish()


def test_what_is_unknown_or_undefined_is_not_published(publish: Publisher) -> None:
    rows = metrics([1, 2], tokens=0)
    rows.loc[0, ["value", "stderr"]] = np.nan  # no value
    rows.loc[1, "stderr"] = np.nan  # no interval
    study = study_of(rows)
    out = publish()
    assert "a: 1 undefined value not published." in out and "tokens unknown at 2 checkpoints." in out
    assert publish.near(study, expected(rows, tokens=False))
    names = {name for name, *_ in publish.found(study).points}
    assert "training_tokens" not in names
    assert "unchanged" in publish()


def test_names_are_those_that_every_tracker_allows(publish: Publisher) -> None:
    names = {"accuracy[country=Côte d'Ivoire, *]": 0.1, "exact_match[filter=a/b]": 0.2, "x y\n:z": 0.3}
    rows = metrics([1], names=names)
    study = study_of(rows)
    publish()
    assert publish.near(study, expected(rows))
    assert {name for name, *_ in publish.found(study).points} >= {
        "t/accuracy/country:C_te d_Ivoire_ _/low",
        "t/exact_match/filter:a_b",
        "t/x y_:z",
    }
    assert "unchanged" in publish()


def test_two_studies_share_a_project(publish: Publisher) -> None:
    rows, others = metrics([1, 2]), metrics([1, 2], shift=0.25)
    study = study_of(rows)
    publish()
    text = Path("s.yaml").read_text()
    Path("other.yaml").write_text(text.replace("study: s", "study: other"))
    write_results("other", others)
    from ebbtide.study.load import read_study

    second = read_study("other.yaml")
    assert "other/a: 14 new points" in publish(study="other.yaml")
    assert publish.near(study, expected(rows)) and publish.near(second, expected(others))
    assert "unchanged" in publish() and "unchanged" in publish(study="other.yaml")


def test_imported_models_and_checkpoints_of_one_step(publish: Publisher) -> None:
    rows = metrics([1, 2], "theirs").assign(source="imported")
    same = metrics([2], "theirs", shift=0.1).assign(source="imported", checkpoint="averaged")
    study = study_of(rows, same)
    out = publish()
    assert "theirs: step 2 has 2 checkpoints (step2, averaged)." in out
    points = expected(rows) | expected(same)
    if publish.to != "tensorboard":  # which keeps both in the file, but shows the last
        assert publish.near(study, points, "theirs")
    assert "unchanged" in publish()


KILLED = """
import os, signal, sys
from ebbtide import cli
{patch}
sys.exit(cli.main(sys.argv[1:]))
"""
# What is replaced by a function that kills the process when it is called the second time (or the first).
KILL_AT = {
    "tensorboard": ("ebbtide.exchange.trackers.tensorboard_files", "_remove", 1),
    "mlflow": ("mlflow", "MlflowClient.log_batch", 3),
    "wandb": ("wandb", "Run.log", 2),
    "trackio": ("trackio.sqlite_storage", "SQLiteStorage.bulk_log", 1),
}


def test_after_a_kill_the_next_publication_completes(publish: Publisher) -> None:
    study = study_of(metrics([1]), alarms=alarms())
    publish()
    rows = metrics([1, 2, 4, 8])
    write_results("s", rows, alarms=alarms())
    module, name, calls = KILL_AT[publish.to]
    patch = f"""
import {module}
from ebbtide.exchange.trackers import publish as p
owner = {module}
*path, name = {name!r}.split(".")
for part in path:
    owner = getattr(owner, part)
original, calls = getattr(owner, name), []
def killing(*args, **kwargs):
    calls.append(1)
    if len(calls) == {calls}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
setattr(owner, name, staticmethod(killing) if {publish.to == "trackio"} else killing)
"""
    if publish.to == "mlflow":
        patch += "import ebbtide.exchange.trackers.mlflow_store as m; m._METRICS = 5\n"
    if publish.to == "trackio":
        patch = f"import os; os.environ['TRACKIO_DIR'] = {str(publish.directory)!r}\n" + patch
    options = ["publish", "s.yaml", "--to", publish.to, "--dir", str(publish.directory)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(patch=patch), *options, "--project", publish.project],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    out = publish()
    if publish.to == "wandb":
        assert "was not complete and is written again." in out
    if publish.to == "mlflow":  # two batches of five metrics were logged
        assert "s/a: 11 new points" in out
    assert publish.near(study, expected(rows))
    assert "unchanged" in publish()
    if publish.to == "tensorboard":
        assert len(list(publish.directory.rglob("*tfevents*"))) == 1


# Files of trackers that are damaged, or of others.


@pytest.fixture
def publisher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Publisher]:
    monkeypatch.chdir(tmp_path)
    return lambda to: Publisher(to, tmp_path / "out", capsys)


@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_a_damaged_event_file_is_written_again(publisher: Callable[[str], Publisher], damage: str) -> None:
    publish = publisher("tensorboard")
    study = study_of(metrics([1, 2]))
    publish()
    [file] = publish.directory.rglob("*tfevents*")
    content = file.read_bytes()
    file.write_bytes(content[:-9] if damage == "truncated" else content[:-20] + b"\0" * 20)
    out = publish()
    assert f"{file} is damaged (a record is incomplete or has a wrong checksum" in out
    assert publish.near(study, expected(metrics([1, 2])))
    assert publish().startswith("results/s/alarms.tsv") is False
    assert len(list(publish.directory.rglob("*tfevents*"))) == 1


def test_event_files_of_others_are_not_touched(publisher: Callable[[str], Publisher]) -> None:
    publish = publisher("tensorboard")
    study_of(metrics([1, 2]))
    foreign = publish.directory / "s/a/events.out.tfevents.1700000000.host.1.0"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"theirs")
    assert f"found {foreign.name}, which `ebbtide publish` has not written" in publish(status=2)
    assert foreign.read_bytes() == b"theirs"


@pytest.mark.xdist_group("wandb")
def test_a_damaged_or_foreign_record_is_refused(publisher: Callable[[str], Publisher]) -> None:
    publish = publisher("wandb")
    study = study_of(metrics([1, 2]), metrics([1, 2], "b", shift=0.1))
    publish()
    first, second = sorted(publish.directory.glob("wandb/ebbtide/*.parquet"))
    kept = first.read_bytes()
    shutil.copy(second, first)
    out = publish(status=2)
    assert "found a record of model" in out and "delete the file and publish again." in out
    first.write_bytes(kept[:-30])
    out = publish(status=2)
    assert (
        f"{first.relative_to(publish.directory.parent)}"[4:] in out and "not a complete Parquet file" in out
    )
    first.write_bytes(kept)
    assert publish().count("unchanged") == 2
    # The record is lost: the directories are written again, unless they were uploaded.
    first.unlink()
    assert "was not complete and is written again." in publish()
    assert publish.near(study, expected(metrics([1, 2])))
    first.unlink()
    for directory in publish.directory.glob("wandb/offline-run-*"):
        (directory / "run.wandb.synced").touch()
    assert "was uploaded, but" in publish(status=2)


def test_a_damaged_database_is_one_sentence(publisher: Callable[[str], Publisher]) -> None:
    publish = publisher("mlflow")
    study_of(metrics([1]))
    publish.directory.mkdir()
    (publish.directory / "mlflow.db").write_bytes(b"not a database" * 1000)
    out = publish(status=2)
    assert "TrackerError: MLflow experiment" in out and "Traceback" not in out
    assert "file is not a database" in out


@pytest.mark.parametrize(
    "to",
    [
        pytest.param("mlflow", marks=pytest.mark.xdist_group("mlflow")),
        pytest.param("wandb", marks=pytest.mark.xdist_group("wandb")),
    ],
)
def test_without_a_directory_the_settings_of_the_tracker_decide(
    to: str,
    publisher: Callable[[str], Publisher],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    publish = publisher(to)
    study = study_of(metrics([1]))
    if to == "mlflow":
        publish.directory.mkdir()
        shutil.copy(request.getfixturevalue("empty_database"), publish.directory / "mlflow.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{publish.directory / 'mlflow.db'}")
    else:
        monkeypatch.setenv("WANDB_DIR", str(publish.directory))
        monkeypatch.setenv("WANDB_MODE", "online")  # the verb is offline all the same
    assert "7 new points" in publish(named=False)
    assert publish.near(study, expected(metrics([1])))
    assert not Path(to).exists()


# Before any tracker.


def test_a_study_without_results_is_one_sentence(publisher: Callable[[str], Publisher]) -> None:
    publish = publisher("tensorboard")
    study_of(metrics([1]))
    shutil.rmtree("results")
    assert publish(status=2) == (
        "CellError: results/s/metrics.parquet does not exist; run snakemake to make it.\n"
    )
    assert not publish.directory.exists()


@pytest.mark.parametrize("to", ["wandb", "mlflow", "tensorboard", "trackio"])
def test_a_missing_library_is_one_sentence(
    to: str, publisher: Callable[[str], Publisher], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = publisher(to)
    study_of(metrics([1]), alarms=alarms())
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    out = publish(status=2)
    assert out.startswith(f"ConfigError: ebbtide publish --to {to} needs the library {to}, which is not")
    assert ("-c envs/cpu.txt" in out) == (to != "trackio")
    assert f"'.[{to}]'" in out and out.count("\n") == 1


def test_equal_names_and_long_names_are_refused(publisher: Callable[[str], Publisher]) -> None:
    publish = publisher("tensorboard")
    study_of(metrics([1], names={"accuracy[part=ä]": 0.1, "accuracy[part=ö]": 0.2}))
    out = publish(status=2)
    assert "'accuracy[part=ä]' and 'accuracy[part=ö]' would both be 't/accuracy/part:_'" in out
    write_results("s", metrics([1], names={f"accuracy[part={'x' * 300}]": 0.1}))
    assert "its name has 316 characters" in publish(status=2)


def test_a_model_without_values_publishes_nothing(publisher: Callable[[str], Publisher]) -> None:
    publish = publisher("tensorboard")
    study = study_of(metrics([1]), metrics([2], "b", tokens=0).assign(value=np.nan, stderr=np.nan))
    out = publish()
    assert "s/b: no values, so nothing to publish" in out and "b: 2 undefined values not published." in out
    assert publish.near(study, expected(metrics([1])))
    assert not (publish.directory / "s/b").exists()


def test_addresses_lose_the_password() -> None:
    from ebbtide.exchange.trackers.tracked_run import unusable

    text = str(unusable("MLflow", OSError("no answer of https://me:secret@host/x\nmore")))
    assert text == "TrackerError: MLflow: OSError: no answer of https://…@host/x."


def test_names_keep_their_parts() -> None:
    assert tracker_name("t", "accuracy") == "t/accuracy"
    assert tracker_name("t", "accuracy[part=1]") == "t/accuracy/part:1"
    assert tracker_name("t.x", "exact_match[filter=strict-match]") == "t.x/exact_match/filter:strict-match"


def test_the_interval_is_that_of_the_figures() -> None:
    from ebbtide.figures.curves import Z as OF_FIGURES

    assert points_module.Z == OF_FIGURES


def test_no_tracker_reports_to_its_makers(
    publisher: Callable[[str], Publisher], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = publisher("tensorboard")
    study_of(metrics([1]))
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "true")
    publish()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["WANDB_ERROR_REPORTING"] == "true"  # as the user says
