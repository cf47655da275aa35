"""Checkpoints that one run leaves out, with the reason: `watch.left_out`, which `ebbtide watch` sets.

Each is a finding of the audit, which says why the checkpoint is missing. Directories on disk are left out by
`watch.only`, which lists those that are taken in, because further ones may appear at any time.
"""

import re
from collections.abc import Collection, Iterator, Mapping

from ebbtide.checkpoints.findings import DROP, WARN, Finding

LeftOut = Mapping[str, Mapping[str, str]]  # model → checkpoint → reason

FINDING = "left_out"


def left_out_findings(left_out: LeftOut, on_disk: Collection[str]) -> Iterator[Finding]:
    """Yield a finding for each checkpoint that is left out.

    Directories on disk are not in the grid anyway. Checkpoints of other origins are dropped by their finding.
    `on_disk` are the names of models on disk.
    """
    for model, checkpoints in left_out.items():
        for name, reason in checkpoints.items():
            step = re.search(r"step(\d+)", name)
            yield Finding(
                FINDING,
                model,
                (name,),
                (int(step[1]),) if step else (),
                f"left out of this run: {reason}",
                severity="warning",
                action=WARN if model in on_disk else DROP,
                remedy="`ebbtide watch` takes it in once the reason is gone",
            )
