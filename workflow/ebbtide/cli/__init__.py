"""The command line: `ebbtide VERB`, or `python -m ebbtide VERB`.

Exit statuses: 0 success, 1 reserved for alarms, 2 anything that went wrong, 130 interrupted.

A lean module: only the verb that is called is imported and parsed, and it imports what it needs, because a
large study starts thousands of jobs, of which most only copy a file.
"""

import argparse
import os
import sys
import traceback
from importlib import import_module

from ebbtide import __version__
from ebbtide.errors import EbbtideError
from ebbtide.logs import INTERRUPTED_LINE, lenient_stderr

FAILED, INTERRUPTED = 2, 130
NAME = "ebbtide"
VERBS = {
    **dict.fromkeys(("score", "loss"), "score"),
    **{name: name for name in ("train", "average", "estimate")},
    **dict.fromkeys(("freeze", "pin", "preview", "diff-requests"), "tasks"),
    "measure": "measure",
    **dict.fromkeys(("fetch", "fetch-testbed"), "fetch"),
    **dict.fromkeys(("lock", "fetch-checkpoint"), "hub"),
    **dict.fromkeys(("export", "import-plan", "import-cells"), "exchange"),
    **{name: name for name in ("explain", "flips", "doctor", "verify", "gc")},
}  # verb → the module of this package that adds it


def main(arguments: list[str] | None = None, *, prog: str = NAME) -> int:
    """Run a verb and return the exit status; an error that the user can fix is one sentence on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(prog, arguments[0] if arguments else "").parse_args(arguments)
    if not getattr(options, "network", False):
        os.environ["HF_HUB_OFFLINE"] = "1"
    with lenient_stderr():
        return _status_of(options)


def _status_of(options: argparse.Namespace) -> int:
    try:
        options.verb(options)
    except EbbtideError as error:
        print(error, file=sys.stderr)
        return FAILED
    except OSError as error:  # no space, no permission
        print(f"{type(error).__name__}: {error}.", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(INTERRUPTED_LINE, file=sys.stderr)
        return INTERRUPTED
    except Exception:  # Python's own status of an uncaught error is 1, which means alarms
        traceback.print_exc()
        return FAILED
    return 0


def _parser(prog: str = NAME, verb: str = "") -> argparse.ArgumentParser:
    """Return the parser of a verb, or of all if `verb` is none of them."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Score checkpoints of language models, and prepare and exchange what a study needs. "
        "`snakemake` runs whole studies; these verbs are its steps, usable alone.",
    )
    parser.add_argument(
        "--version", action="version", version=f"{NAME} {__version__}", help="print the version and exit"
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for module in [VERBS[verb]] if verb in VERBS else dict.fromkeys(VERBS.values()):
        import_module(f"{__name__}.{module}").add_verbs(verbs)
    return parser
