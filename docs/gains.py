"""What each option gained in a published study: the table of a sweep, as its report wrote it."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
NOT_MEASURED = "–"


@dataclass(frozen=True)
class Study:
    """accuracy: {option: test accuracy in %, mean of its seeds}. plain: the option that the others are held against."""

    accuracy: Mapping[str, float]
    plain: str

    def cell(self, option: str) -> str:
        """97.6, +3.2: accuracy and what it is above the plain option, both in points."""
        if option not in self.accuracy:
            return NOT_MEASURED
        reached = self.accuracy[option]
        return f"{reached:.1f}, {reached - self.accuracy[self.plain]:+.1f}"


def study(table: str, by: str, value: str, plain: str) -> Study:
    """table: a CSV of benchmarks/results, a row for each run; by: the column of the option; value: of the accuracy."""
    reached = defaultdict[str, list[float]](list)
    with (RESULTS / table).open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["state"] == "done":
                reached[row[by]].append(100 * float(row[value]))
    return Study({option: fmean(values) for option, values in reached.items()}, plain)
