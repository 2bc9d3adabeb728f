"""The one training loop. Teachers, students and the rounds of active learning all learn here.

Each step draws two streams, one from the labelled images and one from the pool: cross-entropy sees the first,
distillation both. A stream is endless, shuffled epoch by epoch, so that every batch has the same shape and none is
ragged. Inside the loop nothing waits for the device; figures are added up there and read at the checks between chunks.

Axis letters: B batch, M labelled images.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from kdal_cli.answers import Teacher
from kdal_cli.data._augment import Augment, Resident
from kdal_cli.engine import Engine, memory_told
from kdal_cli.errors import MachineError, UserError
from kdal_cli.feed import Feed
from kdal_cli.network import Network
from kdal_cli.objective import Objective
from kdal_cli.precision import Precision
from kdal_cli.schedules import Schedule
from kdal_cli.streams import Streams
from kdal_cli.types import Examples, Unwatched, Watcher
from kdal_cli.values import Count, Natural, NonNegative, Positive, Share

WARMUP_START = 1e-3
"""The share of the learning rate that a warm-up starts from: a first step of size zero would be wasted."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    steps or epochs: how long; steps stay equal over the rounds of active learning, epochs grow with the labels.
    batch, pool_batch: images a step from the labelled set and, when there is a teacher, from the pool.
    lr follows `schedule`, after a linear warm-up over the first `warmup` of the steps; `step` multiplies it by `gamma`
    at each of `milestones`, shares of the training. checks: how often, evenly, validation is measured.
    retrain: where a round of active learning starts from: new weights, the last round's, or those shrunk by half with
    fresh noise (Ash and Adams 2020, arXiv:1910.08475).
    """

    steps: Count | None = None
    epochs: Positive | None = None
    batch: Count = 64
    pool_batch: Natural = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.05
    momentum: Share = 0.9
    nesterov: bool = True
    weight_decay: NonNegative = 5e-4
    schedule: Literal["constant", "linear", "cosine", "step"] = "cosine"
    warmup: Share = 0.0
    milestones: tuple[Share, ...] = ()
    gamma: Share = 0.1
    precision: Precision = "auto"
    augment: Augment = field(default_factory=Augment)
    checks: Count = 4
    retrain: Literal["scratch", "warm", "shrink_perturb"] = "scratch"

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UserError(
                f"recipe.steps={self.steps} and recipe.epochs={self.epochs}", cure="set exactly one of the two"
            )

    def length(self, labelled: int) -> int:
        """Steps of a training on so many labelled images."""
        return self.steps if self.steps is not None else max(1, round((self.epochs or 0) * labelled / self.batch))

    def rate(self, progress: float, *, first: bool = False) -> float:
        """The learning rate at `progress`, the share that is done of the main stage or of the `first` one.

        Milestones are those of the main stage: before it, `step` stays at `lr`.
        """
        if progress < self.warmup:
            return self.lr * max(progress / self.warmup, WARMUP_START)
        if self.schedule == "step":
            return self.lr if first else self.lr * self.gamma ** sum(progress >= share for share in self.milestones)
        since = (progress - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return Schedule(self.schedule, start=self.lr, end=self.lr if self.schedule == "constant" else 0.0)(since)


@dataclass(frozen=True)
class Fitted:
    """What a training was: its length and speed, each weighted loss part over the last chunk, and the best check.

    visits: images looked at, each as often as it was, and `images` those of them since it was resumed. taught: (n,) ids
    of those that a frozen teacher answered about. teacher_seconds: of `seconds`, those that its answers took.
    precision: what the student was computed in.
    """

    steps: int
    visits: int
    taught: Tensor
    images: int
    seconds: float
    teacher_seconds: float
    precision: Precision
    losses: Mapping[str, float]
    best: Mapping[str, Tensor] | None
    best_accuracy: float | None


class Keeper(Protocol):
    """Who keeps the state of a training that may be stopped."""

    def offer(self, state: Mapping[str, Any]) -> None: ...

    def load(self) -> dict[str, Any] | None: ...


class Peer(nn.Module):
    """A network that learns at the same time: the student's teacher and, as its objective says, its pupil.

    Zhang et al. 2018, arXiv:1706.00384, with one difference to the paper's algorithm: both look at the answers of the
    same step, and each sees the other's without a gradient.
    """

    def __init__(self, network: Network, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective


@dataclass(frozen=True)
class Stages:
    """A training's steps: `first` of terms alone, then `main`. Each stage runs through all schedules by itself."""

    first: int
    main: int

    def __len__(self) -> int:
        return self.first + self.main

    def at(self, step: int) -> tuple[bool, float]:
        """(whether a step is of the first stage, the share of its stage that is done)."""
        return (True, step / self.first) if step < self.first else (False, (step - self.first) / self.main)

    def bounds(self, checks: int) -> list[int]:
        """The steps before which everything is measured, evenly over each stage, from 0 to the end."""
        shares = [check / checks for check in range(checks + 1)]
        return sorted({round(self.first * s) for s in shares} | {self.first + round(self.main * s) for s in shares})


def fit(
    student: Network,
    images: Resident,
    examples: Examples,
    objective: Objective,
    recipe: Recipe,
    engine: Engine,
    streams: Streams,
    watcher: Watcher,
    *,
    teacher: Teacher | None = None,
    peer: Peer | None = None,
    validate: Callable[[Network], float] | None = None,
    keeper: Keeper | None = None,
    what: str = "training",
) -> Fitted:
    """Train `student` in place, for `recipe.length` steps, and return what happened.

    teacher, peer: whose answers the terms compare with, of which a peer is trained besides. validate: the accuracy that
    decides which check was best. Raises MachineError, naming step and learning rate, when the loss is not finite.

    With helpers each process takes its share of every batch, and gradients and losses are averaged at each step; what
    else there is, batch-norm's statistics, memories, is number 0's from check to check. Raises UserError for a batch
    that cannot be shared evenly.
    """
    refuse_uneven(recipe, engine.team.size)
    begun = keeper.load() if keeper is not None else None
    example = images.whole(examples.ids[: recipe.batch + _pool_batch(recipe, objective, examples)])
    recipe = replace(recipe, precision=engine.precision(recipe.precision, student, example))
    learn = partial(
        _fit, student, images, examples, objective, recipe, engine, streams, teacher, peer, begun=begun, what=what
    )
    with engine.team.helping(learn, Unwatched()):
        return learn(watcher, validate=validate, keeper=keeper)


def refuse_uneven(recipe: Recipe, devices: int) -> None:
    """Raise UserError when so many devices cannot take the same number of images of every batch."""
    for key in ("batch", "pool_batch"):
        if (size := getattr(recipe, key)) % devices:
            cure = f"a multiple of {devices}"
            raise UserError(f"recipe.{key}={size} is not shared evenly", where=f"devices={devices}", cure=cure)


def _fit(
    student: Network,
    images: Resident,
    examples: Examples,
    objective: Objective,
    recipe: Recipe,
    engine: Engine,
    streams: Streams,
    teacher: Teacher | None,
    peer: Peer | None,
    watcher: Watcher,
    *,
    begun: Mapping[str, Any] | None,
    what: str,
    validate: Callable[[Network], float] | None = None,
    keeper: Keeper | None = None,
) -> Fitted:
    """`fit` in one process of the team. begun: the state to go on from."""
    team, teacher = engine.team, teacher if objective.needs_teacher else None
    main, batch = recipe.length(len(examples.labels)), recipe.batch
    steps = Stages(round(objective.first * main), main)
    pool_batch = _pool_batch(recipe, objective, examples)
    feed = Feed(images, examples, batch, pool_batch, streams, team)
    learners = nn.ModuleList([student, objective, *([peer] if peer is not None else [])])
    optimizer = _optimizer(learners, recipe)
    state = _State(learners, optimizer)
    done = state.load(begun)
    team.follow(learners.state_dict().values())  # all are there, and start with the same weights
    losses: dict[str, float] = {}
    watcher.begin(what, len(steps))
    watcher.advance(done, 0)
    started, answered = time.perf_counter(), teacher.seconds if teacher is not None else 0.0

    for chunk, (start, stop) in enumerate(pairwise(steps.bounds(recipe.checks))):
        if stop <= done:
            continue
        learners.train()
        if start == steps.first:
            optimizer.state.clear()  # the main stage starts with no momentum from the first one
        sums: dict[str, Tensor] = {}
        balance: dict[str, Tensor] = {}
        broken = torch.full((), -1, device=engine.device)  # the first step whose loss was not finite
        with streams.applied("dropout", chunk, *team.address), memory_told(batch + pool_batch):
            plan = feed.plan(start, stop)
            if teacher is not None:
                teacher.announce(plan.ids, plan.views)
            for step, data in zip(range(start, stop), feed.batches(plan), strict=True):
                first, progress = steps.at(step)
                for group in optimizer.param_groups:
                    group["lr"] = recipe.rate(progress, first=first)
                answers = teacher(data) if teacher is not None else None
                with engine.autocast(recipe.precision):
                    output = student(data.pixels)
                    theirs = peer.network(data.pixels) if peer is not None else None
                parts = objective(output, theirs.detach() if theirs else answers, data, progress, first=first)
                if peer is not None:
                    back = peer.objective(theirs, output.detach(), data, progress, first=first)
                    parts |= {f"peer.{name}": part for name, part in back.items()}
                if not parts:
                    raise UserError("the loss looks at no image", where="loss.on", cure="no pool is left: loss.on=both")
                if step == stop - 1 and team.rank == 0:
                    balance = gradient_norms(parts, student)
                loss = torch.stack(list(parts.values())).sum()
                optimizer.zero_grad()
                loss.backward()
                team.average(_of_step(learners, loss, parts))
                optimizer.step()
                broken = torch.where((broken < 0) & ~loss.detach().isfinite(), step, broken)
                for name, part in parts.items():
                    sums[name] = sums.get(name, 0.0) + part.detach()
                watcher.advance(1, batch + pool_batch)
        team.follow(learners.state_dict().values())
        engine.finish()
        if not _finite(student):
            broken = torch.where(broken < 0, stop - 1, broken)
        _refuse_broken(int(broken), recipe, steps, what)
        losses = {name: float(total) / (stop - start) for name, total in sums.items()}
        first, progress = steps.at(stop - 1)
        accuracy = {} if validate is None or first else {"val_accuracy": validate(student)}
        state.keep_best(student, accuracy.get("val_accuracy"))
        figures = {"loss": sum(losses.values()), **losses, "lr": recipe.rate(progress, first=first), **accuracy}
        watcher.figures(figures | objective.settings(progress) | ratios(balance))
        state.offer(keeper, stop)

    watcher.end()
    seconds = time.perf_counter() - started
    asking = teacher.seconds - answered if teacher is not None else 0.0
    each = batch + pool_batch
    visits, seen = len(steps) * each, (len(steps) - done) * each
    taught = feed.ids(len(steps)) if teacher is not None else examples.ids[:0]
    told = seconds, asking, recipe.precision, losses
    return Fitted(len(steps), visits, taught, seen, *told, state.best, state.best_accuracy)


class _State:
    """What a training consists of at a check: everything that a stop must not lose."""

    def __init__(self, learners: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.learners, self.optimizer = learners, optimizer
        self.best: dict[str, Tensor] | None = None
        self.best_accuracy: float | None = None

    def keep_best(self, student: Network, accuracy: float | None) -> None:
        """Remember the weights of the highest validation accuracy, the later of equals."""
        if accuracy is not None and (self.best_accuracy is None or accuracy >= self.best_accuracy):
            self.best_accuracy = accuracy
            self.best = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}

    def offer(self, keeper: Keeper | None, step: int) -> None:
        if keeper is not None:
            keeper.offer(
                {
                    "step": step,
                    "learners": self.learners.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "best": self.best,
                    "best_accuracy": self.best_accuracy,
                }
            )

    def load(self, state: Mapping[str, Any] | None) -> int:
        """Go back to where a stopped training was, and return the steps it had done."""
        if state is None:
            return 0
        self.learners.load_state_dict(state["learners"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.best_accuracy = state["best"], state["best_accuracy"]
        return state["step"]


def _pool_batch(recipe: Recipe, objective: Objective, examples: Examples) -> int:
    """Images of the pool in a step."""
    return recipe.pool_batch if objective.needs_pool and len(examples.pool_ids) else 0


def _of_step(learners: nn.Module, loss: Tensor, parts: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """What a step found out about its share of the batch: gradients, and how large each part of the loss is."""
    yield from (p.grad for p in learners.parameters() if p.grad is not None)
    yield from (value.detach() for value in (loss, *parts.values()))


def _optimizer(learners: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [p for p in learners.parameters() if p.requires_grad]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    momentum, nesterov = recipe.momentum, recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(
        parameters, recipe.lr, momentum=momentum, nesterov=nesterov, weight_decay=recipe.weight_decay, fused=True
    )


def _finite(network: nn.Module) -> bool:
    """Whether every weight is a number: the loss of a step says nothing about the weights that it leaves."""
    return bool(torch.stack([p.detach().isfinite().all() for p in network.parameters()]).all())


def gradient_norms(parts: Mapping[str, Tensor], student: Network) -> dict[str, Tensor]:
    """‖∂part/∂w‖₂ over the weights of the student, for each weighted part that it hangs on, when there are several."""
    weights = [p for p in student.parameters() if p.requires_grad]
    norms: dict[str, Tensor] = {}
    for name, part in parts.items() if len(parts) > 1 else ():
        gradients = torch.autograd.grad(part, weights, retain_graph=True, allow_unused=True)
        if found := [gradient.flatten() for gradient in gradients if gradient is not None]:
            norms[name] = torch.cat(found).norm()
    return norms


def ratios(norms: Mapping[str, Tensor]) -> dict[str, float]:
    """The gradient norm of each part over that of cross-entropy: where it is far above 1 the labels are drowned."""
    ce = norms.get("ce")
    return {} if ce is None else {f"{name}.grad_ratio": float(n / ce) for name, n in norms.items() if name != "ce"}


def _refuse_broken(step: int, recipe: Recipe, steps: Stages, what: str) -> None:
    if step >= 0:
        first, progress = steps.at(step)
        rate = recipe.rate(progress, first=first)
        raise MachineError(
            f"the loss of {what} is not finite at step {step}, learning rate {rate:g}", cure="lower recipe.lr"
        )
