"""Numbers that change over a training: a weight that warms up, a temperature that falls. Standard library only."""

import math
from dataclasses import dataclass
from typing import Literal

from kdal_cli.values import Share


@dataclass(frozen=True)
class Schedule:
    """From `start` to `end` over the share of the training up to `until`, and `end` from there on.

    constant stays at `end`; linear and cosine are straight and half a cosine wave. In YAML, wherever a weight or a
    temperature is expected: `{schedule: linear, start: 8, end: 2}`.
    """

    schedule: Literal["constant", "linear", "cosine"]
    end: float
    start: float = 0.0
    until: Share = 1.0

    def __str__(self) -> str:
        until = f" until {self.until:.0%}" if self.until < 1 else ""
        return (
            f"{self.end:g}" if self.schedule == "constant" else f"{self.schedule} {self.start:g} → {self.end:g}{until}"
        )

    def __call__(self, progress: float) -> float:
        """The value at `progress`, the share of the training that is done, from 0 to 1."""
        if self.schedule == "constant" or progress >= self.until:
            return self.end
        done = progress / self.until
        way = done if self.schedule == "linear" else (1 - math.cos(math.pi * done)) / 2
        return self.start + (self.end - self.start) * way


def at(value: float | Schedule, progress: float) -> float:
    """A number that may be scheduled, at `progress`."""
    return value(progress) if isinstance(value, Schedule) else value
