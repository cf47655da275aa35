"""The command line, as a user without a workflow meets it."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import tiny
from ebbtide import cli
from ebbtide.checkpoints.directory import identities
from ebbtide.logs import log
from ebbtide.tables import CELL, read_footer, read_frame

VERBS = (
    *("score", "loss", "train", "fetch", "freeze", "measure"),
    *(
        "lock",
        "fetch-checkpoint",
        "pin",
        "preview",
        "diff-requests",
        "export",
        "import-cells",
        "fetch-testbed",
    ),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Requests as pandas writes them: no footer, whole numbers as examples, no gold."""
    rows = pd.DataFrame(tiny.ROWS, columns=["example", "choice", "context", "continuation", "gold"])
    rows.drop(columns="gold").assign(example=rows["example"].astype(int)).to_parquet(
        tmp_path / "mine.parquet"
    )
    return tmp_path / "mine.parquet"


@pytest.fixture(autouse=True)
def quiet_log():
    handlers, propagate = log.handlers, log.propagate
    yield
    log.handlers, log.propagate = handlers, propagate


def score(model: Path, requests: Path, to: Path, *more: str) -> int:
    return cli.main(["score", "--model", str(model), "--requests", str(requests), "--to", str(to), *more])


def test_score_stands_alone(checkpoint: Path, mine: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ebbtide", "score", "--model", str(checkpoint)]
    command += ["--requests", str(mine), "--to", "cell.parquet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cell.parquet: 6 requests in" in done.stderr

    rows, footer = read_frame(tmp_path / "cell.parquet", CELL), read_footer(tmp_path / "cell.parquet", CELL)
    assert rows["example"].tolist() == [0, 0, 1, 1, 2, 2]
    assert footer["identity"]["weights"] == identities(checkpoint)[0]
    assert footer["requests"] == 6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cell.parquet", "mine.parquet"]


def test_options_reach_the_engine(checkpoint: Path, mine: Path, tmp_path: Path) -> None:
    to = tmp_path / "cell.parquet"
    assert score(checkpoint / "config.json", mine, to, "--dtype", "float64", "--max-length", "4") == 0
    footer = read_footer(to, CELL)
    assert footer["dtype"] == footer["identity"]["dtype"] == "float64"
    assert footer["identity"]["max_length"] == 4
    assert footer["truncated"] == 2


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*filter(None, [verb]), "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    telling = {"train": "--spec", "lock": "--follow", "preview": "--model", "diff-requests": "old"}
    assert all(v in shown for v in (VERBS if not verb else [telling.get(verb, "--to")]))


def test_bad_input_is_one_sentence(
    checkpoint: Path, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.parquet").write_text("example,choice\n")
    pd.DataFrame({"example": ["a"]}).to_parquet(tmp_path / "narrow.parquet")
    (tmp_path / "directory").mkdir()
    to = tmp_path / "cell.parquet"
    cases = [
        ((tmp_path / "none", mine, to), "CheckpointError: ", "none is not a directory"),
        (
            (tmp_path / "directory", mine, to),
            "CheckpointError: ",
            "directory holds neither model.safetensors nor",
        ),
        ((checkpoint, tmp_path / "none.parquet", to), "CellError: ", "none.parquet does not exist"),
        (
            (checkpoint, tmp_path / "text.parquet", to),
            "CellError: ",
            "text.parquet is not a whole Parquet file",
        ),
        (
            (checkpoint, tmp_path / "narrow.parquet", to),
            "CellError: ",
            "narrow.parquet: column 'choice' is missing",
        ),
        (
            (checkpoint, mine, to, "--max-length", "1"),
            "ScoringError: ",
            "mine.parquet: example 0, choice 0: the",
        ),
        ((checkpoint, mine, to, "--max-length", "999"), "ScoringError: ", "max_length: found 999"),
        (
            (checkpoint, mine, to, "--identity", "{"),
            "ConfigError: ",
            "--identity: found '{', which is not JSON",
        ),
        ((checkpoint, mine, tmp_path / "directory"), "IsADirectoryError: ", "directory"),
    ]
    for arguments, kind, sentence in cases:
        assert score(*arguments) == 1, arguments
        shown = capsys.readouterr().err
        assert "Traceback" not in shown
        assert shown.splitlines()[-1].startswith(kind)
        assert sentence in shown.splitlines()[-1]
        assert not to.exists()


def test_an_unknown_option_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["score", "--modle", "x"])
    assert end.value.code == 2
    assert "usage: python -m ebbtide score" in capsys.readouterr().err


def test_only_the_verb_that_computes_imports_torch() -> None:
    modules = "ebbtide.cli, ebbtide.jobs.score_cell, ebbtide.cells.store"
    program = f"import sys, {modules}; print({{'torch', 'pandas', 'pyarrow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
