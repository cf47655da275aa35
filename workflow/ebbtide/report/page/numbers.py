"""Numbers on the page: six significant digits in its data, three where they are read."""

import math

DIGITS = 6


def rounded(value: float | None) -> float | None:
    """Return a number with six significant digits; None if it is missing or infinite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def shown(value: object) -> str:
    """Return a value of a table as it is read: numbers with four significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return "" if value is None else str(value)
