"""The cells of a block, the best first, with what follows from all of them together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kdal_cli.study.statistics import Paired
from kdal_cli.study.study import Block, Entry, Study, sign_of

FEW = 9
"""As many cells can be told apart in a picture."""

BEST = 6
"""Of more cells so many of the best are drawn out, and the best baselines besides."""


@dataclass(frozen=True)
class Standing:
    """A cell at its place. is_baseline: whether another is compared with it.

    saving: how many times as much its baseline takes to reach the target; None unless both reach it.
    """

    entry: Entry
    is_baseline: bool
    saving: float | None

    @property
    def gain(self) -> Paired | None:
        """What it is judged by."""
        return self.entry.gain.headline if self.entry.gain else None


def standings(study: Study, block: Block) -> list[Standing]:
    """The cells of a block by area under the curve, or by the figure at the end where there is none."""
    sign = sign_of(study.figure)
    entries = sorted(block.entries, key=lambda entry: -sign * (entry.area or entry.last).mean)
    by_name = {entry.name: entry for entry in entries}
    baselines = {entry.gain.baseline for entry in entries if entry.gain}
    return [
        Standing(
            entry,
            entry.name in baselines,
            _saving(entry, by_name[entry.gain.baseline]) if entry.gain else None,
        )
        for entry in entries
    ]


def drawn_out(ranked: Sequence[Standing]) -> list[Standing]:
    """Those that are told apart in a picture: all of few, or the best and the best baselines, in their order."""
    if len(ranked) <= FEW:
        return list(ranked)
    baselines = [place for place, standing in enumerate(ranked) if standing.is_baseline and place >= BEST]
    return [ranked[place] for place in [*range(BEST), *baselines[: FEW - BEST]]]


def _saving(entry: Entry, baseline: Entry) -> float | None:
    if entry.reached is None or baseline.reached is None:
        return None
    ours, theirs = entry.reached.median, baseline.reached.median
    return theirs / ours if math.isfinite(ours) and math.isfinite(theirs) and ours > 0 else None
