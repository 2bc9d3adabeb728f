"""How a model is trained: for how long, on how much at a time, at which rate."""

import re
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from kdal_cli.devices.precision import Precision
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment
from kdal_cli.training.schedules import Schedule
from kdal_cli.values import Count, Natural, NonNegative, Positive, Share, Within

Retrain = Literal["scratch", "warm", "shrink_perturb", "grow"]

WARMUP_START = 1e-3
"""The share of the learning rate that a warm-up starts from: a first step of size zero would be wasted."""


TUNING = (
    *("learns", "unfreeze", "frozen_norms", "layer_decay", "norm_decay", "ema"),
    *("mixup", "cutmix", "label_smoothing", "balanced"),
)
"""Settings that a training may do without."""


@dataclass(frozen=True)
class Until:
    """When a training ends whose length nobody sets: `decay` steps after it has fitted its labels.

    fitted: the share of the labelled images that it must be right on, without augmentation; of many, 500 are asked.
    floor, ceiling: steps that it takes at least and at most. decay: of these the last, in which the rate falls.
    """

    fitted: Share = 0.99
    floor: Count = 150
    ceiling: Count = 4000
    decay: Count = 75

    def __post_init__(self) -> None:
        if not self.decay < self.floor <= self.ceiling:
            told = f"decay={self.decay}, floor={self.floor}, ceiling={self.ceiling}"
            raise UserError(told, where="recipe.until", cure="accepted: decay below floor, floor up to ceiling")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    steps, epochs or until: how long, by one rule: so many steps, equal over the rounds of active learning; epochs,
    which grow with the labels; or, with neither, `until` the labels are fitted.
    batch, pool_batch: images a step from the labelled set and, when there is a teacher, from the pool.
    lr follows `schedule`, after a linear warm-up over the first `warmup` of the steps; `step` multiplies it by `gamma`
    at each of `milestones`, shares of the training. Of a training until the labels are fitted the rate stays constant
    after the warm-up, a share of the floor, and `schedule` is how it falls in the decay. checks: how often, evenly,
    validation is measured, there in the decay.
    compile: have torch compile the student first, with CUDA graphs if wanted. retrain: where a round of active learning
    starts from: new weights (`scratch`), the last round's (`warm`), those shrunk by half with fresh noise
    (`shrink_perturb`; Ash and Adams 2020, arXiv:1910.08475), or those with a head that has new weights for the classes
    that come in this round (`grow`; Li and Hoiem 2016, arXiv:1606.09282).

    learns: which part of the network: `all`; `head`, the last linear layer; `last:N`, the last N blocks; `from:PATH`,
    a module and all that is defined after it. unfreeze: steps at each of which an equal part of the other blocks joins,
    the last ones first (Howard and Ruder 2018, arXiv:1801.06146). frozen_norms: whether batch-norm's statistics are
    `still` in what does not learn, or go on `moving`. layer_decay: the learning rate of a block, as a share of the next
    one's. norm_decay: whether norms and biases are decayed like weights. ema: how much of the averaged weights is left
    after a step; they are what is measured and saved, and 0 averages none.

    mixup, cutmix: α of λ ~ Beta(α, α) by which images of a batch are mixed, see `training.mixing`; 0 mixes none, of
    both each does half of the steps. label_smoothing: the share of a label that is spread over all classes. balanced:
    whether labelled images of all classes come equally often.
    """

    steps: Count | None = None
    epochs: Positive | None = None
    until: Until = field(default_factory=Until)
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
    retrain: Retrain = "scratch"
    learns: str = "all"
    unfreeze: tuple[Count, ...] = ()
    frozen_norms: Literal["still", "moving"] = "still"
    layer_decay: Annotated[float, Within(0, 1, above=True)] = 1.0
    norm_decay: bool = True
    ema: Share = 0.0
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    label_smoothing: Share = 0.0
    balanced: bool = False

    @property
    def rule(self) -> str:
        """The key that says how long."""
        return "steps" if self.steps is not None else "epochs" if self.epochs is not None else "until.ceiling"

    def __post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            cure = "set one of the two, or neither to train until the labels are fitted; recipe.steps=null unsets"
            raise UserError(f"recipe.steps={self.steps} and recipe.epochs={self.epochs}", cure=cure)
        if self.schedule == "step" and self.steps is None and self.epochs is None:
            cure = "its milestones are shares of a length: set recipe.steps or recipe.epochs"
            raise UserError("recipe.schedule=step", where="the length is not known", cure=cure)
        if not re.fullmatch(r"all|head|last:[1-9]\d{0,3}|from:\S+", self.learns):
            cure = "accepted: all, head, last:N blocks, from:MODULE"
            raise UserError(f"recipe.learns={self.learns}", cure=cure)
        if self.ema == 1:
            raise UserError("recipe.ema=1", cure="below 1: the average would never move")
        if self.label_smoothing == 1:
            raise UserError("recipe.label_smoothing=1", cure="below 1: nothing would be left of the labels")
        if self.unfreeze and self.learns == "all":
            told = f"recipe.unfreeze={list(self.unfreeze)} with recipe.learns=all"
            raise UserError(told, cure="recipe.learns=head: all learns already")

    @property
    def mixes(self) -> str | None:
        """The settings that mix images, as they are typed, or None."""
        named = [f"recipe.{key}={getattr(self, key):g}" for key in ("mixup", "cutmix") if getattr(self, key)]
        return " and ".join(named) or None

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the weights that a training ends with, as a hash takes it: of tuning what is unusual."""
        usual = {each.name: each.default for each in fields(self) if each.name in TUNING}
        return {key: value for key, value in vars(self).items() if key not in usual or value != usual[key]}

    def length(self, labelled: int) -> int | None:
        """Steps of a training on so many labelled images; None where it goes on until they are fitted."""
        if self.epochs is not None:
            return max(1, round(self.epochs * labelled / self.batch))
        return self.steps

    def rate(self, progress: float, *, first: bool = False) -> float:
        """The learning rate at `progress`, the share done of a main stage of known length or of the `first` one.

        Milestones are those of the main stage: before it, `step` stays at `lr`.
        """
        if progress < self.warmup:
            return self.warming(progress / self.warmup)
        if self.schedule == "step":
            return self.lr if first else self.lr * self.gamma ** sum(progress >= share for share in self.milestones)
        return self.falling((progress - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0)

    def warming(self, share: float) -> float:
        """The learning rate at a share of the warm-up."""
        return self.lr * max(share, WARMUP_START)

    def falling(self, share: float) -> float:
        """The learning rate at a share of the way from `lr` to the end of the schedule, which `step` has not."""
        end = self.lr if self.schedule in ("constant", "step") else 0.0
        shape = "constant" if self.schedule == "step" else self.schedule
        return Schedule(shape, start=self.lr, end=end)(share)
