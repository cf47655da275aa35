"""The verb `gc`: list and remove what no study refers to in a cell store."""

import argparse
import time
from typing import TYPE_CHECKING

from ebbtide.cli.options import whole_number

if TYPE_CHECKING:
    from ebbtide.cli.options import Verbs

RECENT = 6  # hours


def add_verbs(verbs: "Verbs") -> None:
    """Add the verb to the command line."""
    gc = verbs.add_parser(
        "gc", description="List, and with --delete remove, what no study refers to in a cell store."
    )
    gc.add_argument("store", metavar="STORE", help="directory of the store")
    gc.add_argument(
        "studies",
        nargs="+",
        metavar="STUDY",
        help="configuration files, one per study, of all studies that use the store",
    )
    gc.add_argument("--delete", action="store_true", help="remove what is listed")
    gc.add_argument(
        "--older-than",
        type=whole_number(0),
        default=RECENT,
        metavar="HOURS",
        help=f"least age of what is listed (default: {RECENT})",
    )
    gc.set_defaults(verb=_gc)


def _gc(options: argparse.Namespace) -> None:
    from ebbtide.cells.garbage import DAY, HOUR, remove
    from ebbtide.jobs.unreferenced import unreferenced
    from ebbtide.notices import counted

    now = time.time()
    unused = unreferenced(options.store, options.studies, now=now, older_than=0)
    found = [item for item in unused if now - item.modified >= options.older_than * HOUR]
    for item in found:
        age = (now - item.modified) / DAY
        print(f"{item.size_bytes:>12,} bytes  {age:6.1f} days  {item.path}  {item.reason}")
    if recent := len(unused) - len(found):
        hours = counted(options.older_than, "hour")
        print(f"{counted(recent, 'unused file')} newer than {hours} not listed (see --older-than).")
    total = f"{counted(found, 'file')}, {sum(item.size_bytes for item in found):,} bytes"
    if not options.delete:
        print(f"{total} can be removed" + ("; add --delete to remove them." if found else "."))
        return
    left = [item.path for item in found if not remove(item)]
    print(f"{total} removed" + (f", except {counted(left, 'file')} written meanwhile." if left else "."))
