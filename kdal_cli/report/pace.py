"""How fast a piece of work goes, and when it will be done."""

import math
import time
from collections.abc import Callable

SAMPLE_S = 0.1
"""Seconds between two samples of the speed: what is shown changes ten times a second at most."""

MEMORY_S = 5.0
"""Seconds after which a sample has faded to 1/e of its weight."""


class Pace:
    """Counts steps and images, and smooths their speed over the last few seconds.

        speed += (1 - exp(-Δt / MEMORY_S)) · (Δdone / Δt - speed)

    an exponential average that does not depend on how often it is updated; the first sample is taken as it is.

    steps: how many there will be, 0 where nobody knows. done: how many there have been, `skipped` of them before the
    clock started. images: how many were in them.
    steps_per_s, images_per_s: smoothed; NaN until something is done, 0 images/s where the work has none.
    """

    def __init__(self, steps: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps, self.done, self.skipped, self.images = steps, 0, 0, 0
        self.steps_per_s = self.images_per_s = math.nan
        self._clock = clock
        self._start = self._sampled_at = clock()
        self._sampled_done = self._sampled_images = 0

    def advance(self, steps: int, images: int) -> bool:
        """Count so much as done; true where that brought a new sample, so that it is worth showing."""
        self.done += steps
        self.images += images
        return self._clock() - self._sampled_at >= SAMPLE_S and self.sample()

    def skip(self, steps: int) -> None:
        """So much was done before the clock started, and says nothing about speed."""
        self.done += steps
        self.skipped += steps
        self._sampled_done += steps

    def sample(self) -> bool:
        """Bring the speeds up to date; false where nothing was done since the last time."""
        now = self._clock()
        elapsed, steps, images = (
            now - self._sampled_at,
            self.done - self._sampled_done,
            self.images - self._sampled_images,
        )
        if elapsed <= 0 or not steps:
            return False
        if math.isnan(self.steps_per_s):
            self.steps_per_s, self.images_per_s = steps / elapsed, images / elapsed
        weight = -math.expm1(-elapsed / MEMORY_S)
        self.steps_per_s += weight * (steps / elapsed - self.steps_per_s)
        self.images_per_s += weight * (images / elapsed - self.images_per_s)
        self._sampled_at, self._sampled_done, self._sampled_images = now, self.done, self.images
        return True

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def mean_images_per_s(self) -> float:
        """Over all of the work; NaN where no time has passed."""
        return self.images / self.elapsed if self.elapsed > 0 else math.nan

    @property
    def left(self) -> float:
        """Seconds until the last step, at the smoothed speed; NaN where that or the number of steps is not known."""
        if not self.steps or not self.steps_per_s > 0:
            return math.nan
        seconds = (self.steps - self._sampled_done) / self.steps_per_s - (self._clock() - self._sampled_at)
        return max(0.0, seconds)
