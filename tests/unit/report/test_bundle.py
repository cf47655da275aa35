"""Bundles: equal contents make equal bytes, every file is checked, and nothing is unpacked outside."""

import hashlib
import json
import re
import shutil
import stat
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import yaml

from ebbtide import __version__
from ebbtide.cells.cell import write_cell
from ebbtide.errors import ConfigError, SourceError
from ebbtide.files import file_sha256
from ebbtide.report.bundle.archive import CHECKSUMS, CRATE, write_bundle
from ebbtide.report.bundle.contents import Contents, bundle_contents, newest_day
from ebbtide.report.bundle.unpacking import BUNDLES, directory_of, maker_notices, maker_of
from ebbtide.study.load import read_study
from workspace import ROOT

CONFIG = {"study": "toy", "tasks": []}


def unpack(bundle: str) -> Path:
    return directory_of(bundle, (), is_job=False)


def refusal(bundle: str) -> str:
    """Return the message for a bundle that is refused, after which no file is new."""
    before = set(Path.cwd().rglob("*"))
    with pytest.raises(SourceError) as error:
        unpack(bundle)
    assert set(Path.cwd().rglob("*")) == before
    message = str(error.value)
    assert message.startswith("SourceError: --config bundle: ") and "\n" not in message
    return message


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
    new = unpack("one.zip")
    assert new == Path(BUNDLES, file_sha256(new / CHECKSUMS)[:16])
    assert (new / "results/scores/cell.parquet").read_bytes() == bytes(range(256))
    assert (new / "resources/testbed/deep/one.json").read_text() == "{}"
    listed = dict(reversed(line.split("  ")) for line in (new / CHECKSUMS).read_text().splitlines())
    made = {p.relative_to(new).as_posix() for p in new.rglob("*") if p.is_file()}
    assert made == {*listed, CHECKSUMS}
    assert len(made) == 6
    assert all(file_sha256(new / name) == digest for name, digest in listed.items())


def test_unpacking_again_writes_what_is_missing_and_nothing_else(files: dict[str, str]) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    new = unpack("one.zip")
    gone = new / "results/scores/cell.parquet"
    gone.unlink()
    (new / "results/of_a_run").write_text("kept")
    before = {path: path.stat().st_mtime_ns for path in new.rglob("*") if path.is_file()}
    assert directory_of("one.zip", (), is_job=True) == new
    assert not gone.exists()  # a job looks the directory up, no more
    assert unpack("one.zip") == new
    assert gone.read_bytes() == bytes(range(256))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    shutil.copy("one.zip", "copy.zip")
    assert unpack("copy.zip") == new
    write_bundle("other.zip", files, "other", CONFIG, None)
    assert unpack("other.zip") != new


@pytest.mark.parametrize("change", ["edited", "directory"])
def test_a_file_that_is_not_that_of_the_bundle_is_an_error_and_stays(
    files: dict[str, str], change: str
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    place = unpack("one.zip") / "study.yaml"
    place.unlink()
    place.mkdir() if change == "directory" else place.write_text("study: mine\n")
    said = refusal("one.zip")
    assert f"{place} is not as in one.zip. Delete it," in said
    assert change == "directory" or place.read_text() == "study: mine\n"


def test_many_at_once_make_one_whole_directory(files: dict[str, str]) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    with ThreadPoolExecutor(8) as pool:
        [new] = set(pool.map(unpack, ["one.zip"] * 16))
    assert unpack("one.zip") == new
    assert len([path for path in new.rglob("*") if path.is_file()]) == 6  # no temporary one


def test_a_bundle_of_another_version_is_read_and_said(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    assert maker_of(unpack("one.zip")) == __version__
    assert maker_notices(__version__) == []
    monkeypatch.setattr("ebbtide.report.bundle.archive.__version__", "0.0.9")
    write_bundle("old.zip", files, "toy", CONFIG, None)
    [notice] = maker_notices(maker_of(unpack("old.zip")))
    assert notice.detail.startswith(f"The bundle was made by Ebbtide 0.0.9, and is read by {__version__}: ")


def test_what_is_no_archive_is_refused(files: dict[str, str]) -> None:
    for name in ("nosuch.zip", "testbed", "x" * 300):
        with pytest.raises(ConfigError, match=f"--config bundle: {name} does not exist in "):
            unpack(name)
    write_bundle("one.zip", files, "toy", CONFIG, None)
    with pytest.raises(ConfigError, match=r"found the study file mine\.yaml, too; a bundle has a study"):
        directory_of("one.zip", ["mine.yaml"], is_job=False)
    assert "cell.parquet cannot be unpacked (File is not a zip file)" in refusal("cell.parquet")
    with zipfile.ZipFile("foreign.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    assert "foreign.zip is not a bundle of a study" in refusal("foreign.zip")


def test_the_metadata_is_a_crate_that_its_library_reads(files: dict[str, str]) -> None:
    from rocrate.rocrate import ROCrate

    write_bundle("one.zip", files, "toy", CONFIG, "2026-01-31")
    new = unpack("one.zip")
    crate = ROCrate(str(new))
    cell = crate.dereference("results/scores/cell.parquet")
    assert cell["sha256"] == file_sha256("cell.parquet")
    assert cell["contentSize"] == 256
    root = next(e for e in json.loads(Path(new, CRATE).read_text())["@graph"] if e["@id"] == "./")
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
    new = unpack("one.zip")
    root = next(e for e in json.loads(Path(new, CRATE).read_text())["@graph"] if e["@id"] == "./")
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
    assert re.search(message, refusal("bad.zip"))


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
) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    as_listed("one.zip", "good.zip", {"more": b""})
    assert (unpack("good.zip") / "more").exists()  # the way in which it was made is not what is refused
    as_listed("one.zip", "bad.zip", added, links)
    assert message in refusal("bad.zip")


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
def test_a_damaged_archive_is_one_sentence_and_leaves_nothing(files: dict[str, str], how: str) -> None:
    write_bundle("one.zip", files, "toy", CONFIG, None)
    Path("bad.zip").write_bytes(damaged(Path("one.zip").read_bytes(), how))
    assert "bad.zip cannot be unpacked (" in refusal("bad.zip")


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


def test_the_citation_is_of_this_version() -> None:
    """The keys that CFF 1.2 requires, and the version of the package."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert all(author.keys() <= {"name"} for author in citation["authors"])
