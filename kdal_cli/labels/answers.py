"""What people say about the images of a query, one after the other: each answer is on disk before the next image."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.labels.desk import LONGEST_NAME, UNDECIDED
from kdal_cli.labels.oracle import Answer
from kdal_cli.records.files import append, cut, lines, whole_lines

LONGEST_LINE = 1 << 16
LONGEST = 3_600.0
"""Seconds that are counted for one image at most."""


@dataclass(frozen=True)
class Said:
    """What somebody said of an image: a class, or a word of `UNDECIDED`; neither takes back what was said before."""

    id: int
    label: int | None
    word: str
    seconds: float
    time: str
    by: str

    @property
    def taken_back(self) -> bool:
        return self.label is None and not self.word


@dataclass
class Answers:
    """The answers to a question, in `asking/round_003.jsonl` and in memory.

    events: everything that was said, in order. now: {id: what holds}. spent: {id: seconds in all}.
    """

    path: Path
    ids: tuple[int, ...]
    classes: tuple[str, ...]
    events: list[Said] = field(default_factory=list)
    now: dict[int, Said] = field(default_factory=dict)
    spent: dict[int, float] = field(default_factory=dict)

    @cached_property
    def known(self) -> frozenset[int]:
        """The ids that are asked about."""
        return frozenset(self.ids)

    @classmethod
    def open(cls, path: Path, ids: Sequence[int], classes: tuple[str, ...]) -> "Answers":
        """Raises UserError for a file that is not what was written there. A line that a kill tore was not answered."""
        answers = cls(path, tuple(ids), classes)
        if path.exists():
            cut(path, whole_lines(path))
            for number, line in enumerate(lines(path, LONGEST_LINE), 1):
                try:
                    answers._take(answers._read(json.loads(line)))
                except (ValueError, TypeError, KeyError, RecursionError):
                    cure = "restore the file from a copy, or remove it, to be asked again"
                    raise UserError(f"line {number} is no answer to this query", where=path, cure=cure) from None
        return answers

    @property
    def missing(self) -> int:
        return len(self.ids) - len(self.now)

    def add(self, id: int, label: int | None, word: str, seconds: float, by: str) -> None:
        """Write down what was said. Raises ValueError for an image or a class that was not asked about."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        said = self._read({"id": id, "label": label, "word": word, "seconds": round(seconds, 2), "time": now, "by": by})
        append(self.path, (json.dumps(vars(said)) + "\n").encode(), durable=True)
        self._take(said)

    def answer(self, price: float, price_per_hour: float | None, owner: str) -> Answer:
        """Everything that was said, as the ledger takes it; a label costs its price, or what the time for it costs."""
        told = [self.now[id] for id in self.ids]
        seconds = [self.spent[id] for id in self.ids]
        costs = [price] * len(told) if price_per_hour is None else [price_per_hour * s / 3_600 for s in seconds]
        labels = [said.label for said in told if said.label is not None]
        return Answer(
            labels=torch.tensor(labels, dtype=torch.int64),
            costs=torch.tensor(costs, dtype=torch.float64),
            owner=owner,
            undecided={place: said.word for place, said in enumerate(told) if said.label is None},
            owners=tuple(said.by for said in told),
            times=tuple(said.time for said in told),
            seconds=tuple(seconds),
        )

    def _read(self, record: dict[str, Any]) -> Said:
        said = Said(**record)
        known = type(said.id) is int and said.id in self.known
        labelled = type(said.label) is int and 0 <= said.label < len(self.classes) and said.word == ""
        spoken = said.label is None and said.word in ("", *UNDECIDED)
        texts = isinstance(said.time, str) and isinstance(said.by, str) and len(said.by) <= LONGEST_NAME
        timed = isinstance(said.seconds, float | int) and math.isfinite(said.seconds) and 0 <= said.seconds <= LONGEST
        if not (known and (labelled or spoken) and texts and timed):
            raise ValueError(record)
        return said

    def _take(self, said: Said) -> None:
        self.events.append(said)
        self.spent[said.id] = self.spent.get(said.id, 0.0) + said.seconds
        if said.taken_back:
            self.now.pop(said.id, None)
        else:
            self.now[said.id] = said


def guesses(labels: Tensor, probs: Tensor) -> list[tuple[int, float]]:
    """[(class, probability)] of what a model holds for likely."""
    return [(label, round(p, 4)) for label, p in zip(labels.tolist(), probs.tolist(), strict=True)]
