"""Every command of the README and the pages: run as written, or checked where it cannot be run here."""

import re
import shlex
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

import tiny
from checkout import Checkout
from ebbtide.study.load import read_study
from workspace import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "config/README.md",
    # docs/extending.md has a test of its own; the generated pages have no commands to type
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "extending.md"),
]
PROGRAMS = "snakemake|ebbtide|make|python|pip|sbatch|bash"
MOST_BYTES = 8_000  # of the README
# Values for placeholders of verbs. With others, a command is compared with the help of its verb.
VALUES = {
    **{"STUDY": "studies/mine.yaml", "[STUDY]": "", "SHELL": "bash"},
    **{"WHAT": "data/my-run-1b --to studies/made.yaml"},
    **{"studies/my_run.yaml --to DIR": "studies/my_run.yaml --to made"},
    **{"--rescore N": "--rescore 1 studies/mine.yaml", "explain FILE": "explain studies/mine.yaml"},
}
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_/]*\b|…|\[")  # STUDY, FILE, DIR, N, …
FETCHED = r"pythia_small|emergent_inabilities|overtraining\.yaml|predictability_ratings\.yaml"
NEEDS_HUB = re.compile(f"{FETCHED}|ebbtide pin")
TRAINS = re.compile(r"runs_ladder")


TRIED: set[str] = set()


def commands_of(text: str) -> list[str]:
    """Commands in blocks, indented, or within backticks, without the comments behind them."""
    blocks = [b[1] for b in re.finditer(r"^```(?:console|bash)?\n(.*?)^```$", text, re.M | re.S)]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^    (\S.*)$", text, re.M)
    lines += re.findall(rf"`((?:{PROGRAMS}) [^`\n]+)`", text)
    found = [re.sub(r"\s+#.*$", "", line.strip().removeprefix("$ ")) for line in lines]
    return list(dict.fromkeys(line for line in found if re.match(rf"({PROGRAMS})\b", line)))


def test_commands_are_found() -> None:
    page = "```console\n$ make x   # why\nprinted\n```\n`ebbtide a B` or `name`\n\n    python b.py --c\n"
    assert commands_of(page) == ["make x", "python b.py --c", "ebbtide a B"]


def block(page: str, language: str, containing: str) -> str:
    """The first block of a page in a language that contains a text."""
    for found in re.finditer(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S):
        if containing in found[1]:
            return found[1]
    raise AssertionError(f"{page} has no {language} block with {containing!r}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with what the pages speak of: the study of the README, a task, a model."""
    world = Checkout(tmp_path_factory.mktemp("docs") / "checkout")
    path = world.path
    for step, scale in ((1000, 1.0), (2000, 1.1)):
        tiny.checkpoint(path / f"data/my-run-1b/step{step}", scale=scale)
    tiny.checkpoint(path / "models/SmolLM2-135M", "llama")
    (path / "tasks").mkdir()
    rows = block("docs/tasks.md", "json", "classes")
    for word, known in (("The capital of France is", "the old child"), ("Paris", "is"), ("Rome", "is not")):
        rows = rows.replace(word, known)  # of the toy language, whose tokenizer the models have
    rows *= 3
    (path / "tasks/mine.jsonl").write_text(rows)
    task = block("docs/tasks.md", "yaml", "tasks/mine.jsonl").replace(
        "0f3c…", sha256(rows.encode()).hexdigest()
    )
    (path / "tasks/mine.yaml").write_text(task)
    study = block("README.md", "yaml", "study: mine").replace("/data", "data")
    study = study.replace("memo_trap_proverbs", "fact_qa")  # which needs no network
    for name in ("mine", "my_run", "yours"):
        (path / f"studies/{name}.yaml").write_text(study.replace("study: mine", f"study: {name}"))
    samples = ROOT / "tests/samples/exchange/my-lab__my-model"
    for name in ("old", "old_results"):
        shutil.copytree(samples, path / name)
    (path / "documents.jsonl").write_text('{"text": "the old child is young"}\n')
    (path / "my_project").mkdir()
    (path / "my_project/study.yaml").write_text(
        study.replace("data/", f"{path}/data/").split("  - tasks/")[0]
    )
    (path / "ebbtide").symlink_to(path)
    (path / "old.parquet").symlink_to(path / "requests.parquet")
    return world


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page(page: Path, world: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in commands_of(page.read_text(encoding="utf-8")):
        if command not in TRIED:  # on another page
            CHECKS[command.split()[0]](command, world, monkeypatch)
            TRIED.add(command)


def _make(command: str, world: Checkout, _: object) -> None:
    world.run(f"{command} --dry-run")


def _files_exist(command: str, world: Checkout, _: object) -> None:
    """Of commands that install or submit, the files that they name."""
    for word in shlex.split(command):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", word) and not word.isupper():
            assert (world.path / word).exists(), f"{command}: {word}"


def _has_options(command: str, world: Checkout, _: object) -> None:
    """The script exists, and it, or what it imports beside itself, has every option."""
    words = shlex.split(command.partition(" || ")[0])
    script = world.path / next(word for word in words if word.endswith(".py"))
    assert script.is_file(), command
    source = "".join(file.read_text() for file in script.parent.glob("*.py"))
    assert not [w for w in words if w.startswith("--") and f'"{w}"' not in source], command


def _ebbtide(command: str, world: Checkout, _: object) -> None:
    for name, value in VALUES.items():
        command = re.sub(rf"(?<!\S){re.escape(name)}(?!\S)", value, command)
    verb, *words = shlex.split(command.replace("/data/", "data/"))[1:]
    if verb == "VERB":
        return
    endless = "--every" in command  # tests/workflow/test_watch.py has such a run
    if (
        endless
        or "--model my-1b" in command
        or PLACEHOLDER.search(command)
        or NEEDS_HUB.search(command)
        or not words
    ):
        help_text = world.run(f"ebbtide {verb} --help")
        assert not [w for w in words if w.startswith("--") and w not in help_text], command
        return
    if "studies/my_run.yaml" in command or "studies/mine.yaml" in command:
        name = "my_run" if "my_run" in command else "mine"
        if not (world.path / f"results/{name}/summary.txt").exists():
            world.run(f"snakemake --cores 1 --quiet all --configfile studies/{name}.yaml")
    if "requests.parquet" in command and not (world.path / "requests.parquet").exists():
        world.run("ebbtide freeze --task tasks/mine.yaml --to requests.parquet")
    if verb == "doctor":
        return  # what it says depends on the machine
    world.run(command.replace("/data/", "data/"))


def _snakemake(command: str, world: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    first = command.partition(" || ")[0]
    if "--profile slurm" in command or "--workflow-profile" in command:  # test_module.py runs the latter
        return _files_exist(command, world, monkeypatch)
    if PLACEHOLDER.search(command) or "results/scores/pythia" in command:
        return None
    if "--unlock" in command or command == "snakemake --report":
        return None
    if "--config bundle=" in command:  # test_bundle_workflow.py runs it with a bundle
        bundles = (ROOT / "tests/workflow/test_bundle_workflow.py").read_text()
        assert '"--config", "bundle=' in bundles and f'"{first.split()[1]}"' in bundles
        return None
    if NEEDS_HUB.search(command) or TRAINS.search(command):
        monkeypatch.chdir(world.path)
        study = shlex.split(first)[shlex.split(first).index("--configfile") + 1]
        read_study(Path(study))
        return None
    runs = "mine" in command or "my_run" in command or "my_project" in command
    world.run(f"{first.replace('--cores all', '--cores 1')} {'--quiet all' if runs else '-n --quiet rules'}")
    return None


CHECKS = {
    "make": _make,
    "pip": _files_exist,
    "sbatch": _files_exist,
    "bash": _files_exist,
    "python": _has_options,
    "ebbtide": _ebbtide,
    "snakemake": _snakemake,
}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= MOST_BYTES
