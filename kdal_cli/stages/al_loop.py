"""`kdal al-loop`: buy, retrain, measure, and again."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.inference.evidence import Sampler
from kdal_cli.inference.scorers import Seer
from kdal_cli.lab.asking import occasion
from kdal_cli.lab.baselines import Baselines
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.checkup import tie
from kdal_cli.lab.clock import Clock
from kdal_cli.lab.guide import Guide
from kdal_cli.lab.lab import Lab, MakeObjective
from kdal_cli.lab.measurements import Measurements
from kdal_cli.lab.picks import reasons
from kdal_cli.lab.pool import Onlooker, Scoring
from kdal_cli.lab.review import settle
from kdal_cli.lab.train import restarted, train
from kdal_cli.lab.tutors import Tutors
from kdal_cli.labels.budget import Plan
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.naming import gone_on, something_else
from kdal_cli.labels.oracle import NONE, Oracle
from kdal_cli.labels.purchase import proposed
from kdal_cli.labels.stopping import Stopping, effort, outlook
from kdal_cli.network import Network, freeze
from kdal_cli.records import checkpoint
from kdal_cli.records.curve import Table
from kdal_cli.records.files import shown
from kdal_cli.records.snapshots import Snapshots
from kdal_cli.report.contact import contact_png
from kdal_cli.training.job import Fitted
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples

Consensus = Literal["majority", "crowdlab"]
"""What most people say; or what people and the student come to together, each weighed by how far it can be trusted."""

SHEET = 100
"""Images of a query that are pictured."""


@dataclass
class Loop:
    """Active learning. Every round is a transaction: a purchase in the ledger opens it, a line of the curve closes it.

    tutors: the teacher of each round, if there is one. guide: how it teaches; of kind `previous`, the student of the
    round before does. seed_set: the sampler of round 0. scoring: whose answers the sampler looks at. price: of each
    image that the teacher is asked about. baselines: the simple models beside the student. mixed: whether the teacher
    labels images, too. again: whether images that have a label may be asked about once more. consensus: which label
    holds where people differ. open_classes: whether `data.classes` says which there are.
    """

    lab: Lab
    student: Blueprint
    tutors: Tutors
    guide: Guide
    objective: MakeObjective
    sampler: Sampler
    seed_set: Sampler
    budget: Plan
    oracle: Oracle
    recipe: Recipe
    scoring: Scoring = field(default_factory=Scoring)
    stopping: Stopping = field(default_factory=Stopping)
    price: float = 0.0
    baselines: Baselines | None = None
    mixed: bool = False
    again: bool = False
    consensus: Consensus = "majority"
    open_classes: bool = False

    def __post_init__(self) -> None:
        self.ledger = Ledger.open(self.lab.run.folder / "ledger.jsonl")
        self.measurements = Measurements(
            self.lab, self.ledger, self.tutors, self.baselines, self._load, self.mixed, self.again
        )
        self.curve = self.measurements.curve

    def run(self) -> Table:
        """Do every round that is not done yet, and return the curve."""
        lab, plan = self.lab, self.budget.plan(len(self.lab.pool))
        if any(self.ledger.of_round(round) is None for round in range(len(self.curve))):
            cure = "restore the file from a copy, or start a new run"
            raise UserError("the ledger has fewer rounds than the curve", where=self.ledger.path, cure=cure)
        if self.ledger.of_round(0, "validation") is None and len(lab.validation):
            self._buy(0, lab.validation, torch.zeros(len(lab.validation)), purpose="validation")
        self.measurements.begin()
        network = self._load(len(self.curve) - 1)
        for round in range(len(self.curve), len(plan)):
            if round and self._enough(round - 1, plan[round]):
                break
            lab.display.round(round, len(plan) - 1, sum(plan[: round + 1]))
            clock = Clock()
            self._purchase(round, plan[round], network, clock)
            network, fitted = self._train(round, network, clock)
            self.measurements.add(round, network, fitted, clock)
            self._tell_new(round)
        return self.curve

    def _enough(self, round: int, query: int) -> bool:
        """Whether the run ends before the budget does; without `stopping.act` it only says that it could."""
        if "val_accuracy" not in self.curve.rows[0]:
            return False
        labels, costs, accuracy = (self.curve.column(name) for name in ("labels", "cost", "val_accuracy"))
        reason = self.stopping.reason(labels, costs, accuracy, query)
        if reason:
            advice = "stopping here" if self.stopping.act else "stopping.act=true would stop here"
            self.lab.watcher.say(f"round {round}: {reason}; {advice}")
        if price := effort(labels, accuracy, query, self.ledger.pace()):
            self.lab.watcher.say(f"round {round}: {price}")
        end = sum(self.budget.plan(len(self.lab.pool)))
        if going := outlook(labels, accuracy, self.stopping.target, query, end):
            self.lab.watcher.say(f"round {round}: {going}")
        return bool(reason) and self.stopping.act

    def _purchase(self, round: int, k: int, network: Network | None, clock: Clock) -> None:
        """Buy the labels of a round, unless a run before this one did."""
        lab = self.lab
        if self.ledger.of_round(round) is None:
            query = self.ledger.asked(round) or self._choose(round, k, network, clock)
            self._buy(round, *query, network=network)
        if self.consensus == "crowdlab" and network is not None and round not in self.ledger.settled:
            settle(lab, network, self.ledger, round)
        lab.run.write("ledger.csv", self.ledger.view(lab.data.classes, lab.data.train.paths))
        if not len(self.ledger.bought()[0]):
            cure = "start a new run with other images, or other classes"
            raise UserError("nobody could name the class of any image", where=self.ledger.path, cure=cure)
        self._show(round)
        clock.lap("report_s")

    def _buy(
        self,
        round: int,
        ids: Tensor,
        scores: Tensor,
        again: Tensor = NONE,
        purpose: str = "train",
        network: Network | None = None,
    ) -> None:
        tutor = self.tutors.after(round - 1, self.ledger) if self.mixed else None
        when = occasion(self.lab, self.ledger, round, purpose, network, tutor, again)
        self.ledger.buy(round, ids, scores, partial(self.oracle, occasion=when), purpose, again)

    def _choose(self, round: int, k: int, network: Network | None, clock: Clock) -> tuple[Tensor, Tensor, Tensor]:
        """(ids (k,), scores (k,), those ids that have a label) of the query of a round; why these is in `picks/`."""
        lab, before = self.lab, self.lab.flop_meter.flops
        tutor = self.tutors.after(round - 1, self.ledger)
        asked, teacher = (tutor.scorer, tutor.teacher) if tutor is not None else (None, None)
        onlooker = Onlooker(lab, self.student, self.scoring, asked, self._load, self._siblings, self.again)
        pool = onlooker.look(self.ledger, round, network)
        sampler = self.sampler if round else self.seed_set
        clock.lap("score_s")  # of training a committee, if there is one
        query = sampler(pool, k, lab.streams.at("sampler", round))
        clock.lap("select_s", minus=pool.meter.seconds)
        clock.add("score_s", pool.meter.seconds)
        for view, (seconds, megabytes) in pool.meter.views.items():
            lab.log.figures({"round": round, f"{view}_s": seconds, f"{view}_peak_mb": megabytes})
        if tutor is not None:
            new = self.ledger.consult(round, tutor.scorer.asked.nonzero().flatten(), self.price)
            looked = int(tutor.scorer.asked.sum()) if self.tutors.changes else new
            lab.flop_meter.forward(tutor.teacher.network, looked)
        if alike := tie(pool, query):
            lab.watcher.say(f"round {round}: {alike}")
        seconds = clock.seconds["score_s"] + clock.seconds["select_s"]
        self.ledger.compute(round, "choose", lab.flop_meter.flops - before, seconds)
        if query.candidates is not None:
            ids = pool.ids[query.candidates].sort().values.tolist()
            lab.run.write(f"picks/round_{round:03d}_candidates.csv", "id\n" + "".join(f"{id}\n" for id in ids))
        trained = Seer(network, lab.train) if network is not None else None
        guiding = Seer(teacher.network, lab.train) if teacher is not None and teacher.metrics else None
        lab.run.write(f"picks/round_{round:03d}.csv", reasons(lab.data, pool, query, trained, guiding))
        ids = pool.asked(query)
        return ids, query.scores, ids[query.again] if query.again is not None else NONE

    def _show(self, round: int) -> None:
        """The contact sheet of a query."""
        purchase, data = self.ledger.of_round(round), self.lab.data
        assert purchase is not None
        names = [data.classes[label] for label in purchase.labels[:SHEET].tolist()]
        title = f"{data.name}: the query of round {round}"
        told = f"{len(purchase.ids):,} images in the order chosen, with the labels bought"
        subtitle = told if len(purchase.ids) <= SHEET else f"the first {SHEET} of {told}"
        pictures = self.lab.train.whole(purchase.ids[:SHEET]).cpu()
        picture = contact_png(pictures, names, title=title, subtitle=subtitle)
        self.lab.run.write(f"picks/round_{round:03d}.png", picture)

    def _siblings(self, round: int, count: int) -> Iterator[Network]:
        """Students of a finished round from other initial weights, each trained on the same labels in the same way."""
        for n in range(count):
            network = self.lab.network(self.student, round, "sibling", n)
            self._fit(network, round, "sibling", n)
            yield network

    def _train(self, round: int, before: Network | None, clock: Clock) -> tuple[Network, Fitted]:
        """A student for the labels bought so far, saved before it is measured."""
        lab, fresh = self.lab, self.lab.network(self.student, round)
        network = restarted(fresh, before, self.recipe.retrain, self.ledger.first_seen(round))
        self.tutors.after(round, self.ledger)
        clock.lap("teacher_s")
        flops = lab.flop_meter.flops
        fitted, snapshots = self._fit(network, round)
        if self.guide.manner.kind == "fixed":
            self.ledger.consult(round, fitted.taught, self.price)
        self.ledger.compute(round, "train", lab.flop_meter.flops - flops, fitted.seconds)
        clock.lap("train_s", minus=fitted.teacher_seconds)
        clock.add("teacher_s", fitted.teacher_seconds)
        labels, validation = len(self.ledger.bought("train", round)[0]), self.ledger.bought("validation", round)
        trained_on = {"data": lab.data.name, "labels": labels, "validation_labels": len(validation[0])}
        card = lab.card("student", self.student, trained_on, {}, lab.calibration(network, *validation))
        checkpoint.write(lab.run.checkpoints / f"round_{round:03d}.safetensors", network.body, card)
        snapshots.clear()
        return network, fitted

    def _fit(self, network: Network, round: int, *address: str | int) -> tuple[Fitted, Snapshots]:
        """Train a network, in place, on the labels bought through a round; its snapshots are the caller's to clear."""
        lab, what = self.lab, " ".join(map(str, ("round", round, *address)))
        ids, labels = self.ledger.bought(through=round)
        rest = lab.pool[~torch.isin(lab.pool, ids)]
        snapshots = Snapshots(lab.run.folder / "training.snapshot", what)
        fitted, _ = train(
            lab,
            network,
            Examples(torch.cat([ids, rest]), labels),
            self.objective,
            self._guide(round),
            self.recipe,
            lab.accuracy(*self.ledger.bought("validation")),
            snapshots,
            round,
            *address,
            what=what,
        )
        return fitted, snapshots

    def _guide(self, round: int) -> Guide:
        """Who teaches a round. The student of the round before is read anew: training must not change its teacher."""
        tutor = self.tutors.after(round, self.ledger)
        if tutor is not None and self.guide.teacher is None:
            return self.guide.taught_by(tutor.teacher.network)
        if self.guide.manner.kind != "previous" or round == 0:
            return self.guide
        before = self._load(round - 1)
        if before is None:
            return replace(self.guide, teacher=None)
        before.known = {c: c for c in self.ledger.classes_seen(round - 1)}
        return self.guide.taught_by(freeze(before))

    def _tell_new(self, round: int) -> None:
        """Say how many images are of classes that there are not, and what can be done about it."""
        if not (said := proposed(self.ledger.purchases)):
            return
        how = "start a new run of data that has these classes"
        if self.open_classes:
            asked = torch.cat([purchase.asked for purchase in self.ledger.purchases if purchase.purpose == "train"])
            words = gone_on(said, shown(self.lab.run.folder), len(asked.unique()))
            how = f"start a new run with the words of this one and {words}"
        self.lab.watcher.say(f"round {round}: {something_else(said)}; to learn them, {how}")

    def _load(self, round: int) -> Network | None:
        """The student that a finished round ended with, trained again when its checkpoint is damaged; None before 0."""
        if round < 0:
            return None
        path = self.lab.run.checkpoints / f"round_{round:03d}.safetensors"
        try:
            return self.lab.restore(self.student, checkpoint.read(path))
        except UserError as damage:
            self.lab.watcher.say(f"{damage}; training round {round} again")
            return self._train(round, self._load(round - 1), Clock())[0]
