"""The command line, as a user without a workflow meets it."""

import argparse
import itertools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tiny
from ebbtide import __version__, cli
from ebbtide.checkpoints.directory import identities
from ebbtide.errors import ConfigError
from ebbtide.logs import log
from ebbtide.tables import CELL, read_footer, read_frame

ROOT = Path(__file__).parents[3]
VERBS = (
    *("score", "loss", "train", "average", "convert", "freeze", "pin", "preview", "diff-requests", "measure"),
    *("fetch", "fetch-testbed", "lock", "fetch-checkpoint", "explain", "flips", "estimate", "status", "init"),
    *("export", "import-plan", "import-cells", "doctor", "verify", "gc", "completion"),
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


def test_a_score_alone_leases_a_gpu_too(
    checkpoint: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("EBBTIDE_FAKE_GPUS", "GPU-a:1000,GPU-b:1000")
    monkeypatch.setenv("EBBTIDE_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
    for gpus, leased in (("1", ["leased GPU-b (made up, 1000 MiB)"]), ("0", [])):
        assert score(checkpoint, mine, tmp_path / "cell", "--backend", "fake", "--gpus", gpus) == 0
        said = capsys.readouterr().err.splitlines()
        assert [line[9:] for line in said if "leased" in line] == leased
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ("GPU-b" if leased else "")


@pytest.mark.parametrize("lines", [1, 100_000])  # found as the verb ends, and while it prints
def test_a_reader_that_ends_first_is_no_error(lines: int) -> None:
    code = f"""import sys
from ebbtide import cli
from ebbtide.cli import status
status._status = lambda options: print("a\\n" * {lines})
sys.exit(cli.main(["status"]))"""
    reader, writer = os.pipe()
    os.close(reader)
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=buffered, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_broken_pipe_elsewhere_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> None:
        raise BrokenPipeError("of a worker")

    monkeypatch.setattr("ebbtide.cli.status._status", fail)
    assert cli.main(["status"]) == 2
    assert capsys.readouterr().err == "BrokenPipeError: of a worker.\n"


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of every verb."""
    found = [a for a in cli.parser_of()._actions if isinstance(a, argparse._SubParsersAction)]
    assert len(found) == 1
    return dict(found[0].choices)


def test_every_verb_and_every_option_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(parsers()) == sorted(VERBS)
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    overview = capsys.readouterr().out
    assert max(map(len, overview.splitlines())) < 100
    for verb, parser in parsers().items():
        line = rf"^  {verb} +[a-z].*[a-zA-Z0-9]$"
        assert re.search(line, overview, re.MULTILINE), f"{verb} has no line of its own"
        assert parser.description.endswith("."), f"{verb} --help does not say what it does"
        for action in parser._actions:
            assert action.help, f"{verb} {action.option_strings or action.dest} has no help"
        parser.format_help()  # a stray % would raise here


def test_the_examples_of_the_overview_parse() -> None:
    lines = [line for line in cli.EXAMPLES.splitlines() if line.startswith("  ebbtide")]
    commands = [line.split("   ")[0].split()[1:] for line in (line.strip() for line in lines)]
    assert len(commands) > 3
    for command in commands:
        if "VERB" not in command:
            assert cli.parser_of(verb=command[0]).parse_args(command).verb


def test_no_verb_is_the_overview_and_a_misspelt_one_names_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ebbtide VERB [OPTIONS]\n")
    assert cli.main(["verfy", "x"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("ConfigError: VERB: found 'verfy', allowed: init, ")
    assert "; did you mean 'verify'" in shown


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    assert end.value.code == 0
    option = {"train": "--spec", "lock": "--follow", "preview": "--model", "diff-requests": "OLD"}
    option |= {
        "verify": "--rescore",
        "gc": "--delete",
        "explain": "explain",
        "status": "--cells",
        "init": "SERIES",
    }
    option |= {"completion": "zsh", "doctor": "STUDY", "import-plan": "FILE"}
    assert option.get(verb, "--to") in capsys.readouterr().out


def test_the_console_script_is_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    entry = EntryPoint("ebbtide", project["project"]["scripts"]["ebbtide"], "console_scripts")
    with pytest.raises(SystemExit) as end:
        entry.load()(["score", "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ebbtide score ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"ebbtide {__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    attribute = project["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert ("version" in project["project"]["dynamic"], attribute) == (True, "ebbtide.__version__")


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
            "directory has neither model.safetensors nor",
        ),
        ((checkpoint, tmp_path / "none.parquet", to), "CellError: ", "none.parquet does not exist"),
        (
            (checkpoint, tmp_path / "text.parquet", to),
            "CellError: ",
            "text.parquet is not a complete Parquet file",
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
        (
            (checkpoint, mine, tmp_path / "directory"),
            "StorageError: ",
            "directory is a directory, but a file is",
        ),
    ]
    for arguments, kind, sentence in cases:
        assert score(*arguments) == 2, arguments
        shown = capsys.readouterr().err
        assert "Traceback" not in shown
        assert shown.splitlines()[-1].startswith(kind)
        assert sentence in shown.splitlines()[-1]
        assert not to.exists()


def test_an_unknown_option_shows_the_usage_of_what_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["score", "--modle", "x"])
    assert end.value.code == 2
    assert "usage: ebbtide score" in capsys.readouterr().err
    command = [sys.executable, "-m", "ebbtide", "score", "--modle", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m ebbtide score ")


def test_one_is_the_status_of_alarms_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever goes wrong ends with 2, also a defect of ours, which shows its traceback."""

    def fail(error: BaseException) -> Callable[..., None]:
        def raises(*_: object) -> None:
            raise error

        return raises

    arguments = ["diff-requests", str(tmp_path / "old"), str(tmp_path / "new")]
    for error, status, last in (
        (ConfigError("study.yaml: key: found 1."), 2, "ConfigError: study.yaml: key: found 1."),
        (
            PermissionError(13, "Permission denied", "to"),
            2,
            "PermissionError: [Errno 13] Permission denied: 'to'.",
        ),
        (ZeroDivisionError("division by zero"), 2, "ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ):
        monkeypatch.setattr("ebbtide.tasks.diff.diff_files", fail(error))
        assert cli.main(arguments) == status
        shown = capsys.readouterr().err
        assert shown.splitlines()[-1] == last
        assert ("Traceback" in shown) == isinstance(error, ZeroDivisionError)
    monkeypatch.setattr("ebbtide.tasks.diff.diff_files", lambda *_: "")
    assert cli.main(arguments) == 0


def test_ctrl_c_during_the_imports_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-m", "ebbtide", "--version"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")


def test_only_the_verb_that_computes_imports_torch() -> None:
    modules = "ebbtide.cli, ebbtide.jobs.score_cell, ebbtide.cells.store"
    program = f"import sys, {modules}; print({{'torch', 'pandas', 'pyarrow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_verb_imports_no_other() -> None:
    program = (
        "import sys; from ebbtide.cli import main\n"
        "try: main(['measure', '--help'])\n"
        "except SystemExit: print(sorted(name for name in sys.modules if name.startswith('ebbtide.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['ebbtide.cli.measure', 'ebbtide.cli.options']"


def completions(script: str, typed: list[str], directory: Path) -> set[str]:
    """What bash offers for the last word typed."""
    (directory / "script.bash").write_text(script)
    words = " ".join(f"'{word}'" for word in typed)
    program = (
        f"source script.bash; COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; "
        f"_shtab_ebbtide ebbtide '{typed[-1]}' '{typed[-2]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", program], cwd=directory, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_shell_completes_verbs_options_choices_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    (tmp_path / "study.yaml").touch()
    (tmp_path / "stores").mkdir()
    assert completions(script, ["ebbtide", "exp"], tmp_path) == {"explain", "export"}
    assert completions(script, ["ebbtide", ""], tmp_path) >= set(VERBS)
    assert completions(script, ["ebbtide", "verify", "--re"], tmp_path) == {"--rescore"}
    assert completions(script, ["ebbtide", "verify", "st"], tmp_path) == {"stores", "study.yaml"}
    assert completions(script, ["ebbtide", "gc", "st"], tmp_path) == {"stores"}
    found = completions(script, ["ebbtide", "score", "--encoding", ""], tmp_path)
    assert found == {"harness", "joint", "separate"}


@pytest.mark.parametrize("shell", ["zsh", "tcsh", "fish"])
def test_other_shells_know_the_verbs(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["status", "nosuch.yaml"], "nosuch.yaml does not exist; name the YAML file of the study."),
        (
            ["explain", "studies/mini.yaml"],
            "studies/mini.yaml does not exist; did you mean studies/mine.yaml?",
        ),
        (["status", "directory"], "directory cannot be read: it is a directory, not a regular file."),
        (["status", "empty.yaml"], "empty.yaml is empty; expected keys and values."),
        (["status", "broken.yaml"], "at line 2, column 1."),
        (["verify", "directory"], "verify: directory has no cell; expected a cell store "),
    ],
    ids=itertools.count(),
)
def test_odd_arguments_are_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for directory in ("directory", "studies"):
        Path(directory).mkdir()
    for name, text in (("empty.yaml", ""), ("broken.yaml", "a: [1\n"), ("studies/mine.yaml", "study: s")):
        Path(name).write_text(text)
    assert cli.main(arguments) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert sentence in said and "<unicode" not in said


@pytest.mark.parametrize("closed", [False, True])
def test_an_encoding_without_a_character_and_a_closed_output_are_no_errors(closed: bool) -> None:
    code = (
        "import sys; from types import SimpleNamespace as Some; from ebbtide import cli\n"
        "options = Some(verb=lambda _: print('2 \\xd7 3 \\u2192 \\udcff'))\n"
        "cli.parser_of = lambda *_: Some(parse_args=lambda _: options)\n"
        "sys.exit(cli.main(['status']))"
    )
    command = [sys.executable, "-c", code]
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command] if closed else command
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if closed else "2 \\xd7 3 \\u2192 \\udcff\n")
