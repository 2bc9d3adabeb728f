"""How numbers and durations are written, the same on a terminal, in a log and in a picture."""

import math
from collections.abc import Mapping

from kdal_cli.plain import clean

MISSING = "–"


def shortened(text: object, length: int) -> str:
    """`clean(text)` in at most `length` characters, the end of a longer one replaced by `…`."""
    line = clean(text)
    return line if len(line) <= length else line[: length - 1] + "…"


def number(value: float) -> str:
    """A figure in a few characters: 4 significant digits, with separators from 1,000 on, where all digits are shown."""
    if not math.isfinite(value):
        return str(float(value))
    if value == round(value) or abs(value) >= 1000:
        return count(value)
    return f"{value:.4g}"


def count(value: float) -> str:
    """A number of things, with separators: `50,000`."""
    return f"{round(value):,}"


def percent(share: float) -> str:
    """A share from 0 to 1 as % with two digits, without the sign: `93.27`."""
    return f"{100 * share:.2f}"


def duration(seconds: float) -> str:
    """The two largest units: `0.34 s`, `4 s`, `3 min 20 s`, `1 h 12 min`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600:,} h {seconds % 3600 // 60} min"


def figures_text(values: Mapping[str, float]) -> str:
    """`loss 1.234 ce 0.9 val_accuracy 0.812`"""
    return " ".join(f"{clean(name)} {number(value)}" for name, value in values.items())
