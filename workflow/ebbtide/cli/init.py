"""The verb that writes a first study: `init`."""

import argparse
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.errors import ConfigError, EbbtideError, nearest

if TYPE_CHECKING:
    from ebbtide.checkpoints.discovery import FoundRow
    from ebbtide.cli.options import Verbs

EXAMPLES = """\
examples:
  ebbtide init runs/my-model                a directory of checkpoints, or of several runs
  ebbtide init pythia                       a series of the catalogue
  ebbtide init owner/name --to mine.yaml    a repository of the hub, whose branches are listed"""


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    init = verbs.add_parser(
        "init",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Write a commented study for a directory of checkpoints, a series or a hub repository.",
        epilog=EXAMPLES,
    )
    init.add_argument("what", metavar="DIR|SERIES|REPO", help="where the checkpoints are")
    init.add_argument(
        "--to", metavar="FILE", help="study to write (default: studies/NAME.yaml); never an existing file"
    )
    init.set_defaults(verb=_init, network=True)


def _init(options: argparse.Namespace) -> None:
    from ebbtide.study.checks import check_checkpoints
    from ebbtide.study.draft import study_text
    from ebbtide.study.load import read_study

    rows = _found(options.what)
    name = Path(options.to).stem if options.to else _name(options.what)
    to = Path(options.to or f"studies/{name}.yaml")
    text = study_text(re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip("-_.") or "mine", str(to), rows)
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        with to.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"--to: {to} exists, and is left as it is; give another name with --to.") from None
    try:
        study = read_study(to)
        if not study.unlocked:
            check_checkpoints(study)
    except EbbtideError:
        to.unlink()
        raise
    for row in rows:
        print(f"{row.values.get('name') or row.values['series']}: {row.found}")
        if row.renamed:
            print(f"  {row.renamed}")
        for reason in row.left_out:
            print(f"  not in the study: {reason}")
    print(f"{to} is written. Read it, choose tasks, and run:")
    if study.unlocked:
        print(f"  snakemake lock --cores 1 --configfile {shlex.quote(str(to))}")
    print(f"  snakemake -n --quiet rules --configfile {shlex.quote(str(to))}")


def _found(what: str) -> "list[FoundRow]":
    from ebbtide.checkpoints import discovery

    if Path(what).is_dir():
        return discovery.rows_on_disk(what)
    names = discovery.series_names()
    if what in names:
        return [discovery.row_of_series(what)]
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*", what):
        if (known := discovery.series_of_repository(what)) is not None:
            return [discovery.row_of_series(*known)]
        from ebbtide.checkpoints.hub.client import Hub

        return [discovery.row_of_repository(what, Hub().refs(what))]
    raise ConfigError(
        f"init: found {what!r}, which is not a directory; allowed: a directory, a hub repository as "
        f"owner/name, or a series ({', '.join(names)}){nearest(what, names) or '.'}"
    )


def _name(what: str) -> str:
    """The name of the study: the last part of the directory or repository."""
    name = Path(what).resolve().name if Path(what).is_dir() else what.rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip("-_.") or "mine"
