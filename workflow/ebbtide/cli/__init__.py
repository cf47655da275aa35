"""The command line: `ebbtide VERB`, or `python -m ebbtide VERB`.

Exit statuses: 0 success, 1 reserved for alarms, 2 anything that went wrong, 130 interrupted.

A lean module: each verb imports what it needs when it is called, because most jobs of `score` only copy a
file and must not pay for torch.
"""

import argparse
import os
import sys
import traceback

from ebbtide import __version__
from ebbtide.cli import doctor, exchange, explain, fetch, gc, hub, measure, score, tasks, train, verify
from ebbtide.errors import EbbtideError
from ebbtide.logs import INTERRUPTED_LINE, lenient_stderr

FAILED, INTERRUPTED = 2, 130
NAME = "ebbtide"


def main(arguments: list[str] | None = None, *, prog: str = NAME) -> int:
    """Run a verb and return the exit status; an error that the user can fix is one sentence on stderr."""
    options = _parser(prog).parse_args(arguments)
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


def _parser(prog: str = NAME) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Score checkpoints of language models, and prepare and exchange what a study needs. "
        "`snakemake` runs whole studies; these verbs are its steps, usable alone.",
    )
    parser.add_argument(
        "--version", action="version", version=f"{NAME} {__version__}", help="print the version and exit"
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for group in (score, train, tasks, measure, fetch, hub, exchange, explain, doctor, verify, gc):
        group.add_verbs(verbs)
    return parser
