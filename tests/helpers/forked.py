"""Snakemake in a process forked from one that has imported it: importing is most of what a dry run costs.

The server imports Snakemake and the libraries that every study needs, and nothing of Ebbtide, so that each
run reads the package of its own checkout.
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

PRELOADED = ["snakemake.cli", "snakemake.workflow", "snakemake.dag", "snakemake.scheduling", "jsonschema"]


def run_snakemake(arguments: Sequence[str], env: Mapping[str, str], output: Path) -> int:
    """Run `snakemake` with these arguments; stdout and stderr go to `output`. Returns the exit status."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, "forked"])
    process = context.Process(target=_child, args=(list(arguments), dict(env), str(output)))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _child(arguments: list[str], env: dict[str, str], output: str) -> NoReturn:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ.clear()
    os.environ.update(env)
    for name in [name for name in sys.modules if name.partition(".")[0] == "ebbtide"]:
        del sys.modules[name]
    sys.path = [path for path in sys.path if not path.endswith("/workflow")]
    sys.argv = ["snakemake", *arguments]
    from snakemake.cli import main

    status: object = 1
    try:
        main()
    except SystemExit as end:
        status = end.code
    if isinstance(status, str):  # a sentence: what the interpreter does with it at its end
        print(status, file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(status) if isinstance(status, int) else 0)
