"""The pool as a sampler sees it, round by round: who looks, and what was looked at before."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.inference.evidence import Evidence, Meter, Sampler, Scorer
from kdal_cli.inference.scorers import Committee, Remembering, Seer
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.teacher import TeacherPlan
from kdal_cli.lab.train import sketch
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.opinions import matrix
from kdal_cli.network import Network
from kdal_cli.values import Count

REHEARSAL = 64
"""Images that a sampler tries itself on before anything is bought, half of them to be chosen."""


@dataclass(frozen=True)
class Scoring:
    """Whose answers a sampler looks at.

    scorer: the `student`, the `teacher`, or a committee, whose probabilities are averaged and whose members are its
    draws: `both` of these, `rounds`, the students of the last rounds, or `seeds`, students of this round from other
    initial weights. members: of the last two, the student counted.
    """

    scorer: Literal["student", "teacher", "both", "rounds", "seeds"] = "student"
    members: Count = 3

    @property
    def asks_teacher(self) -> bool:
        return self.scorer in ("teacher", "both")


Load = Callable[[int], Network | None]
"""The student of a finished round; None before round 0."""


@dataclass(frozen=True)
class Asks:
    """Whom a sampler asks beside the student: the teacher, and people about images that they have answered already."""

    teacher: bool
    again: bool


@dataclass(frozen=True)
class Onlooker:
    """Shows the pool to samplers. teacher: remembers its answers through the run. load: earlier students.

    again: whether labelled images may be asked about once more, so that samplers are shown who said what of them.
    """

    lab: Lab
    student: Blueprint
    scoring: Scoring
    teacher: Remembering | None
    load: Load
    siblings: Callable[[int, int], Iterator[Network]]
    again: bool = False

    def look(self, ledger: Ledger, round: int, network: Network | None) -> Evidence:
        """The evidence for the query of a round, `network` being the student of the round before.

        Before round 0 there is no student that has learnt anything: a new one looks.
        """
        lab, (bought, labels) = self.lab, ledger.bought()
        validation_ids, validation_labels = ledger.bought("validation")
        return Evidence(
            ids=lab.pool[~torch.isin(lab.pool, ledger.closed())],
            labelled_ids=bought,
            labels=labels,
            classes=len(lab.data.classes),
            scorer=self._scorer(round, network),
            teacher=self.teacher,
            validation_ids=validation_ids,
            validation_labels=validation_labels,
            past=partial(self._past, round),
            images=lab.train.whole,
            known=len(lab.data.train),
            answers=(lambda: matrix(ledger.votes(), bought.tolist())[0]) if self.again else None,
            tables=lab.tables,
            meter=Meter(lab.engine.finish, lab.engine.peak_megabytes),
        )

    def _scorer(self, round: int, network: Network | None) -> Scorer:
        student = self.lab.seer(network or self.lab.network(self.student, 0))
        others = self.scoring.members - 1 if network is not None else 0
        match self.scoring.scorer:
            case "teacher" if self.teacher is not None:
                return self.teacher
            case "both" if self.teacher is not None:
                return Committee([self.teacher, student])
            case "rounds":
                return Committee([*self._past(round, others), student])
            case "seeds":
                trained = self.siblings(round - 1, others) if others else ()
                return Committee([*(self.lab.seer(sibling) for sibling in trained), student])
            case _:
                return student

    def _past(self, round: int, count: int) -> Iterator[Scorer]:
        """The students of up to `count` rounds before the one whose student looks in this round, oldest first."""
        for before in range(max(0, round - 1 - count), round - 1):
            network = self.load(before)
            if network is not None:
                yield self.lab.seer(network)


def rehearse_sampler(
    lab: Lab, sampler: Sampler, student: Blueprint, plan: TeacherPlan | None, scoring: Scoring
) -> Asks:
    """Let a sampler choose some of a few images before anything is spent: what it lacks shows now.

    Student and teacher are new ones. Raises UserError where answers would be compared with those of a teacher of other
    classes.
    """
    other = plan.manner.incomparable if plan is not None else None
    if other and scoring.asks_teacher:
        raise UserError(f"scorer={scoring.scorer} compares classes, and {other}", cure="scorer=student")
    network = sketch(lab, plan, student)
    teacher = Remembering(Seer(network, lab.train), len(lab.data.train)) if network is not None else None
    onlooker = Onlooker(lab, student, scoring, teacher, lambda round: None, lambda round, count: iter(()))
    looked: list[bool] = []

    def answers() -> Tensor:
        looked.append(True)
        return torch.zeros(0, 0, dtype=torch.int64)

    held_out = lab.validation[:REHEARSAL]
    pool = replace(
        onlooker.look(Ledger(lab.run.folder), 0, None),
        ids=lab.pool[:REHEARSAL],
        stands_for=len(lab.pool),
        validation_ids=held_out,
        validation_labels=torch.arange(len(held_out)) % len(lab.data.classes),  # made up
        other_classes=other,
        answers=answers,
    )
    sampler(pool, (len(pool) + 1) // 2, lab.streams.at("rehearsal"))
    return Asks(teacher is not None and bool(teacher.asked.any()), bool(looked))
