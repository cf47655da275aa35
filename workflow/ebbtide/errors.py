"""Errors that users can fix.

Each message is one sentence that names the file, the key, the value found, the values allowed and, where it
helps, the remedy. It is printed without a traceback.
"""

_LONGEST = 3000  # characters of a printed message


class EbbtideError(Exception):
    """Base class of errors the user can fix.

    `recurs` says whether another attempt of the same job would end with the same error.
    """

    recurs = True

    def __str__(self) -> str:
        """Return the name of the error and its message, as printed; a very long one loses its middle."""
        text = super().__str__()
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
        return f"{type(self).__name__}: {text}"


class ConfigError(EbbtideError):
    """A study, model series or task definition is not valid."""


class SourceError(EbbtideError):
    """A pinned source is missing, does not match its hash, or is not the table that is read from it."""


class CheckpointError(EbbtideError):
    """A checkpoint is missing, incomplete or cannot be trained or loaded.

    `finding` is the class of findings that the audit reports for a directory with this error.
    """

    def __init__(self, message: str, finding: str = "incomplete") -> None:
        super().__init__(message)
        self.finding = finding


class TaskError(EbbtideError):
    """Task data cannot be frozen into requests."""


class ScoringError(EbbtideError):
    """Requests cannot be scored with this model."""

    def __init__(self, message: str, *, recurs: bool = True) -> None:
        super().__init__(message)
        self.recurs = recurs


class CellError(EbbtideError):
    """A cell or table on disk is missing, damaged, outdated, or not written by Ebbtide."""


class StorageError(EbbtideError):
    """A file cannot be written: no space, no permission, or something else is in its place.

    `errno` is that of the system.
    """

    recurs = False

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


class TrackerError(EbbtideError):
    """An experiment tracker has other values, or its files cannot be used."""


class FigureError(EbbtideError):
    """A figure cannot be drawn from these metrics."""


class ScalingError(EbbtideError):
    """A scaling law cannot be fitted to these runs, or no fit converged."""


def first_line(error: BaseException) -> str:
    """The first line of what a library's error says, without its full stop; else the name of its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def type_and_reason(error: BaseException) -> str:
    """The type of an error and the first line of its message, which may quote input: printable and short."""
    reason = "".join(c if c.isprintable() else repr(c)[1:-1] for c in first_line(error)[:200])
    return f"{type(error).__name__}: {reason}"


def nearest(word: str, allowed: "list[str] | tuple[str, ...]") -> str:
    """Return a suffix that suggests the closest allowed words, or the empty string."""
    import difflib

    close = difflib.get_close_matches(word, allowed, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
