"""The sentences that this project exists for, told by four cells: {with teacher, without} × {sampler, random}."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kdal_cli.study.cells import BASELINES, matched
from kdal_cli.study.curves import Curves, Range
from kdal_cli.study.statistics import interaction
from kdal_cli.study.study import Claim

EARLY = 0.5
"""The share of the labels that counts as early."""


@dataclass(frozen=True)
class Square:
    """Four cells, of which all but the first may not have been run. teaching: the factor that has no teacher at `none`.

    both: teacher and sampler. alone: the sampler without a teacher. drawn: the teacher, images drawn at random.
    """

    teaching: str
    both: Curves
    alone: Curves | None
    drawn: Curves | None
    neither: Curves | None


def squares(found: Sequence[Curves]) -> Iterator[Square]:
    """A square for each cell that has a teacher and a sampler."""
    every, by_cell = [curves.cell for curves in found], {id(curves.cell): curves for curves in found}
    differ = [factor for factor in ("loss", "teacher") if any(factor in cell.factors for cell in every)]
    if not differ or not any("sampler" in cell.factors for cell in every):
        return
    teaching = [f for f in differ if any(cell.factors[f] == BASELINES[f] for cell in every)] or differ[:1]
    untaught, random = {factor: BASELINES[factor] for factor in teaching}, {"sampler": BASELINES["sampler"]}
    for curves in found:
        if not (untaught | random).items() & curves.cell.factors.items():
            others = (matched(curves.cell, change, every) for change in (untaught, random, untaught | random))
            yield Square(teaching[0], curves, *(by_cell.get(id(other)) for other in others))


def claims(block: str, found: Sequence[Curves], within: Range | None) -> Iterator[Claim]:
    """What the cells of a block say; areas under curves are compared, `within` the range of x that all cover."""
    if within is None:
        return
    start, end = within
    early, prefix = (start, start + EARLY * (end - start)), f"{block}: " if block else ""
    for square in squares(found):
        both, alone, drawn, neither = square.both, square.alone, square.drawn, square.neither
        factors = both.cell.factors
        taught, sampler, none = factors[square.teaching], factors["sampler"], BASELINES[square.teaching]
        if alone and (gain := both.better(both.areas(early), alone.areas(early))):
            what = f"{prefix}{taught} − {none}, with {sampler}, in the first half"
            yield Claim("distillation makes active learning better early", what, gain)
        if drawn and (gain := both.better(both.areas(within), drawn.areas(within))):
            yield Claim("active learning makes distillation better", f"{prefix}{sampler} − random, with {taught}", gain)
        if alone and drawn and neither:
            heights = [
                {seed: each.sign * height for seed, height in each.areas(within).items()}
                for each in (both, drawn, alone, neither)
            ]
            if set.intersection(*map(set, heights)):
                what = f"{prefix}({sampler} − random) with {taught} − the same with {none}"
                gain = interaction(heights[0], heights[1], heights[2], heights[3])
                yield Claim("a teacher adds to what active learning gains", what, gain)
