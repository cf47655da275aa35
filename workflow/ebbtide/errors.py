"""The errors a user may meet.

Each message is one sentence that names the file, the key, what was found, what is allowed
and, where it helps, the remedy. They are shown without a traceback.
"""


class EbbtideError(Exception):
    """Base of every error that is the user's to mend."""

    def __str__(self) -> str:
        """The error's name and its sentence, as the user reads it."""
        return f"{type(self).__name__}: {super().__str__()}"


class ConfigError(EbbtideError):
    """A study, model series or task definition is not valid."""


class SourceError(EbbtideError):
    """A pinned source is missing or does not match its hash."""


class CheckpointError(EbbtideError):
    """A checkpoint is missing, incomplete or cannot be trained or loaded."""


class TaskError(EbbtideError):
    """Task data cannot be frozen into requests."""


class ScoringError(EbbtideError):
    """Requests cannot be scored with this model."""


class CellError(EbbtideError):
    """A cell or table on disk is missing, truncated, foreign or stale."""


class FigureError(EbbtideError):
    """The metrics at hand cannot be drawn as this figure."""


class ScalingError(EbbtideError):
    """Runs cannot carry the scaling law that is asked of them, or no fit of it converged."""


def first_line(error: BaseException) -> str:
    """The first line of what a library's error says, without its full stop; else the name of its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def nearest(word: str, allowed: "list[str] | tuple[str, ...]") -> str:
    """Suffix that names the closest allowed words, or the empty string."""
    import difflib

    close = difflib.get_close_matches(word, allowed, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
