"""A query and what was answered, between the records of the ledger and whoever trains on it."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kdal_cli.labels._record import numbers, texts, whole, wholes
from kdal_cli.labels.oracle import TEACHER, Answer
from kdal_cli.plain import plain_cell

COLUMNS = ("round", "purpose", "id", "label", "class", "owner", "cost", "score", "time", "path")


@dataclass(frozen=True)
class Fact:
    """What was said of one image. label: None where no class was named; said: what was named instead."""

    id: int
    label: int | None
    said: str
    cost: float
    score: float
    owner: str
    time: str
    seconds: float


@dataclass(frozen=True)
class Purchase:
    """One query, answered. owner, time: of the answer as a whole; owners, times, seconds: of each label, or empty.

    ids, labels: (k,) int64 of the images whose class was named. costs, scores: (k,) float64. undecided: the others.
    audited: (id, class) of what a teacher was sure of and people were asked about. again: ids that had a label before:
    what is said of these is another opinion. opinions: {id: (who, class) of each} where several answered at once.
    """

    round: int
    purpose: str
    ids: Tensor
    labels: Tensor
    costs: Tensor
    scores: Tensor
    owner: str
    time: str
    undecided: tuple[Fact, ...] = ()
    owners: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    seconds: tuple[float, ...] = ()
    audited: tuple[tuple[int, int], ...] = ()
    again: frozenset[int] = frozenset()
    opinions: Mapping[int, tuple[tuple[str, int], ...]] = field(default_factory=dict)

    @property
    def by_teacher(self) -> int:
        """How many of the labels a teacher gave."""
        return (self.owners or (self.owner,) * len(self.ids)).count(TEACHER)

    @property
    def audits(self) -> tuple[bool, ...]:
        """Whether the teacher was right, of each image that people looked at and named the class of."""
        named = dict(zip(self.ids.tolist(), self.labels.tolist(), strict=True))
        return tuple(named[id] == label for id, label in self.audited if id in named)

    @property
    def first(self) -> Tensor:
        """(n,) ids of images that have their first label by this."""
        return torch.tensor([id for id in self.ids.tolist() if id not in self.again], dtype=torch.int64)

    @property
    def asked(self) -> Tensor:
        """Ids of all images that were asked about."""
        return torch.cat([self.ids, torch.tensor([fact.id for fact in self.undecided], dtype=torch.int64)])

    @property
    def cost(self) -> float:
        return float(self.costs.sum()) + sum(fact.cost for fact in self.undecided)

    def facts(self) -> list[Fact]:
        """What was said of each image: those with a label in the order picked, then the others."""
        n = len(self.ids)
        labelled = zip(
            self.ids.tolist(),
            self.labels.tolist(),
            self.costs.tolist(),
            self.scores.tolist(),
            self.owners or [self.owner] * n,
            self.times or [self.time] * n,
            self.seconds or [math.nan] * n,
            strict=True,
        )
        known = [Fact(id, label, "", cost, score, who, time, s) for id, label, cost, score, who, time, s in labelled]
        return [*known, *self.undecided]


def receipt(answer: Answer, count: int) -> dict[str, Any]:
    """What a record says of an answer about `count` images; keys of what is not known are left out.

    Raises ValueError for one that is not of so many.
    """
    labels: list[int | None] = answer.labels.tolist()
    for place in sorted(answer.undecided):
        labels.insert(place, None)
    columns = {key: list(getattr(answer, key)) for key in ("owners", "times", "seconds") if getattr(answer, key)}
    if any(len(column) != count for column in (labels, answer.costs, *columns.values())):
        raise ValueError(len(labels))
    said = [answer.undecided[place] for place in sorted(answer.undecided)]
    audited = {"audited": sorted(answer.audited.items())} if answer.audited else {}
    several = sorted((place, list(each)) for place, each in answer.opinions.items())
    record = {"labels": labels, "costs": answer.costs.tolist(), "owner": answer.owner}
    return (
        record | ({"undecided": said} if said else {}) | columns | audited | ({"opinions": several} if several else {})
    )


def purchase(request: Mapping[str, Any], record: Mapping[str, Any]) -> Purchase:
    """A purchase from its two records. Raises ValueError, TypeError or KeyError for a receipt that cannot be one."""
    ids, scores, costs = request["ids"], request["scores"], numbers(record["costs"])
    listed = record["labels"]
    decided = [place for place, label in enumerate(listed) if label is not None]
    others = [place for place, label in enumerate(listed) if label is None]
    owner, time, said = str(record["owner"]), str(record["time"]), texts(record.get("undecided", []))
    more = {"owners": texts, "times": texts, "seconds": numbers}
    columns = {key: tuple(read(record[key])) for key, read in more.items() if key in record}
    if any(len(column) != len(ids) for column in (listed, costs, *columns.values())) or len(said) != len(others):
        raise ValueError("others were asked for")
    owners = columns.get("owners") or (owner,) * len(ids)
    times = columns.get("times") or (time,) * len(ids)
    seconds = columns.get("seconds") or (math.nan,) * len(ids)
    return Purchase(
        round=request["round"],
        purpose=request["purpose"],
        ids=torch.tensor([ids[place] for place in decided], dtype=torch.int64),
        labels=torch.tensor(wholes([listed[place] for place in decided]), dtype=torch.int64),
        costs=torch.tensor([costs[place] for place in decided], dtype=torch.float64),
        scores=torch.tensor([scores[place] for place in decided], dtype=torch.float64),
        owner=owner,
        time=time,
        undecided=tuple(
            Fact(ids[i], None, word, costs[i], scores[i], owners[i], times[i], seconds[i])
            for i, word in zip(others, said, strict=True)
        ),
        audited=tuple((ids[whole(place, len(ids))], whole(label)) for place, label in record.get("audited", [])),
        again=frozenset(request.get("again", ())),
        opinions={
            ids[whole(place, len(ids))]: tuple((str(who), whole(label)) for who, label in each)
            for place, each in record.get("opinions", [])
        },
        **{key: tuple(column[place] for place in decided) for key, column in columns.items()},
    )


def table(purchases: Sequence[Purchase], classes: Sequence[str], paths: Sequence[str]) -> str:
    """`ledger.csv`: one line a label, for people; seconds where they were counted."""
    timed = any(purchase.seconds for purchase in purchases)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *["seconds"] * timed])
    for purchase in purchases:
        writer.writerows(_rows(purchase, classes, paths, timed=timed))
    return text.getvalue()


def _rows(bought: Purchase, classes: Sequence[str], paths: Sequence[str], *, timed: bool) -> Iterable[list[object]]:
    for fact in bought.facts():
        name = fact.said if fact.label is None else classes[fact.label]
        purpose = "again" if fact.id in bought.again else bought.purpose
        row = [bought.round, purpose, fact.id, "" if fact.label is None else fact.label, plain_cell(name)]
        row += [plain_cell(fact.owner), f"{fact.cost:g}", "" if math.isnan(fact.score) else f"{fact.score:.6g}"]
        row += [fact.time, plain_cell(paths[fact.id]) if paths else ""]
        yield [*row, *["" if math.isnan(fact.seconds) else f"{fact.seconds:.1f}"] * timed]
