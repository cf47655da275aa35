"""Bundles: equal contents make equal bytes, every file is checked, and nothing is unpacked outside."""

import errno
import hashlib
import json
import os
import socket
import stat
import threading
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from ebbtide.cells.cell import write_cell
from ebbtide.cli import main
from ebbtide.errors import ConfigError, SourceError, StorageError
from ebbtide.files import file_sha256
from ebbtide.report.bundle import archive
from ebbtide.report.bundle.archive import CHECKSUMS, CRATE, unpack, write_bundle
from ebbtide.report.bundle.contents import Contents, bundle_contents, newest_day
from ebbtide.study.load import read_study
from workspace import ROOT

CONFIG = {"study": "toy", "tasks": []}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    Path("testbed/deep").mkdir(parents=True)
    Path("testbed/deep/one.json").write_text("{}")
    Path("testbed/.snakemake_timestamp").touch()
    Path("cell.parquet").write_bytes(bytes(range(256)))
    return {"results/scores/cell.parquet": "cell.parquet", "resources/testbed": "testbed"}


def test_equal_contents_make_equal_bytes(files: dict[str, str]) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, "2026-01-31")
    Path("cell.parquet").touch()
    write_bundle("two.zip", dict(reversed(files.items())), "toy", CONFIG, "2026-01-31")
    assert Path("one.zip").read_bytes() == Path("two.zip").read_bytes()


def test_what_is_packed_is_unpacked(files: dict[str, str]) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    Path("new").mkdir()
    assert unpack("one.zip", "new") == 6
    assert Path("new/results/scores/cell.parquet").read_bytes() == bytes(range(256))
    assert Path("new/resources/testbed/deep/one.json").read_text() == "{}"
    listed = dict(reversed(line.split("  ")) for line in Path(f"new/{CHECKSUMS}").read_text().splitlines())
    made = {p.relative_to("new").as_posix() for p in Path("new").rglob("*") if p.is_file()}
    assert made == {*listed, CHECKSUMS}
    assert all(file_sha256(f"new/{name}") == digest for name, digest in listed.items())


def test_the_metadata_is_a_crate_that_its_library_reads(files: dict[str, str]) -> None:
    from rocrate.rocrate import ROCrate

    write_bundle("one.zip", files, "toy", CONFIG, "2026-01-31")
    unpack("one.zip", "new")
    crate = ROCrate("new")
    cell = crate.dereference("results/scores/cell.parquet")
    assert cell["sha256"] == file_sha256("cell.parquet")
    assert cell["contentSize"] == 256
    root = next(e for e in json.loads(Path("new", CRATE).read_text())["@graph"] if e["@id"] == "./")
    assert root["datePublished"] == "2026-01-31"
    assert "toy" in root["name"]


@pytest.mark.parametrize(
    ("date", "scored", "published", "said"),
    [
        ("2026-01-31", None, "2026-01-31", None),
        ("2026-01-31", "2025-12-24", "2026-01-31", None),
        (None, "2025-12-24", "2025-12-24", "the date of publication is the day of its newest cell."),
        (None, None, None, "the date of publication is unknown, as no cell has a day."),
    ],
)
def test_the_metadata_says_which_date_it_has(
    files: dict[str, str], date: str | None, scored: str | None, published: str | None, said: str | None
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, date, scored=scored)
    unpack("one.zip", "new")
    root = next(e for e in json.loads(Path("new", CRATE).read_text())["@graph"] if e["@id"] == "./")
    assert root.get("datePublished") == published
    assert root["description"].endswith(said or "checkpoints.")


def test_the_newest_day_is_that_of_the_footers_not_of_the_files(tmp_path: Path) -> None:
    row = {
        **{"example": 0, "choice": 0, "loglikelihood": -1.0, "tokens": 1, "bytes": 1, "characters": 1},
        **{"greedy": True, "first_token_loglikelihood": -1.0, "context_tokens": 1, "truncated": False},
    }
    cells = []
    for number, day in enumerate(("2026-01-30", "2026-01-31", None)):
        footer = {"written": {"time": f"{day}T23:59:59+00:00"}} if day else {}
        cells.append(tmp_path / f"{number}.parquet")
        write_cell(pd.DataFrame([row]), cells[-1], {"task": "a"}, footer)
    assert newest_day(reversed(cells)) == "2026-01-31"
    assert newest_day(cells[2:]) is None
    assert newest_day([]) is None


def changed(source: str, target: str, change: dict[str, bytes | None]) -> None:
    """Copy an archive with other content of some files; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        contents = {name: old.read(name) for name in old.namelist()} | change
        for name, content in contents.items():
            if content is not None:
                new.writestr(name, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results/scores/cell.parquet": b"other"}, "cell.parquet is damaged: sha256"),
        ({"results/scores/cell.parquet": None}, "does not have the files that its checksums.sha256 lists"),
        ({"added": b""}, "does not have the files .*1 difference: added"),
        ({"../outside": b""}, "would be outside of the directory"),
        ({"/outside": b""}, "would be outside of the directory"),
        ({"study.yaml": None}, "is not a bundle of a study"),
    ],
)
def test_damage_is_refused_and_leaves_nothing(
    files: dict[str, str], change: dict[str, bytes | None], message: str
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    changed("one.zip", "bad.zip", change)
    before = {path for path in Path.cwd().rglob("*")}
    with pytest.raises(SourceError, match=message):
        unpack("bad.zip", "new")
    assert {path for path in Path.cwd().rglob("*")} == before


def as_listed(source: str, target: str, added: dict[str, bytes], links: tuple[str, ...] = ()) -> None:
    """Add files with their checksums, as someone who made a bundle to do harm; some of them are links."""
    with zipfile.ZipFile(source) as old:
        contents = {name: old.read(name) for name in old.namelist() if name != CHECKSUMS} | added
    lines = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items())
    with zipfile.ZipFile(target, "w") as new:
        for name, content in {**contents, CHECKSUMS: "".join(lines).encode()}.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = ((stat.S_IFLNK if name in links else stat.S_IFREG) | 0o644) << 16
            new.writestr(info, content)


@pytest.mark.parametrize(
    ("added", "links", "message"),
    [
        ({"../outside": b""}, (), "../outside would be outside of the directory"),
        ({"results/../../outside": b""}, (), "results/../../outside would be outside of the directory"),
        ({"/outside": b""}, (), "/outside would be outside of the directory"),
        ({"C:\\outside": b""}, (), "would be outside of the directory"),
        ({"link": b"/", "link/outside": b""}, ("link",), "'link' is a link, a directory, or no plain name"),
        ({"link": b"../outside"}, ("link",), "'link' is a link, a directory, or no plain name"),
        ({"folder/": b""}, (), "'folder/' is a link, a directory, or no plain name"),
        ({"./study.yaml": b""}, (), "'./study.yaml' is a link, a directory, or no plain name"),
        ({"": b""}, (), "'' is a link, a directory, or no plain name"),
        ({"a": b"", "a/b": b""}, (), "'a' is a link, a directory, or no plain name"),
    ],
)
def test_hostile_names_are_refused_although_their_checksums_are_right(
    files: dict[str, str],
    added: dict[str, bytes],
    links: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    as_listed("one.zip", "good.zip", {"more": b""})
    assert unpack("good.zip", "good") == 7  # what is refused below is not the way in which it was made
    as_listed("one.zip", "bad.zip", added, links)
    before = set(Path.cwd().rglob("*"))
    assert main(["unbundle", "bad.zip", "--to", "new"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert set(Path.cwd().rglob("*")) == before
    assert unpack("one.zip", "new") == 6  # and nothing is in the way of the next


def damaged(data: bytes, how: str) -> bytes:
    found = bytearray(data)
    header, entry = found.find(b"PK\x03\x04"), found.find(b"PK\x01\x02")
    if how == "one byte of a cell":
        found[found.find(bytes(range(256))) + 100] ^= 1
    elif how == "encrypted":
        found[header + 6] |= 1
        found[entry + 8] |= 1
    elif how == "unknown compression":
        found[header + 8] = found[entry + 10] = 99
    elif how.startswith("cut"):
        del found[len(found) * int(how.split()[1]) // 100 :]
    return bytes(found)


@pytest.mark.parametrize(
    "how", ["one byte of a cell", "encrypted", "unknown compression", "cut 0", "cut 50", "cut 99"]
)
def test_a_damaged_archive_is_one_sentence_and_leaves_nothing(
    files: dict[str, str], how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    Path("bad.zip").write_bytes(damaged(Path("one.zip").read_bytes(), how))
    before = set(Path.cwd().rglob("*"))
    assert main(["unbundle", "bad.zip", "--to", "new"]) == 2
    said = capsys.readouterr().err
    assert "bad.zip cannot be unpacked (" in said and said.count("\n") == 1
    assert ".part" not in said  # a directory that the user never named
    assert set(Path.cwd().rglob("*")) == before


def test_what_a_killed_run_left_is_replaced_and_never_written_through(files: dict[str, str]) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    Path("elsewhere").mkdir()
    Path(f".new.{socket.gethostname()}.part").symlink_to("elsewhere")
    assert unpack("one.zip", "new") == 6
    assert not Path("new").is_symlink()
    assert not list(Path("elsewhere").iterdir())


def test_of_two_at_once_into_one_directory_the_second_waits_and_finds_the_files(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    second_waits, first, said = threading.Event(), threading.Lock(), []
    extract, node_lock = archive._extract, archive.node_lock

    def second() -> None:
        with pytest.raises(SourceError) as caught:
            unpack("one.zip", "new")
        said.append(str(caught.value))

    other = threading.Thread(target=second)

    def halfway(*arguments: object) -> None:
        extract(*arguments)
        if first.acquire(blocking=False):  # after the first file
            other.start()
            assert second_waits.wait(60)

    def asked(*arguments: str) -> object:
        if threading.current_thread() is other:
            second_waits.set()
        return node_lock(*arguments)

    monkeypatch.setattr(archive, "_extract", halfway)
    monkeypatch.setattr(archive, "node_lock", asked)
    assert unpack("one.zip", "new") == 6
    other.join()
    [sentence] = said
    assert sentence.endswith("new is not an empty directory; choose another.")
    assert len([path for path in Path("new").rglob("*") if path.is_file()]) == 6


def test_what_others_put_into_the_directory_meanwhile_is_kept(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    extract = archive._extract

    def meanwhile(*arguments: object) -> None:
        extract(*arguments)
        Path("new").mkdir(exist_ok=True)
        Path("new/mine").write_text("mine")

    monkeypatch.setattr(archive, "_extract", meanwhile)
    before = set(Path.cwd().iterdir())
    with pytest.raises(SourceError, match=r"new cannot be made \(Directory not empty\); choose another"):
        unpack("one.zip", "new")
    assert [path.name for path in Path("new").iterdir()] == ["mine"]
    assert set(Path.cwd().iterdir()) == {*before, Path.cwd() / "new"}


def test_a_full_disk_is_not_the_fault_of_the_bundle(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(archive.shutil, "copyfileobj", full)
    before = set(Path.cwd().iterdir())
    with pytest.raises(StorageError, match=r"new cannot be written: no space left .* Free some space"):
        unpack("one.zip", "new")
    assert set(Path.cwd().iterdir()) == before


def test_an_empty_directory_may_be_behind_a_link_but_not_the_working_directory(
    files: dict[str, str],
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    Path("behind").mkdir()
    Path("link").symlink_to("behind")
    assert unpack("one.zip", "link") == 6
    assert Path("behind/study.yaml").exists() and Path("link").is_symlink()
    with pytest.raises(SourceError, match="is the working directory, which is replaced"):
        unpack("one.zip", ".")


def test_the_verb_refuses_what_it_cannot_use(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    assert main(["unbundle", "one.zip", "--to", "testbed"]) == 2
    assert "testbed is not an empty directory" in capsys.readouterr().err
    assert main(["unbundle", "cell.parquet", "--to", "new"]) == 2
    assert "cell.parquet cannot be unpacked" in capsys.readouterr().err
    assert main(["unbundle", "one.zip", "--to", "new"]) == 0
    assert "6 files unpacked" in capsys.readouterr().out


def test_files_outside_are_an_error_that_names_the_key(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Contents()
    made.add(tmp_path / "inside/a", "key")
    assert made.files == {"inside/a": str(tmp_path / "inside/a")}
    for path in ("../a", "/elsewhere/a"):
        with pytest.raises(ConfigError, match=rf"config.yaml: imported: {path} is outside"):
            made.add(path, "config.yaml: imported")


def test_definitions_of_the_catalogues_are_copied_with_what_they_include(tmp_path: Path, monkeypatch) -> None:
    """Another checkout may have other definitions; and the bundled ones have the same identities."""
    monkeypatch.chdir(tmp_path)
    config = {"study": "s", "models": [{"series": "ladder"}], "tasks": ["memo_trap"]}
    Path("config.yaml").write_text(json.dumps(config))
    study = read_study("config.yaml")
    made = bundle_contents(study, {**config, "mirrors": ["x"]}, cells=[], imported=[])
    assert made.config["tasks"] == ["definitions/tasks/memo_trap.yaml"]
    assert made.config["models"] == [{"series": "definitions/series/ladder.yaml"}]
    assert "mirrors" not in made.config
    assert config["tasks"] == ["memo_trap"]  # what was given is unchanged
    assert "definitions/tasks/_toy_language.yaml" in made.files
    assert made.files["environment/cpu.txt"] == str(ROOT / "envs/cpu.txt")
    new = tmp_path / "new"
    for name, path in made.files.items():
        if name.startswith("definitions"):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(Path(path).read_bytes())
    monkeypatch.chdir(new)
    Path("study.yaml").write_text(json.dumps(made.config))
    again = read_study("study.yaml")
    assert again.tasks["memo_trap"].identity == study.tasks["memo_trap"].identity
    assert [c.weights for c in again.checkpoints()] == [c.weights for c in study.checkpoints()]
