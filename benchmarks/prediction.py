"""How often the truth lay inside: labels to a target as predicted after each round, beside what it took.

    python benchmarks/prediction.py RUN_OR_SWEEP…          curves of run folders, the student's and its baselines'
    python benchmarks/prediction.py                        the published tables of benchmarks/results alone

A curve is cut after its fourth round and each later one but the last. From what is left, labels to targets 0.5, 1, 2,
4 and 8 points above the best so far are predicted and compared with the whole curve. A target that the whole curve does
not reach is held where the interval does not end before the curve does; `reached` leaves these out. `early`: the truth
lay below the interval, `late`: above.
"""

import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from kdal_cli.study.baselines import FIGURE, baselines, spoken
from kdal_cli.study.prediction import FEWEST, futures
from kdal_cli.study.records import find
from kdal_cli.study.statistics import reaches

ABOVE = (0.005, 0.01, 0.02, 0.04, 0.08)
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Curve:
    study: str
    who: str
    labels: Sequence[float]
    runs: Sequence[Sequence[float]]
    """A share for each round, for each seed that is averaged."""


@dataclass(frozen=True)
class Guess:
    """A prediction and what came. end: labels at the end of the whole curve."""

    curve: Curve
    rounds: int
    low: float
    high: float
    truth: float
    end: float

    @property
    def reached(self) -> bool:
        return self.truth <= self.end

    @property
    def side(self) -> str:
        if not self.reached:
            return "inside" if self.high > self.end else "late"
        return "early" if self.truth < self.low else "late" if self.truth > self.high else "inside"


def guesses(curve: Curve) -> Iterator[Guess]:
    mean = np.mean(curve.runs, axis=0).tolist()
    for rounds in range(FEWEST, len(mean)):
        seen = [run[:rounds] for run in curve.runs]
        step = curve.labels[rounds - 1] - curve.labels[rounds - 2]
        ahead = futures(curve.labels[:rounds], seen, step)
        assert ahead is not None
        for more in ABOVE:
            target = max(mean[:rounds]) + more
            if target < 1:
                found, truth = ahead.reaching(target), reaches(curve.labels, mean, target)
                yield Guess(curve, rounds, found.low, found.high, truth, curve.labels[-1])


def of_runs(folders: Sequence[Path]) -> Iterator[Curve]:
    """The curves of single runs, and of the mean over their seeds."""
    for folder in folders:
        groups: dict[tuple[str, str], list[tuple[list[float], list[float]]]] = {}
        for record in find([folder]):
            data, sampler = record.choices.get("data", ""), record.choices.get("sampler", "")
            for column in [FIGURE, *baselines(record.keys)]:
                who = "student" if column == FIGURE else spoken(column)
                labels, shares = record.values("labels"), record.values(column)
                groups.setdefault((f"{data} {sampler}", who), []).append((labels, shares))
                yield Curve(f"{data}, single runs", who, labels, [shares])
        for (name, who), found in groups.items():
            if len(found) > 1 and all(labels == found[0][0] for labels, _ in found):
                study = f"{name.split()[0]}, means of {len(found)} seeds"
                yield Curve(study, who, found[0][0], [shares for _, shares in found])


def of_tables(folder: Path) -> Iterator[Curve]:
    """Rows of published tables whose columns are numbers of labels: means, in %."""
    for path in sorted(folder.glob("*.md")):
        labels: dict[int, float] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if sum(cell.isdigit() for cell in cells) >= FEWEST + 1:
                labels = {place: float(cell) for place, cell in enumerate(cells) if cell.isdigit()}
            elif labels and len(cells) > max(labels) and all(re.fullmatch(r"[\d.]+", cells[p]) for p in labels):
                shares = [float(cells[place]) / 100 for place in labels]
                yield Curve(f"{path.stem}, published means", cells[0], list(labels.values()), [shares])


def line(name: str, found: Sequence[Guess]) -> str:
    reached = [guess for guess in found if guess.reached]
    sides = [guess.side for guess in found]
    inside = [guess.side == "inside" for guess in reached]
    ratios = [guess.high / guess.low for guess in reached if math.isfinite(guess.high)]
    shares = (f"{100 * sides.count(side) / len(sides):.0f} %" for side in ("inside", "early", "late"))
    told = f"{100 * sum(inside) / len(inside):.0f} % of {len(inside)}" if inside else "–"
    open_ends = sum(math.isinf(guess.high) for guess in reached)
    width = f"{median(ratios):.1f}" if ratios else "–"
    return f"| {name} | {len(found)} | {' | '.join(shares)} | {told} | {width} | {open_ends} |"


def main(folders: Sequence[Path]) -> None:
    found = [guess for curve in (*of_tables(RESULTS), *of_runs(folders)) for guess in guesses(curve)]
    print("| curves | predictions | inside | early | late | inside, of those reached | high / low | no upper end |")
    print("|---|---|---|---|---|---|---|---|")
    for study in dict.fromkeys(guess.curve.study for guess in found):
        mine = [guess for guess in found if guess.curve.study == study]
        for who, part in (("", mine), (", students", [g for g in mine if g.curve.who == "student"])):
            if part and (part != mine or not who):
                print(line(study + who, part))
    for rounds in range(FEWEST, 1 + max(guess.rounds for guess in found)):
        print(line(f"after {rounds} rounds", [guess for guess in found if guess.rounds == rounds]))
    print(line("all", found))


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
