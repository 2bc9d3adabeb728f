"""Where the seconds of a round go."""

import time

SPENT = ("teacher_s", "train_s", "score_s", "select_s", "evaluate_s", "baselines_s", "report_s")
"""The columns of `timings.csv` that add up to a round."""


class Clock:
    """Seconds of a round by what they went into, each of `SPENT`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(SPENT, 0.0)
        self._since = time.perf_counter()

    def lap(self, name: str, minus: float = 0.0) -> None:
        """Add the time since the last lap to `name`."""
        now = time.perf_counter()
        self.add(name, now - self._since - minus)
        self._since = now

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] += seconds
