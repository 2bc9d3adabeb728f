"""Which runs are alike: what differs between them is found, not asked for.

A factor is a key of the configuration that differs, or a whole group where another option of it was chosen. Runs that
agree in every factor are a cell, told apart by their seed alone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kdal_cli.errors import UserError, nearest
from kdal_cli.study.records import Record, Value

IGNORED = (
    "seed",
    "device",
    "threads",
    "trust",
    "sweep",
    "tracker",
    "data.root",
    "data.path",
    "data.store",
    "teacher.store",
    "pretrain.store",
    "replay",
    "baselines",
)
"""Keys, and what is below them, that change no result or that runs are paired by."""

BASELINES = {"sampler": "random", "loss": "none", "teacher": "none"}
"""What a factor is compared with unless it is said otherwise."""

NOTHING = "–"
"""The level of a run that does not have the key."""

Factors = Mapping[str, str]
"""{factor: its level}"""


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone: finished ones by seed, and the others."""

    factors: Factors
    runs: Mapping[int, Record]
    unfinished: Sequence[Record] = ()

    @property
    def name(self) -> str:
        """`badge` where one thing differs, `sampler=badge loss=kd` where several do."""
        return named(self.factors)


def named(factors: Factors) -> str:
    return next(iter(factors.values())) if len(factors) == 1 else told_in_full(factors) or "all runs"


def told_in_full(factors: Factors) -> str:
    return " ".join(f"{factor}={level}" for factor, level in factors.items())


def cells(records: Sequence[Record]) -> tuple[list[Cell], list[str]]:
    """(cells in the order of their first run, what was left out, in words).

    Of several finished runs of one seed the one that started last counts. Raises UserError for runs of several stages.
    """
    stages = sorted({record.stage for record in records})
    if len(stages) > 1:
        raise UserError(f"runs of several stages: {', '.join(stages)}", cure="name the folders of one of them")
    found: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record, levels in zip(records, factors(records), strict=True):
        found.setdefault(tuple(levels.items()), []).append(record)
    made, notes = [], []
    for levels, members in found.items():
        finished = sorted((r for r in members if r.done), key=lambda record: record.started)
        runs = {record.seed: record for record in finished}
        cell = Cell(dict(levels), dict(sorted(runs.items())), [r for r in members if not r.done])
        if twice := len(finished) - len(runs):
            notes.append(f"{cell.name}: {twice} older run{'s' * (twice > 1)} of the same seed left out")
        made.append(cell)
    return made, notes


def factors(records: Sequence[Record]) -> list[dict[str, str]]:
    """The factors of each run and their levels, in the order of the configuration."""
    keys = dict.fromkeys(key for record in records for key in record.settings)
    groups: dict[str, list[str]] = {}
    for key in keys:
        if not _ignored(key) and _differs(key, records) and not _follows(key, records):
            groups.setdefault(key.partition(".")[0], []).append(key)
    levels: list[dict[str, str]] = [{} for _ in records]
    for group, below in groups.items():
        by_option: dict[str, list[Record]] = {}
        for record in records:
            by_option.setdefault(record.choices.get(group) or NOTHING, []).append(record)
        if len(by_option) > 1:
            for level, record in zip(levels, records, strict=True):
                level[group] = record.choices.get(group) or NOTHING
        for key in below:
            if any(_differs(key, alike) for alike in by_option.values()):
                for level, record in zip(levels, records, strict=True):
                    level[key] = _text(record.settings.get(key))
    return levels


def matched(cell: Cell, against: Factors, others: Iterable[Cell]) -> Cell | None:
    """The cell that `cell` is compared with: the one that agrees with it in all but what `against` names.

    Keys below a group that `against` names belong to its options: they agree if there is such a cell, else they are
    not looked at. None for a cell that is a baseline itself, and where there is no such cell, or more than one.
    """
    if against.items() <= cell.factors.items():
        return None
    wanted, below = {**cell.factors, **against}, tuple(f"{factor}." for factor in against)

    def apart(factors: Factors) -> Factors:
        return {factor: level for factor, level in factors.items() if not factor.startswith(below)}

    alike = [other for other in others if apart(other.factors) == apart(wanted)]
    exact = [other for other in alike if other.factors == wanted]
    return next(iter(exact or alike)) if len(exact or alike) == 1 else None


def baseline(text: str | None, found: Sequence[Cell]) -> Factors:
    """`sampler=random`, or `random`, as factors; by default the customary ones, or the first level of the first.

    Customary is a random sampler, and where all samplers are alike, no teacher. Raises UserError for a factor or a
    level that no run has.
    """
    levels: dict[str, dict[str, None]] = {}
    for cell in found:
        for factor, level in cell.factors.items():
            levels.setdefault(factor, {})[level] = None
    if text is None:
        customary = {factor: level for factor, level in BASELINES.items() if level in levels.get(factor, {})}
        first = {factor: next(iter(below)) for factor, below in list(levels.items())[:1]}
        return {"sampler": customary["sampler"]} if "sampler" in customary else customary or first
    if not levels:
        raise UserError(f"--against {text}", where="these runs differ in nothing", cure="leave it out")
    wanted: dict[str, str] = {}
    for part in re.split(r",(?=[^,=]+=)", text):  # a level may be a list, commas and all
        factor, equals, level = part.partition("=")
        if not equals:
            factor, level = next((name for name, below in levels.items() if part in below), next(iter(levels))), part
        if factor not in levels:
            where = f"these runs do not differ in {factor!r}"
            raise UserError(f"--against {text}", where=where, cure=nearest(factor, levels))
        if level not in levels[factor]:
            raise UserError(f"--against {text}", where="no run has it", cure=nearest(level, levels[factor]))
        wanted[factor] = level
    return wanted


def _ignored(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in IGNORED)


def _follows(key: str, records: Sequence[Record]) -> bool:
    """Whether a key of the recipe is in every run what the loss of that run asks for: then it is no choice of its own.

    A loss says it in its `recipe`, to which the recipe refers (conf/loss/shared/recipe.yaml); what is typed differs.
    """
    said = f"loss.recipe.{key.rpartition('.')[2]}"
    return key.startswith("recipe.") and all(
        said in record.settings and _text(record.settings[said]) == _text(record.settings.get(key))
        for record in records
    )


def _differs(key: str, records: Sequence[Record]) -> bool:
    return len({_text(record.settings.get(key)) for record in records}) > 1


def _text(value: Value) -> str:
    """A setting in words; different ones never in the same."""
    if value is None or isinstance(value, bool):
        return NOTHING if value is None else str(value).lower()
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if isinstance(value, str) or float(short) == value else repr(value)
