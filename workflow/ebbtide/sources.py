"""Pinned sources: files of fixed content from a repository, a URL or a path. Importing it is cheap.

A source is a text and a sha256, or the md5 of a file whose publisher states no other. The text is one of

    github:owner/repo@commit:path          hf:owner/name@commit:file
    https://host/path                      hf:datasets/owner/name@commit:file
    a local path, absolute or relative to the working directory or the checkout

A mirror is a directory with copies of such files, for machines without a network:

    github/owner/repo/commit/path          hf/owner/name/commit/file
    https/host/path                        hf/datasets/owner/name/commit/file
"""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from ebbtide.errors import ConfigError, SourceError, nearest
from ebbtide.files import atomic, file_sha256
from ebbtide.transport import Transport, TransportError

FORMS = (
    "github:owner/repo@commit:path",
    "hf:owner/name@commit:file",
    "hf:datasets/owner/name@commit:file",
    "https://host/path",
    "a local path",
)
CHECKOUT = Path(__file__).resolve().parents[2]
SHARED_MIRROR = CHECKOUT.parent / "shared" / "mirror"  # shared by all checkouts in one directory

_NAME = r"(?!\.{1,2}[/@])[A-Za-z0-9._-]+"
# Without the look-ahead, a data set without an owner would be parsed as a model of the owner "datasets".
_HUB = rf"(?:datasets/)?(?!datasets/){_NAME}/{_NAME}"
_REMOTE = {
    "github": re.compile(rf"(?P<place>{_NAME}/{_NAME})@(?P<commit>[^:]*):(?P<path>.+)"),
    "hf": re.compile(rf"(?P<place>{_HUB})@(?P<commit>[^:]*):(?P<path>.+)"),
    # Printable ASCII without ? and #.
    "https": re.compile(
        r"//(?P<place>[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*(?::[0-9]+)?)/(?P<path>[!\"$->@-~]+)"
    ),
}
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True)
class Source:
    """One file of fixed content; `parse` creates it from text.

    `place` is ``owner/repo``, ``owner/name``, ``datasets/owner/name`` or a host (with port); `commit` is
    empty where the form has none; `sha256` is None only for a local path, or with an `md5`.
    """

    text: str
    sha256: str | None
    kind: Literal["github", "hf", "https", "local"]
    place: str
    commit: str
    path: str
    md5: str | None = None

    @classmethod
    def parse(cls, text: str, sha256: str | None, where: str, md5: str | None = None) -> "Source":
        """Parse a source; `where` is its file and key, for messages.

        Raises `ConfigError` if the text has none of the allowed forms, does not name one commit, or its path
        would leave a mirror (``..``); or if the sha256 is malformed, or missing for a remote file.
        """
        for name, digest, digits in (("sha256", sha256, 64), ("md5", md5, 32)):
            if digest is not None and not re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", digest):
                raise ConfigError(f"{where}: found the {name} {digest!r}; allowed: {digits} hex digits.")
        if not text or not text.isprintable():
            raise ConfigError(f"{where}: {text!r} is not a source; allowed: {', '.join(FORMS)}.")
        sha256, md5 = (None if digest is None else digest.lower() for digest in (sha256, md5))
        scheme = _SCHEME.fullmatch(text)
        if scheme is None:
            return cls(text, sha256, "local", "", "", text, md5)
        kind = _remote_kind(scheme["scheme"], text, where)
        place, commit, path = _remote_parts(kind, scheme["rest"], text, where)
        if sha256 is None and md5 is None:
            raise ConfigError(
                f"{where}: {text!r} has no sha256, which is optional only for a local path; add the 64 hex"
                " digits that `sha256sum` prints for the file."
            )
        return cls(text, sha256, kind, place, commit, path, md5)

    @property
    def digest(self) -> str | None:
        """The sha256 that the file must have, or its md5."""
        return self.sha256 or self.md5

    @property
    def algorithm(self) -> Literal["sha256", "md5"]:
        """The algorithm of `digest`."""
        return "md5" if self.md5 and not self.sha256 else "sha256"

    @property
    def mirror_path(self) -> Path:
        """Path of the file in a mirror. Raises `ValueError` for a local path."""
        if self.kind == "local":
            raise ValueError(f"{self.text}: a local path is not in a mirror")
        return Path(self.kind, self.place, self.commit, self.path)

    @property
    def candidates(self) -> list[Path]:
        """Places of a local file: below the working directory, then below the checkout. None if remote."""
        if self.kind != "local":
            return []
        return [base / Path(self.path).expanduser() for base in (Path.cwd(), CHECKOUT)]

    @property
    def fetched(self) -> str:
        """Path of the fetched file, relative to the working directory."""
        return f"resources/sources/{self.digest}/{Path(self.path).name}"

    @property
    def url(self) -> str:
        """URL for the download. Raises `ValueError` for a local path."""
        match self.kind:
            case "github":
                return f"https://raw.githubusercontent.com/{self.place}/{self.commit}/{quote(self.path)}"
            case "hf":
                return f"{hub_endpoint()}/{self.place}/resolve/{self.commit}/{quote(self.path)}"
            case "https":
                return self.text
            case "local":
                raise ValueError(f"{self.text}: a local path has no URL")


def check_content(source: Source, where: str, remedy: str) -> None:
    """Raise `ConfigError` for a local file whose content is no longer that of its digest.

    A copy with the old content may have been fetched and used before, so the change would go unnoticed. A
    file that does not exist is not checked: the copy is what was pinned. `remedy` ends the sentence.
    """
    found = next((path for path in source.candidates if path.is_file()), None) if source.digest else None
    if found is None:
        return
    if (digest := file_digest(found, source.algorithm)) != source.digest:
        raise ConfigError(
            f"{where}: {source.path} has {source.algorithm} {digest}, expected {source.digest}: it has "
            f"changed since it was pinned; {remedy}"
        )


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the sha256 of a file, which a process reads again only if its size or date has changed.

    `algorithm` may also be `md5`.
    """
    status = path.stat()
    return _digest(path.absolute(), algorithm, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: Path, algorithm: str, size: int, mtime_ns: int) -> str:
    del size, mtime_ns
    return file_sha256(path, algorithm)


def hub_endpoint() -> str:
    """Return the URL of the hub, by default the public one. Raises `ConfigError` if it has credentials."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if "@" in endpoint:
        raise ConfigError("HF_ENDPOINT: credentials in the URL are not allowed; put the token into HF_TOKEN.")
    return endpoint.rstrip("/")


def hub_token() -> str | None:
    """Return the token for the hub, from HF_TOKEN or the login file, if implicit tokens are enabled.

    Raises `ConfigError` for a token that cannot be sent, because the HTTP client would quote it in its error.
    """
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if token and not re.fullmatch(r"[!-~]+", token):
        raise ConfigError(
            "HF_TOKEN: the token in this variable or in the login file has a character that is not allowed,"
            " such as a space; set it again."
        )
    return token


def mirrors(configured: Sequence[str]) -> list[Path]:
    """Return the mirrors to search, in order: EBBTIDE_MIRRORS, the configured ones, `SHARED_MIRROR`.

    The last needs no configuration and is used if the directory exists. Raises `ConfigError` if one of the
    others is not a directory, because a mistyped mirror would otherwise cause downloads.
    """
    environment = os.environ.get("EBBTIDE_MIRRORS", "").split(os.pathsep)
    named = [("EBBTIDE_MIRRORS", name) for name in environment if name]
    named += [("mirrors", name) for name in configured]
    for key, name in named:
        if not Path(name).expanduser().is_dir():
            raise ConfigError(
                f"{key}: {name!r} is not a directory; a mirror has copies as github/owner/repo/commit/path."
            )
    shared = [SHARED_MIRROR] if SHARED_MIRROR.is_dir() else []
    return list(dict.fromkeys([*(Path(name).expanduser() for _, name in named), *shared]))


def fetch(source: Source, to: Path, mirrors: Sequence[Path], transport: Transport | None = None) -> None:
    """Copy or download the file of `source` to `to`: from its path, the first mirror that has it, or its URL.

    `to` is created only after the sha256 has been checked. `transport` replaces the default one. Raises
    `SourceError` if the file is not found, or its content does not match.
    """
    with atomic(to) as temporary:
        path = _on_this_machine(source, mirrors)
        if path is not None:
            origin = str(path)
            _copy(path, temporary, source)
        else:
            origin = source.url
            _download(source, temporary, mirrors, transport or Transport())
        kind = source.algorithm
        if source.digest is not None and (found := file_sha256(temporary, kind)) != source.digest:
            raise SourceError(
                f"{source.text}: the file from {origin} has {kind} {found}, expected {source.digest};"
                f" either that copy is damaged or the {kind} belongs to another file."
            )


def _remote_kind(scheme: str, text: str, where: str) -> Literal["github", "hf", "https"]:
    match scheme:
        case "github" | "hf" | "https":
            return scheme
        case "http":
            raise ConfigError(
                f"{where}: {text!r} would be transferred unencrypted; only https:// is allowed."
            )
    hint = nearest(scheme, list(_REMOTE))
    raise ConfigError(
        f"{where}: {text!r} starts with the unknown '{scheme}:'{hint} (allowed: {', '.join(FORMS)};"
        " write ./ before a local path with a colon)."
    )


def _remote_parts(kind: str, rest: str, text: str, where: str) -> tuple[str, str, str]:
    """Return (place, commit, path) from the text after ``kind:``."""
    match = _REMOTE[kind].fullmatch(rest)
    if match is None:
        forms = " or ".join(form for form in FORMS if form.startswith(f"{kind}:"))
        extra = ", without user, query, fragment and spaces" if kind == "https" else ""
        raise ConfigError(f"{where}: {text!r} does not have the form {forms}{extra}.")
    commit = match.groupdict().get("commit", "")
    if kind != "https" and not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise ConfigError(
            f"{where}: {commit!r} in {text!r} is not a full commit; a branch or tag moves and a short commit"
            " may become ambiguous, so a commit of 40 lower-case hex digits is needed."
        )
    if any(part in ("", ".", "..") for part in match["path"].split("/")):
        raise ConfigError(
            f"{where}: the path {match['path']!r} in {text!r} must be relative and name a file,"
            " without empty, '.' or '..' components."
        )
    return match["place"], commit, match["path"]


def _on_this_machine(source: Source, mirrors: Sequence[Path]) -> Path | None:
    if source.kind == "local":
        candidates = source.candidates
    else:
        candidates = [mirror / source.mirror_path for mirror in mirrors]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None and source.kind == "local":
        tried = " and ".join(str(path) for path in dict.fromkeys(candidates))
        raise SourceError(f"{source.text}: there is no such file (looked for {tried}).")
    return found


def _copy(path: Path, to: Path, source: Source) -> None:
    try:
        with path.open("rb") as file, to.open("wb") as copy:
            shutil.copyfileobj(file, copy)
    except OSError as error:
        raise SourceError(f"{source.text}: {path} cannot be copied: {error.strerror}.") from error


def _download(source: Source, to: Path, mirrors: Sequence[Path], transport: Transport) -> None:
    try:
        transport.save(source.url, to, hub_token() if source.kind == "hf" else None)
    except TransportError as error:
        searched = ", ".join(str(mirror) for mirror in mirrors) or "none"
        gated = source.kind == "hf" and error.status in (401, 403)
        raise SourceError(
            f"{source.text}: {source.url} cannot be downloaded ({error}; mirrors searched: {searched})."
            + (" A gated or private repository needs HF_TOKEN." if gated else "")
            + " Without a network, set EBBTIDE_MIRRORS or `mirrors:` to a directory of copies laid out as"
            f" github/owner/repo/commit/path; this file is {source.mirror_path} there."
        ) from error
