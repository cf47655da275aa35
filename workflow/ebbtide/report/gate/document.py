"""The gate as JSON for other programs: `gate.json`, described by workflow/schemas/gate.schema.json."""

import json
import math
from collections import Counter
from dataclasses import is_dataclass
from typing import Any

from ebbtide.report.gate.gate import OUTCOMES, Gate
from ebbtide.statistics.alarms.alarms import SEVERITIES

VERSION = 1  # increment it when a key changes its meaning or is removed


def as_json(gate: Gate) -> str:
    """Return `gate.json`. Numbers that are unknown or not finite are null; ends with a line break."""
    labels = Counter(drop.label for drop in gate.drops)
    outcomes = Counter(case.outcome for case in gate.cases)
    found = {
        "version": VERSION,
        **vars(gate),
        "day": gate.day.isoformat(),
        "counts": {
            "drops": len(gate.drops),
            "failing": sum(drop.fails for drop in gate.drops),
            **{name: labels[name] for name in (*SEVERITIES, "allowed")},
        },
        "outcomes": {name: outcomes[name] for name in OUTCOMES},
        # Drops are listed once, above.
        "cases": [{**vars(case), "drops": len(case.drops)} for case in gate.cases],
    }
    return json.dumps(_plain(found), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return {name: _plain(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
