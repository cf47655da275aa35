"""The command line: `ebbtide VERB`, or `python -m ebbtide VERB`.

Exit statuses: 0 success, 1 reserved for alarms, 2 anything that went wrong, 130 interrupted, 141 if the
reader of the output, such as `head`, ended first.

A lean module: only the verb that is called is imported and parsed, and it imports what it needs, because a
large study starts thousands of jobs, of which most only copy a file.
"""

import argparse
import io
import os
import select
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from ebbtide import __version__
from ebbtide.errors import EbbtideError, nearest
from ebbtide.logs import INTERRUPTED_LINE, lenient_stderr

FAILED, INTERRUPTED = 2, 130
CLOSED = 141  # of a program that the closed pipe of its reader ends: 128 + SIGPIPE
NAME = "ebbtide"
USER_VERBS = {
    "init": ("init", "write a first study for checkpoints on disk or a hub"),
    "status": ("status", "print what is done, missing or failed, and its cost"),
    "watch": ("watch", "score the checkpoints of a run in training as they appear"),
    "explain": ("explain", "print a study's summary and its notices"),
    "flips": ("flips", "list the examples that changed between checkpoints"),
    "estimate": ("estimate", "estimate a checkpoint's accuracy from a sample"),
    "verify": ("verify", "check every cell of a study or a store"),
    "gc": ("gc", "list or remove what no study needs in a cell store"),
    "lock": ("hub", "resolve checkpoints on the hub to commits and digests"),
    "pin": ("tasks", "find the commit and the digest of a task's data"),
    "preview": ("tasks", "print the first requests of a frozen task"),
    "diff-requests": ("tasks", "compare two frozen tasks"),
    "export": ("exchange", "write results in formats of lm-eval, and as tables"),
    "publish": ("publish", "publish results in an experiment tracker"),
    "import-plan": ("exchange", "print the YAML that imports results of other tools"),
    "import-cells": ("exchange", "write the samples that a study imports as cells"),
    "score": ("score", "compute the log-likelihood of every request of a file"),
    "loss": ("score", "compute loss and bits per byte of long documents"),
    "doctor": ("doctor", "check this machine: packages, GPUs, disks, hub, Slurm"),
    "completion": ("completion", "print a script that completes verbs and options"),
}  # verb → the module of this package that adds it, and one line of help
STEPS = {
    "fetch": ("fetch", "download a pinned file and check its sha256"),
    "fetch-testbed": ("fetch", "download a directory of pinned files"),
    "fetch-checkpoint": ("hub", "download a locked checkpoint and verify it"),
    "freeze": ("tasks", "freeze a task into requests"),
    "train": ("train", "train one model of a local ladder"),
    "average": ("average", "average the weights of checkpoints of one run"),
    "convert": ("convert", "convert a checkpoint of another format to safetensors"),
    "measure": ("measure", "compute the metrics of the cells of one checkpoint"),
}  # the same; Snakemake calls these
VERBS = USER_VERBS | STEPS
EXAMPLES = """examples:
  ebbtide doctor                                    check this machine
  ebbtide init runs/my-model                        write a first study
  ebbtide status studies/mine.yaml                  how far a study is, and what is left
  ebbtide explain studies/mine.yaml                 what a study found, and what to know first
  ebbtide verify studies/mine.yaml --rescore 20     check cells against the weights
  ebbtide score --model DIR --requests FILE --to FILE
  ebbtide VERB --help                               the options of a verb

exit statuses: 0 success, 2 anything that went wrong, 130 interrupted"""


def main(arguments: list[str] | None = None, *, prog: str = NAME) -> int:
    """Run a verb and return the exit status; an error that the user can fix is one sentence on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verb = arguments[0] if arguments else "--help"
    if verb not in VERBS and not verb.startswith("-"):
        print(_unknown(verb), file=sys.stderr)
        return FAILED
    options = parser_of(prog, verb).parse_args(arguments or [verb])
    if not getattr(options, "network", False):
        os.environ["HF_HUB_OFFLINE"] = "1"
    _print_any_text()
    with lenient_stderr():
        return _status_of(options)


def _print_any_text() -> None:
    """Let stdout take every text: escape what its encoding lacks, and ignore all if it is closed."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (open until Python ends)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _status_of(options: argparse.Namespace) -> int:
    try:
        options.verb(options)
        sys.stdout.flush()  # here, because a closed pipe is else found as Python ends
    except EbbtideError as error:
        print(error, file=sys.stderr)
        return FAILED
    except OSError as error:  # no space, no permission
        if isinstance(error, BrokenPipeError) and _reader_left():
            return CLOSED
        print(f"{type(error).__name__}: {error}.", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(INTERRUPTED_LINE, file=sys.stderr)
        return INTERRUPTED
    except Exception:  # Python's own status of an uncaught error is 1, which means alarms
        traceback.print_exc()
        return FAILED
    return 0


def _reader_left() -> bool:
    """Whether the pipe of the output is closed, which is no error; then nothing more is written to it."""
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # not a file
        return False
    output = select.poll()
    output.register(descriptor, 0)
    is_closed = any(event & select.POLLERR for _, event in output.poll(0))
    if is_closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # Python flushes again as it ends
    return is_closed


def parser_of(prog: str = NAME, verb: str = "") -> argparse.ArgumentParser:
    """Return the parser of a verb, or of all if `verb` is none of them."""
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} VERB [OPTIONS]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=_overview(),
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--version", action="version", version=f"{NAME} {__version__}", help="print the version and exit"
    )
    verbs = parser.add_subparsers(
        action=_Verbs, metavar="VERB", required=True, prog=prog, help=argparse.SUPPRESS
    )
    names = [VERBS[verb][0]] if verb in VERBS else dict.fromkeys(module for module, _ in VERBS.values())
    for module in names:
        import_module(f"{__name__}.{module}").add_verbs(verbs)
    return parser


class _Verbs(argparse._SubParsersAction):  # type: ignore[type-arg]
    """The verbs; their lines of help are those of the overview."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().add_parser(name, **{**options, "help": VERBS[name][1]})
        return parser


def _overview() -> str:
    """The verbs by purpose, which argparse cannot list."""
    lines = [
        "`snakemake` runs whole studies. These verbs look at a study, prepare one, and do its steps alone.",
    ]
    for title, verbs in (("verbs", USER_VERBS), ("steps that the workflow runs", STEPS)):
        lines += ["", f"{title}:", *(f"  {verb:<18}{about}" for verb, (_, about) in verbs.items())]
    return "\n".join(lines)


def _unknown(verb: str) -> str:
    return (
        f"ConfigError: VERB: found {verb!r}, allowed: {', '.join(VERBS)}{nearest(verb, list(VERBS)) or '.'}"
    )
