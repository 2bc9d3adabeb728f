"""What was bought, when, from whom, for how much: the truth of a run.

`ledger.jsonl` is append-only. Each line is a JSON record with a SHA-256 of itself and of the line before it, so that a
changed line is found, by its number. A purchase is two records, each durable before the next thing happens: a `request`
before the oracle is asked, a `receipt` before a label is used. A run that dies in between asks for the same ids again;
a run that dies in the middle of a line finds a torn tail, which is put aside and cut. What a sampler asked the teacher
is a record of its own, `answers`, and so is `compute`, what was computed for a round.
"""

import hashlib
import json
import math
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdal_cli.errors import MachineError, UserError, Waiting
from kdal_cli.labels._record import number, numbers, ranges, spread, whole, wholes
from kdal_cli.labels.opinions import Votes, agreed, votes
from kdal_cli.labels.oracle import NONE, TEACHER, Answer, NotYet
from kdal_cli.labels.purchase import Purchase, purchase, receipt, table
from kdal_cli.plain import several
from kdal_cli.records.files import append, cut, finite, lines, opened, whole_lines, write_bytes

GENESIS = "0" * 64

LONGEST_LINE = 1 << 26
"""Bytes of a line: a query of two million labels."""

MOST_FLOPS = 1 << 100

MOST_ANSWERS = 1 << 25
"""Images about which a teacher was asked: more than there can be in a data set that is held in memory."""


@dataclass
class Ledger:
    """The purchases of a run, on disk and in memory.

    The purpose of a label is `train`, `validation` or `test`; `review` replaces one. A query for training may ask about
    images that have a label `again`: what is said of these are other opinions.

    answered: (round, ids (n,), cost) of what the teacher was asked. computed: {(round, what for): floating-point
    operations}. settled: {round: (purchases before it, {id: the label that annotators and a model come to})}.
    """

    path: Path
    purchases: list[Purchase] = field(default_factory=list)
    pending: dict[str, Any] | None = None
    answered: list[tuple[int, Tensor, float]] = field(default_factory=list)
    computed: dict[tuple[int, str], int] = field(default_factory=dict)
    settled: dict[int, tuple[int, dict[int, int]]] = field(default_factory=dict)
    _last: str = GENESIS
    _lines: int = 0

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Read a ledger, or start one. Raises UserError naming the line where the chain does not hold."""
        if path.exists():
            _put_torn_aside(path)
        return cls.look(path)

    @classmethod
    def look(cls, path: Path) -> "Ledger":
        """Read the ledger of another run, which may be going on: nothing is mended. Raises UserError as `open` does."""
        ledger = cls(path)
        if path.exists():
            for line in lines(path, LONGEST_LINE):
                ledger._read(line)
        return ledger

    def bought(self, purpose: str = "train", through: int | None = None) -> tuple[Tensor, Tensor]:
        """(ids (M,), labels (M,)) of everything bought for a purpose, up to a round, in the order bought.

        Where people were asked again, the label is what they agree on by then, or what was settled.
        """
        last = math.inf if through is None else through
        so_far = [purchase for purchase in self.purchases if purchase.round <= last]
        mine = [purchase for purchase in so_far if purchase.purpose == purpose]
        repeated = [p for p in so_far if p.purpose == "review" or p.again or p.opinions]
        settled = [round for round in self.settled if round <= last]
        if not repeated and not settled:
            return torch.cat([NONE, *(p.ids for p in mine)]), torch.cat([NONE, *(p.labels for p in mine)])
        said, ids = votes(so_far), [id for purchase in mine for id in purchase.first.tolist()]
        holds = {id: agreed(said[id]) for id in ids if id in said}
        if settled:
            before, labels = self.settled[max(settled)]
            later = [p for p in self.purchases[before:] if p.round <= last and p.purpose == "review"]
            reviewed = {fact.id for purchase in later for fact in purchase.facts()}
            holds |= {id: label for id, label in labels.items() if id in holds and id not in reviewed}
        return torch.tensor(list(holds), dtype=torch.int64), torch.tensor(list(holds.values()), dtype=torch.int64)

    def classes_seen(self, round: int) -> list[int]:
        """The classes of which there is a label by the end of a round, in order."""
        return self.bought(through=round)[1].unique().tolist()

    def first_seen(self, round: int) -> list[int]:
        """Those of which there was none before this round."""
        before = self.classes_seen(round - 1)
        return [c for c in self.classes_seen(round) if c not in before]

    def votes(self) -> Votes:
        """What was said of each image for training, by whom."""
        return votes(purchase for purchase in self.purchases if purchase.purpose in ("train", "review"))

    def labels(self) -> int:
        """How many answers of people for training name a class, other opinions among them."""
        again = sum(len(purchase.ids) - len(purchase.first) for purchase in self.purchases)
        return len(self.bought()[0]) + again - self.by_teacher()

    def settle(self, round: int, labels: dict[int, int]) -> None:
        """Write down what annotators and a model come to in a round, {id: label} where it is not the majority; once."""
        if round not in self.settled:
            self._append(kind="consensus", round=round, ids=list(labels), labels=list(labels.values()))

    def by_teacher(self) -> int:
        """How many of the labels for training a teacher gave; all others are people's."""
        return sum(purchase.by_teacher for purchase in self.purchases if purchase.purpose == "train")

    def pace(self) -> float | None:
        """Seconds that people took for an image, the median of all that were counted; None of none."""
        counted = [fact.seconds for p in self.purchases for fact in p.facts() if fact.owner != TEACHER]
        counted = [seconds for seconds in counted if not math.isnan(seconds)]
        return statistics.median(counted) if counted else None

    def audits(self) -> tuple[bool, ...]:
        """Whether the teacher was right, of each image that people were asked about to see that."""
        return tuple(right for purchase in self.purchases for right in purchase.audits)

    @property
    def last_round(self) -> int:
        """The last round in which anything was bought; -1 before that."""
        return max((purchase.round for purchase in self.purchases), default=-1)

    def closed(self) -> Tensor:
        """(n,) ids of all images that people were asked about, those that nobody could name among them."""
        return torch.cat([torch.empty(0, dtype=torch.int64), *(p.asked for p in self.purchases)]).unique()

    def cost(self) -> float:
        """Everything paid so far, validation labels and the teacher's answers included."""
        labels = sum(purchase.cost for purchase in self.purchases)
        return labels + sum(cost for _, _, cost in self.answered)

    def teacher_ids(self, through: int | None = None) -> Tensor:
        """(A,) ids about which a sampler has asked the teacher up to a round, each once."""
        last = math.inf if through is None else through
        asked = [ids for round, ids, _ in self.answered if round <= last]
        return torch.cat([torch.empty(0, dtype=torch.int64), *asked])

    def consult(self, round: int, ids: Tensor, price: float) -> int:
        """Write down that the teacher answered about `ids` (n,), at a price for each that it had not answered yet.

        Returns about how many it had not before this round: as many when a stopped run asks again.
        """
        new = ids[~torch.isin(ids, self.teacher_ids())].sort().values
        if len(new):
            self._append(kind="answers", round=round, ids=ranges(new), cost=price * len(new))
        return int((~torch.isin(ids, self.teacher_ids(round - 1))).sum())

    def compute(self, round: int, what: str, flops: int, seconds: float) -> None:
        """Write down what a round took to `choose` or to `train`: floating-point operations, and seconds.

        Once: what a stopped run has to do again is not counted again.
        """
        if (round, what) not in self.computed:
            self._append(kind="compute", round=round, what=what, flops=flops, seconds=float(f"{seconds:.3f}"))

    def flops(self) -> int:
        """All floating-point operations so far."""
        return sum(self.computed.values())

    def of_round(self, round: int, purpose: str = "train") -> Purchase | None:
        """The purchase of a round, once it is answered."""
        return next((p for p in self.purchases if (p.round, p.purpose) == (round, purpose)), None)

    def asked(self, round: int, purpose: str = "train") -> tuple[Tensor, Tensor, Tensor] | None:
        """(ids, scores, those ids that are asked about again) of a request of this round that has no receipt yet.

        It is asked once more as it is, never decided again.
        """
        if self.pending is None or (self.pending["round"], self.pending["purpose"]) != (round, purpose):
            return None
        ids, again = (torch.tensor(self.pending[key], dtype=torch.int64) for key in ("ids", "again"))
        return ids, torch.tensor(self.pending["scores"], dtype=torch.float64), again

    def buy(
        self,
        round: int,
        ids: Tensor,
        scores: Tensor,
        ask: Callable[[Tensor], Answer | NotYet],
        purpose: str = "train",
        again: Tensor = NONE,
    ) -> Purchase:
        """Ask an oracle for `ids` (k,) and write down the answer; the only place where labels come from.

        again: those of them that have a label and are asked about once more. A query is bought whole or not at all.
        Raises Waiting when the answer is still to come; MachineError when another id was bought before or one comes
        twice, when another request waits for its answer, and when an answer is not one label and one price for each id.
        """
        known = torch.isin(ids, self.closed())
        strange = known != torch.isin(ids, again) if purpose != "review" else ~known
        if len(ids.unique()) != len(ids) or strange.any():
            raise MachineError(
                f"round {round} asks for a label twice", where=self.path, cure="this is a fault of the sampler"
            )
        request: dict[str, Any] = {"round": round, "purpose": purpose, "ids": ids.tolist()}
        request |= {"again": again.tolist()} if len(again) else {}
        if self.pending is None:
            self._append(kind="request", **request, scores=scores.double().tolist())
        elif any(self.pending[key] != value for key, value in ({"again": []} | request).items()):
            raise MachineError(f"round {round} asks for labels while others are still asked for", where=self.path)
        answer = ask(ids)
        if isinstance(answer, NotYet):
            raise Waiting(f"waiting for {several(answer.labels, 'label')}", cure=answer.todo)
        try:
            told = receipt(answer, len(ids))
        except ValueError as count:
            raise MachineError(f"{len(ids)} labels were asked for, {count} came", where=answer.owner) from None
        self._append(kind="receipt", round=round, purpose=purpose, **told)
        return self.purchases[-1]

    def view(self, classes: Sequence[str], paths: Sequence[str]) -> str:
        """`ledger.csv`: one line a label, for people."""
        return table(self.purchases, classes, paths)

    def _append(self, **record: Any) -> None:
        record = {
            "n": self._lines + 1,
            "previous": self._last,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **record,
        }
        record = finite(record)  # a score that is not finite is null
        line = json.dumps(record | {"sha256": _digest(record)}, allow_nan=False).encode()
        if len(line) > LONGEST_LINE:
            raise UserError(f"{len(line):,} bytes for one query", where=self.path, cure="buy fewer labels a round")
        append(self.path, line + b"\n", durable=True)
        self._read(line)

    def _read(self, line: bytes) -> None:
        number = self._lines + 1
        try:
            record = json.loads(line)
            whole = json.dumps(record).encode() == line and record.pop("sha256") == _digest(record)
            if not whole or record["previous"] != self._last or record["n"] != number:
                raise ValueError
            self._take(record)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise UserError(
                f"line {number} is not what was written there: the ledger was changed by hand or damaged",
                where=self.path,
                cure="restore the file from a copy, or start a new run",
            ) from None
        self._last, self._lines = hashlib.sha256(line).hexdigest(), number

    def _take(self, record: dict[str, Any]) -> None:
        """Understand a record. Raises ValueError, KeyError or TypeError for one that this class cannot have written."""
        round, kind = whole(record["round"]), record["kind"]
        if kind == "request":
            ids, scores = wholes(record["ids"]), numbers(record["scores"])
            if self.pending is not None or len(scores) != len(ids):
                raise ValueError(kind)
            again = wholes(record.get("again", []))
            if not {*again} <= {*ids}:
                raise ValueError(again)
            purpose = str(record["purpose"])
            self.pending = {"round": round, "purpose": purpose, "ids": ids, "scores": scores, "again": again}
        elif kind == "answers":
            asked = sum(len(ids) for _, ids, _ in self.answered)
            self.answered.append((round, spread(record["ids"], MOST_ANSWERS - asked), number(record["cost"])))
        elif kind == "compute":
            self.computed[round, str(record["what"])] = whole(record["flops"], below=MOST_FLOPS)
        elif kind == "consensus":
            labels = zip(wholes(record["ids"]), wholes(record["labels"]), strict=True)
            self.settled[round] = len(self.purchases), dict(labels)
        elif kind == "receipt":
            self._take_receipt(round, record)
        else:
            raise ValueError(kind)

    def _take_receipt(self, round: int, record: dict[str, Any]) -> None:
        request, self.pending = self.pending, None
        if request is None or (request["round"], request["purpose"]) != (round, record["purpose"]):
            raise ValueError("nobody asked for this")
        self.purchases.append(purchase(request, record))


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def _put_torn_aside(path: Path) -> None:
    """Keep what follows the last whole line in a file of its own, and cut it off."""
    whole = whole_lines(path)
    with opened(path, os.O_RDONLY) as handle:
        torn = os.pread(handle, LONGEST_LINE, whole)
    if torn:
        write_bytes(path.with_suffix(".torn"), torn)
        cut(path, whole)
