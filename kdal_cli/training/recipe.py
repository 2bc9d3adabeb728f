"""How a model is trained: for how long, on how much at a time, at which rate."""

from dataclasses import dataclass, field
from typing import Literal

from kdal_cli.devices.precision import Precision
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment
from kdal_cli.training.schedules import Schedule
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
    compile: have torch compile the student first, with CUDA graphs if wanted. retrain: where a round of active learning
    starts from: new weights, the last round's, or those shrunk by half with fresh noise (Ash and Adams 2020,
    arXiv:1910.08475).
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
    compile: Literal["none", "default", "graphs"] = "none"
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
