"""Ranges of parameters, written once where a parameter is declared and checked where a value comes in from outside.

A signature is a schema: `def kd(..., *, temperature: Positive = 4.0)` accepts a finite number above zero, and whoever
binds configuration to it (`kdal_cli.compose.bind`) says so when it gets another. `flat` spells nested values out.
Standard library only.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any


@dataclass(frozen=True)
class Within:
    """A range of numbers: `low` and `high` are included unless `above` says that `low` is not."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        over = value > self.low if self.above else value >= self.low
        return over and value <= self.high and -math.inf < value < math.inf

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"from {self.low:g} to {self.high:g}"
        return f"above {self.low:g}" if self.above else f"at least {self.low:g}"


Count = Annotated[int, Within(1)]
"""A whole number of things, at least one."""

Natural = Annotated[int, Within(0)]
"""A whole number of things, possibly none."""

Positive = Annotated[float, Within(0, above=True)]
"""A finite number above zero: a temperature, a learning rate."""

NonNegative = Annotated[float, Within(0)]
"""A finite number, zero or above: a weight, a price."""

Port = Annotated[int, Within(0, 65_535)]
"""Of TCP; 0 is any that is free."""

Share = Annotated[float, Within(0, 1)]
"""A fraction from 0 to 1."""


def flat(nested: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return found


def at_home(path: str | Path) -> Path:
    """`~/images` below the home folder; any other path, and one of a user who is not there, as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
