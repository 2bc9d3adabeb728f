"""Who teaches which round of active learning: a teacher that was there before, or one that learns what the run buys."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from kdal_cli.errors import UserError
from kdal_cli.inference.scorers import Remembering, Seer
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.teacher import Member, Teacher, TeacherPlan, teacher_of
from kdal_cli.lab.train import restarted
from kdal_cli.lab.train_teacher import learn
from kdal_cli.labels.ledger import Ledger
from kdal_cli.network import Network, freeze
from kdal_cli.records import checkpoint
from kdal_cli.records.checkpoint import Checkpoint
from kdal_cli.streams import Streams
from kdal_cli.types import Examples


@dataclass(frozen=True)
class Tutor:
    """A teacher, ready to teach and to be asked by samplers about an image once."""

    teacher: Teacher
    scorer: Remembering

    @classmethod
    def of(cls, lab: Lab, teacher: Teacher) -> "Tutor":
        seer = Seer(teacher.network, lab.train, team=lab.engine.team, tables=lab.tables)
        return cls(teacher, Remembering(seer, len(lab.data.train), lab.tables))


class Tutors(Protocol):
    """changes: whether another one teaches in each round, so that what the last one answered is no answer any more."""

    changes: bool

    def after(self, round: int, ledger: Ledger) -> Tutor | None:
        """Who teaches a round whose labels are bought, and is asked by the query after it; None before round 0."""
        ...

    def labels_with(self, bought: int) -> int:
        """Different labels that student and teacher together have read when `bought` are bought."""
        ...


class Standing:
    """A teacher that was there before the run, or nobody. in_pool: whether it has read the labels of the pool."""

    changes = False

    def __init__(self, lab: Lab, teacher: Teacher | None, *, in_pool: bool = False) -> None:
        self.tutor = Tutor.of(lab, teacher) if teacher is not None else None
        self.read = teacher.labels_of(lab.data.name) if teacher is not None else 0
        self.in_pool = in_pool

    def after(self, round: int, ledger: Ledger) -> Tutor | None:
        return self.tutor

    def labels_with(self, bought: int) -> int:
        return max(bought, self.read) if self.in_pool else bought + self.read


class Learning:
    """A teacher that learns from the labels that the run buys and from no other: those of the seed set, once, or all.

    Its weights lie in `checkpoints/teacher`, one file a round, and those of a second member in `checkpoints/teacher_1`.
    A file that is missing or damaged is trained again, to the same bits. temperature: of the loss, at which
    probabilities of several are averaged.
    """

    def __init__(self, lab: Lab, plan: TeacherPlan, temperature: float = 1.0) -> None:
        self.lab, self.plan, self.temperature = lab, plan, temperature
        self.changes = plan.manner.learns == "bought"
        self._round, self._tutor = -1, None

    def after(self, round: int, ledger: Ledger) -> Tutor | None:
        learnt = round if self.changes else min(round, 0)
        if learnt >= 0 and learnt != self._round:
            saved = [self._member(number, learnt, ledger) for number in range(len(self.plan.members))]
            pairs = zip(self.plan.members, saved, strict=True)
            networks = [freeze(self.lab.restore(member.blueprint, one)) for member, one in pairs]
            cards = [one.card for one in saved if one.card is not None]
            teacher = teacher_of(self.plan, self.lab, networks, cards, self.temperature)
            self.lab.watcher.say(f"round {learnt}: teacher {teacher.sentence}")
            self._round, self._tutor = learnt, Tutor.of(self.lab, teacher)
        return self._tutor if learnt >= 0 else None

    def labels_with(self, bought: int) -> int:
        return bought

    def _member(self, number: int, round: int, ledger: Ledger) -> Checkpoint:
        """What a network of the teacher has become by the labels of a round, trained where it is not on disk."""
        path = self._path(number, round)
        if path.exists():
            try:
                return checkpoint.read(path)
            except UserError as damage:
                self.lab.watcher.say(f"{damage}; training it again")
        self._train(number, round, ledger)
        return checkpoint.read(path)

    def _train(self, number: int, round: int, ledger: Ledger) -> None:
        """Everything random hangs on the teacher's own seed and the round."""
        lab, member = self.lab, self.plan.members[number]
        ids, labels = ledger.bought(through=round)
        address, flops, streams = ("teacher", round), lab.flop_meter.flops, Streams(member.seed)
        fresh = replace(lab, streams=streams).network(member.blueprint, *address)
        before, new = self._before(number, member, round, ledger), ledger.first_seen(round)
        network = restarted(fresh, before, member.recipe.retrain, new)
        what = f"round {round} {self._name(number)}"
        fitted, snapshots = learn(
            lab, network, member.recipe, Examples(ids, labels), streams.under("fit", *address), None, what
        )
        lab.flop_meter.train(network, fitted.visits)
        ledger.compute(round, self._name(number), lab.flop_meter.flops - flops, fitted.seconds)
        trained_on = {"data": lab.data.name, "labels": len(ids), "validation_labels": 0}
        card = lab.card("teacher", member.blueprint, trained_on, lab.measure_test(network))
        checkpoint.write(self._path(number, round), network.body, card)
        snapshots.clear()

    def _before(self, number: int, member: Member, round: int, ledger: Ledger) -> Network | None:
        """What it was a round earlier, where it goes on from that."""
        if round == 0 or member.recipe.retrain == "scratch":
            return None
        return self.lab.restore(member.blueprint, self._member(number, round - 1, ledger))

    def _name(self, number: int) -> str:
        return f"teacher_{number}" if number else "teacher"

    def _path(self, number: int, round: int) -> Path:
        return self.lab.run.checkpoints / self._name(number) / f"round_{round:03d}.safetensors"
