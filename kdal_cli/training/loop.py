"""A training under way, in one process of the team: the steps, and the checks between them.

Inside a chunk of steps nothing waits for the device; figures are added up there and read at the check after it.
"""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from itertools import islice, repeat
from typing import Any

import torch
from torch import Tensor, nn

from kdal_cli.devices.engine import is_out_of_memory
from kdal_cli.errors import MachineError, UserError
from kdal_cli.training.average import Average
from kdal_cli.training.balance import gradient_norms, ratios
from kdal_cli.training.centring import Centring
from kdal_cli.training.feed import Feed, Plan
from kdal_cli.training.fitness import Fitness
from kdal_cli.training.job import Fitted, Job, Validate
from kdal_cli.training.mixing import Mixer
from kdal_cli.training.pieces import aside, of_step, release, smaller, told
from kdal_cli.training.recall import recalls, remembered
from kdal_cli.training.sight import look
from kdal_cli.training.state import Keeper, State, is_finite, optimizer_of
from kdal_cli.training.statistics import settle
from kdal_cli.training.tuning import Tuning, is_still
from kdal_cli.types import Batch, Watcher

WARM_UPS = 3
"""Passes before the clock of a compiled training: CUDA graphs are recorded in the second."""

HALF = 0.5
"""The weight of cross-entropy below which a label that the teacher contradicts is fitted by either answer."""


class Training:
    """A job under way, in one process of the team."""

    def __init__(self, job: Job, begun: Mapping[str, Any] | None, watcher: Watcher) -> None:
        self.job, self.watcher, self.course = job, watcher, job.course
        self.student, self.objective, self.team = job.student, job.objective, job.engine.team
        self.teacher = job.teacher if job.objective.needs_teacher else None
        self.batch = job.batch + job.pool_batch
        fed = (job.images, job.examples, job.batch, job.pool_batch, job.streams, self.team)
        mixer, more = Mixer.of(job.recipe, job.streams), job.objective.more
        self.feed = Feed(*fed, balanced=job.recipe.balanced, mixer=mixer, more=more)
        self.learners = nn.ModuleList([job.student, job.objective, *([job.peer] if job.peer is not None else [])])
        self.tuning = Tuning(job.student, job.recipe)
        own = {*job.student.parameters()}
        others = [p for p in self.learners.parameters() if p.requires_grad and p not in own]
        self.optimizer = optimizer_of(self.tuning.groups(others), job.recipe)
        self.average = Average(job.student, job.recipe.ema) if job.recipe.ema else None
        self.asked = self.teacher if self.objective.hard < HALF else None  # what is fitted is for the labels to say
        self.fitness = Fitness(job.images, job.examples, job.streams, self.asked)
        self.state = State(self.learners, self.optimizer, self.course, self.average)
        self.begun = self.done = self.state.load(begun)
        self.feed.pieces = self.state.pieces
        self.losses: dict[str, float] = {}
        self.recalls: bool | None = None
        self.centring: Centring | None = None

    def run(self, validate: Validate | None, keeper: Keeper | None) -> Fitted:
        """Do the steps that are not done yet."""
        job, teacher = self.job, self.teacher
        self.team.follow(self.learners.state_dict().values())  # all are there, and start with the same weights
        if is_still(job.student, job.recipe):
            self.centring = Centring.of(job.student, job.images, job.examples.labelled_ids, self.team)
        with job.student.compiled(job.recipe.compile):
            self._warm_up()
            self.watcher.begin(job.what, self.course.most, at_most=self.course.known is None)
            self.watcher.advance(self.done, 0)
            started, answered = time.perf_counter(), teacher.seconds if teacher is not None else 0.0
            while (stop := self.course.next(self.done)) is not None:
                balance = self._fitting(stop)
                self._check(stop, balance, validate, keeper)
                self.done = stop
        self.watcher.end()
        self.tuning.release()
        if self.average is not None:
            self.average.settle()
        return Fitted(
            steps=self.done,
            visits=self.done * self.batch,
            taught=self._taught() if teacher is not None else job.examples.ids[:0],
            fitted=self._fitted(),
            images=(self.done - self.begun) * self.batch,
            seconds=time.perf_counter() - started,
            teacher_seconds=teacher.seconds - answered if teacher is not None else 0.0,
            precision=job.recipe.precision,
            losses=self.losses,
            best=self.state.best,
            best_accuracy=self.state.best_accuracy,
            strong=self.done * job.strong_batch,
            rule=job.recipe.rule,
        )

    def _warm_up(self) -> None:
        """Have the student compiled before the clock starts, by passes of which nothing stays."""
        if self.job.recipe.compile == "none" or self.course.next(self.done) is None:
            return
        kept = {name: tensor.clone() for name, tensor in self.student.state_dict().items()}
        data = next(self.feed.batches(self.feed.plan(0, 1)))
        self.student.train()
        with self.job.streams.applied("warm up"):
            for _ in range(WARM_UPS):
                with self.job.engine.autocast(self.job.recipe.precision):
                    output = look(self.student, data)
                (output.logits.float().sum() + output.features.float().sum()).backward()
        self.optimizer.zero_grad()
        self.student.load_state_dict(kept)

    def _fitting(self, stop: int) -> dict[str, Tensor]:
        """The chunk up to a check; where memory does not do, from its start again with each step in more pieces."""
        job, alone = self.job, self.team.size == 1
        before = aside(self.state.now(self.done)) if alone else None
        while True:
            try:
                with job.streams.applied("dropout", self.done, *self.team.address):
                    return self._chunk(self.done, stop)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            pieces = smaller(self.feed.pieces, job.batch, job.pool_batch, alone=alone)
            self.optimizer.zero_grad()
            release()
            self.state.load(before)
            self.state.pieces = self.feed.pieces = pieces
            self.watcher.say(told(pieces, self.batch, self.learners))

    def _chunk(self, start: int, stop: int) -> dict[str, Tensor]:
        """The steps from one check to the next; returns the gradient norms of the last one."""
        self.learners.train()
        self.tuning.at(start)
        if start == self.course.first:
            self.optimizer.state.clear()  # the main stage starts with no momentum from the first one
        plan = self.feed.plan(start, stop)
        if self.teacher is not None:
            self.teacher.announce(plan.ids, plan.views)
        sums: dict[str, Tensor] = {}
        balance: dict[str, Tensor] = {}
        broken = torch.full((), -1, device=self.job.engine.device)  # the first step whose loss was not finite
        if self.recalls is None:
            self.recalls = self._recalls(plan)
        seen = remembered(self.student, self.job.images, plan) if self.recalls else repeat(None)
        batches = zip(self.feed.batches(plan, blind=self.recalls), seen, strict=False)
        for step in range(start, stop):
            if self.tuning.changes(step):
                self.tuning.at(step)
            self.optimizer.zero_grad()
            parts: dict[str, Tensor] = {}
            for data, features in islice(batches, self.feed.pieces):
                found = self._parts(step, data, features)
                if step == stop - 1 and self.team.rank == 0:
                    balance = gradient_norms(found, self.student)
                (torch.stack(list(found.values())).sum() / self.feed.pieces).backward()
                for name, part in found.items():
                    parts[name] = parts.get(name, 0.0) + part.detach() / self.feed.pieces
            self.team.average(of_step(self.learners, parts))
            with self.centring.step() if self.centring is not None else nullcontext():
                self.optimizer.step()
            if self.average is not None:
                self.average.step(step)
            broken = torch.where((broken < 0) & ~torch.stack(list(parts.values())).sum().isfinite(), step, broken)
            for name, part in parts.items():
                sums[name] = sums.get(name, 0.0) + part
            self.watcher.advance(1, self.batch)
        settle(self.learners, self.feed, stop, self.team)
        self.team.follow(self.learners.state_dict().values())
        self.job.engine.finish()
        if not is_finite(self.student):
            broken = torch.where(broken < 0, stop - 1, broken)
        self._refuse_broken(int(broken))
        self.losses = {name: float(total) / (stop - start) for name, total in sums.items()}
        return balance

    def _recalls(self, plan: Plan) -> bool:
        """Whether the student learns from what its body has answered before; one process does, without mixing."""
        alone = self.job.peer is None and self.team.size == 1 and not self.job.recipe.mixes
        return alone and recalls(self.student, self.job.images, self.objective, self.teacher, plan)

    def _parts(self, step: int, data: Batch, features: Tensor | None) -> dict[str, Tensor]:
        """The weighted parts of the loss at a step, whose learning rate is set. features: of the student, if known."""
        job, peer = self.job, self.job.peer
        first, progress = self.course.at(step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.course.rate(step) * group.get("scale", 1.0)
        answers = self.teacher(data) if self.teacher is not None else None
        with job.engine.autocast(job.recipe.precision if features is None else "fp32"):
            output = look(self.student, data) if features is None else self.student.of_features(features)
            theirs = peer.network(data.pixels) if peer is not None else None
        stage = {"first": first, "smoothing": job.recipe.label_smoothing}
        parts = self.objective(output, theirs.detach() if theirs else answers, data, progress, **stage)
        if peer is not None:
            back = peer.objective(theirs, output.detach(), data, progress, **stage)
            parts |= {f"peer.{name}": part for name, part in back.items()}
        if not parts:
            raise UserError("the loss looks at no image", where="loss.on", cure="no pool is left: loss.on=both")
        if not any(part.requires_grad for part in parts.values()):
            where = f"recipe.learns={job.recipe.learns}"
            raise UserError("the loss looks only at what does not learn", where=where, cure="recipe.learns=all")
        return parts

    def _check(
        self, stop: int, balance: Mapping[str, Tensor], validate: Validate | None, keeper: Keeper | None
    ) -> None:
        """Measure, tell, and offer what a stop must not lose."""
        _, progress = self.course.at(stop - 1)
        figures = {"loss": sum(self.losses.values()), **self.losses, "lr": self.course.rate(stop - 1)}
        if self.course.open(stop):
            figures["fitted"] = self._fitted()
            self.course.tell(stop, figures["fitted"])
        elif validate is not None and self.course.judged(stop):
            with self.average.shown() if self.average is not None else nullcontext():
                figures["val_accuracy"] = validate(self.student)
                self.state.keep_best(self.student, figures["val_accuracy"])
        self.watcher.figures(figures | self.objective.settings(progress) | ratios(balance))
        self.state.offer(keeper, stop)

    def _fitted(self) -> float:
        """The share of the labels that the student has fitted: what number 0 finds, on which all processes go on."""
        with self.job.engine.autocast(self.job.recipe.precision):
            share = self.fitness(self.student) if self.team.rank == 0 else 0.0
        decided = torch.tensor([share], dtype=torch.float64, device=self.job.engine.device)
        self.team.follow([decided])
        return float(decided)

    def _taught(self) -> Tensor:
        """(n,) ids of the images that the teacher answered about, in steps and when it was asked what is fitted."""
        ids = self.feed.ids(self.done)
        return torch.cat([ids, self.fitness.ids]).unique() if self.asked is not None else ids

    def _refuse_broken(self, step: int) -> None:
        if step >= 0:
            rate = self.course.rate(step)
            told = f"the loss of {self.job.what} is not finite at step {step}, learning rate {rate:g}"
            raise MachineError(told, cure="lower recipe.lr")
