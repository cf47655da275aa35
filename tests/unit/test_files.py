"""Files are whole or absent, reading is bounded, and digests do not move."""

import errno
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.errors import CellError, EbbtideError, StorageError
from ebbtide.files import (
    atomic,
    atomic_directory,
    canonical_json,
    digest,
    file_sha256,
    full_disks,
    read_json,
    write_text,
)
from ebbtide.locks import node_lock
from ebbtide.texts import json_lines


class BrokenOffError(Exception):
    pass


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"

    with atomic(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        temporary.write_text("whole")

    assert target.read_text() == "whole"
    assert [p.name for p in target.parent.iterdir()] == ["file.txt"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    with pytest.raises(BrokenOffError), atomic(target) as temporary:
        temporary.write_text("half")
        raise BrokenOffError

    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"no space left \([\d,.]+ of [\d,.]+ MB are free\)",
        ),
        (OSError(errno.EDQUOT, "Quota exceeded"), "the disk quota is used up. Free some space in"),
        (OSError(errno.EROFS, "Read-only file system"), "the file system is read-only. Make"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(error: Exception, sentence: str, tmp_path: Path) -> None:
    """Also where a library reports a full disk without a file."""
    target = tmp_path / "file.txt"
    with (
        pytest.raises(StorageError, match=rf"{target} cannot be written: {sentence}") as found,
        atomic(target),
    ):
        raise error
    assert found.value.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    assert not list(tmp_path.iterdir())


def test_a_directory_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.mkdir()
    with pytest.raises(StorageError) as error:
        write_text("text", target)
    assert str(error.value) == (
        f"StorageError: {target} is a directory, but a file is to be written there; delete it (rm -r), and "
        "run the same command again; what is finished is kept."
    )


def test_a_file_in_the_place_of_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    with pytest.raises(
        StorageError, match=r"a/file\.txt cannot be written: \S*results is a file, not a directory\. Move "
    ):
        write_text("text", tmp_path / "results/a/file.txt")


def test_an_error_of_reading_another_file_is_not_one_of_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "file.txt") as temporary:
        temporary.write_text((tmp_path / "elsewhere/input.txt").read_text())


def test_full_disks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert full_disks([tmp_path, tmp_path / "missing"]) == []
    status = SimpleNamespace(f_bavail=1, f_blocks=1000, f_frsize=4096, f_files=9, f_favail=9)
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    assert full_disks([tmp_path]) == [
        f"StorageError: {tmp_path} ({tmp_path}): no space left (0.0 of 4.1 MB are free). Free some space "
        "there, and run the same command again; cells in the store are not scored again."
    ]
    status.f_bavail, status.f_favail = 1000, 0
    assert "the file system has no room for further files (inodes)" in full_disks([tmp_path])[0]


def test_two_writers_of_one_process_do_not_mix(tmp_path: Path) -> None:
    """As two machines with the same process id that share a disk."""
    target, both_open = tmp_path / "file.txt", threading.Barrier(2)

    def write(letter: str) -> None:
        with atomic(target) as temporary, temporary.open("w") as file:
            file.write(letter * 1000)
            file.flush()
            both_open.wait()
            file.write(letter * 1000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert target.read_text() in ("a" * 2000, "b" * 2000)
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_the_suffix_is_kept_for_writers_that_look_at_it(tmp_path: Path) -> None:
    with atomic(tmp_path / "figure.pdf") as temporary:
        assert temporary.suffix == ".pdf"
        temporary.write_text("")


def test_a_directory_replaces_the_old_one_only_when_whole(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    with atomic_directory(target) as temporary:
        (temporary / "weights").write_text("old")

    with pytest.raises(BrokenOffError), atomic_directory(target) as temporary:
        (temporary / "weights").write_text("new")
        raise BrokenOffError
    assert (target / "weights").read_text() == "old"

    with atomic_directory(target) as temporary:
        (temporary / "other").write_text("new")
    assert [p.name for p in target.iterdir()] == ["other"]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text("z(log₁₀ N)\n", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == "z(log₁₀ N)\n".encode()


def test_digests_are_stable(tmp_path: Path) -> None:
    """They name files in stores that outlive a version: a new value orphans every cell."""
    assert digest({"b": [1, None, 0.5], "a": "é"}) == "ab60e32069aab8b02af3aed013998707"
    (tmp_path / "f").write_bytes(b"abc")
    assert file_sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(backwards)
    assert digest(value) == digest(backwards)


def test_not_a_number_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "does not exist; do this."),
        (b"{", "is not readable JSON (Expecting property name"),
        (b"\xff", "is not readable JSON ('utf-8' codec"),
        (b"[1]", "found JSON of type list, expected an object; do this."),
    ],
)
def test_what_is_no_json_object_is_said(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CellError) as caught:
        read_json(path, CellError, "do this")
    assert str(caught.value).startswith(f"CellError: {path}") and complaint in str(caught.value)


def test_json_lines_are_numbered_and_keep_the_line_separators_of_unicode() -> None:
    text = '{"a": "one\u2028two"}\n\n{"a": 2}\n'
    assert list(json_lines(text.split("\n"), "x", CellError)) == [(1, {"a": "one\u2028two"}), (3, {"a": 2})]
    for line in ("{", "[1]"):
        with pytest.raises(CellError, match="x: line 2"):
            list(json_lines(["{}", line], "x", CellError))


DEEP = "values are nested more than 64 deep"


def sparse(path: Path, size: int) -> None:
    """A file of zeros that needs no space."""
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkfifo, "cannot be read (it is a named pipe, not a regular file)"),
        (lambda path: path.symlink_to("/dev/zero"), "cannot be read (it is a device, not a regular file)"),
        (Path.mkdir, "cannot be read (it is a directory, not a regular file)"),
        (
            lambda path: sparse(path, 10**10),
            "cannot be read (it has 10,000,000,000 bytes, at most",
        ),
        (lambda path: path.write_text('{"a":' * 65 + "1" + "}" * 65), f"is not readable JSON ({DEEP})"),
        (lambda path: path.write_text('{"a":' * 200_000), f"is not readable JSON ({DEEP})"),
        (lambda path: path.write_bytes(b'{"\xff": 1}'), "is not readable JSON ('utf-8' codec can't decode"),
    ],
    ids=["pipe", "device", "directory", "10 GB", "deep", "deeper", "bytes"],
)
def test_json_of_any_kind_is_read_in_bounded_time(
    make: Callable[[Path], Any], what: str, tmp_path: Path
) -> None:
    make(tmp_path / "x.json")
    with pytest.raises(CellError) as refused:
        read_json(tmp_path / "x.json", CellError, "write it again")
    said = str(refused.value)
    assert said.startswith(f"CellError: {tmp_path / 'x.json'} {what}")
    assert said.endswith("; write it again.")


def test_json_as_deep_as_any_in_use_and_behind_a_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a":' * 64 + "1" + "}" * 64)
    (tmp_path / "link.json").symlink_to("x.json")
    assert list(read_json(tmp_path / "link.json", CellError)) == ["a"]


def test_a_pipe_is_not_hashed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a named pipe, not a regular file"):
        file_sha256(tmp_path / "pipe")


def test_a_file_in_the_place_of_the_locks_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"ebbtide-{os.getuid()}").touch()
    with pytest.raises(EbbtideError, match=r"ebbtide-\d+: File exists; set TMPDIR"):
        node_lock("cells", "name")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(EbbtideError, match=r"ebbtide-\d+: No such file or directory; set TMPDIR"):
        node_lock("cells", "name")
