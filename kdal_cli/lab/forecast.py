"""What a training will take, from a few timed steps of one that is thrown away."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from kdal_cli.inference.predict import predict
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.guide import Guide, views_of, why_live
from kdal_cli.lab.lab import Lab, MakeObjective
from kdal_cli.lab.teacher import Member, TeacherPlan
from kdal_cli.lab.train import sketch
from kdal_cli.streams import Streams
from kdal_cli.training.answers import Asked, LiveTeacher
from kdal_cli.training.fit import fit
from kdal_cli.training.job import Fitted
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe
from kdal_cli.training.tuning import is_still
from kdal_cli.types import Examples, Unwatched

WARM, TIMED, PATIENCE = 2, 8, 2.0
"""Steps before the clock, steps on it, and seconds after which those before it are enough to go by."""


FEW = 32
"""Images that a body is timed on, and seconds that a head takes for a step."""

HEAD_STEP = 1e-3


@dataclass(frozen=True)
class Forecast:
    """How long a training is: steps, and seconds. longest: seconds at most, where labels are hard to fit."""

    steps: int
    seconds: float
    longest: float

    @property
    def open(self) -> bool:
        return self.longest > self.seconds

    @classmethod
    def at(cls, seconds: Callable[[int], float], recipe: Recipe, labelled: int) -> "Forecast":
        """Of as many steps as the recipe has on so many labels, from its floor to its ceiling, by their seconds."""
        known = recipe.length(labelled)
        steps, most = (known, known) if known else (recipe.until.floor, recipe.until.ceiling)
        return cls(steps, seconds(steps), seconds(most))


def of_teacher(lab: Lab, member: Member, labelled: int) -> Forecast:
    """Of training a network of the teacher on so many labels."""

    def some(recipe: Recipe) -> Fitted:
        network = lab.network(member.blueprint, "rehearsal")
        examples = Examples(lab.pool[:1].repeat(labelled), torch.zeros(labelled, dtype=torch.int64))
        images = lab.views(recipe.augment)
        return fit(network, images, examples, Objective(), recipe, lab.engine, Streams(0), Unwatched())

    return _forecast(member.recipe, labelled, some)


def of_student(
    lab: Lab,
    blueprint: Blueprint,
    make_objective: MakeObjective,
    plan: TeacherPlan | None,
    recipe: Recipe,
    labelled: int,
    asked: Asked = "everything",
) -> Forecast:
    """Of training the student on so many labels, and of its teacher's answers; of a head, of that alone.

    asked: what the loss reads of these.
    """
    if is_still(lab.network(blueprint, "rehearsal"), recipe):
        return Forecast.at(lambda steps: HEAD_STEP * steps, recipe, labelled)

    def some(recipe: Recipe) -> Fitted:
        student, teacher = lab.network(blueprint, "rehearsal"), sketch(lab, plan, blueprint)
        examples = Examples(lab.pool, torch.arange(min(labelled, len(lab.pool))) % len(lab.data.classes))  # made up
        objective = lab.objective(make_objective, student, teacher, examples, "rehearsal")
        precision = lab.engine.precision(recipe.precision, teacher, lab.train.whole(lab.pool[:1])) if teacher else None
        live = LiveTeacher(teacher, lab.engine, precision) if teacher is not None and precision else None
        images = lab.views(recipe.augment)
        return fit(student, images, examples, objective, recipe, lab.engine, Streams(0), Unwatched(), teacher=live)

    return _forecast(recipe, labelled, some, _kept(lab, blueprint, plan, recipe, asked))


def _kept(lab: Lab, student: Blueprint, plan: TeacherPlan | None, recipe: Recipe, asked: Asked) -> int | None:
    """How many answers of a teacher there are at most, where they are kept; None where it is asked at every step."""
    if plan is None or plan.manner.kind == "peer":
        return None
    guide, images = Guide(plan.manner, sketch(lab, plan, student), asked=asked), lab.views(recipe.augment)
    return None if why_live(lab, guide, images, recipe.mixes) else len(lab.pool) * views_of(guide, images)


def of_features(lab: Lab, blueprint: Blueprint) -> float:
    """Seconds of looking once at every image, which is all that a body does that does not learn."""
    network, some = lab.network(blueprint, "rehearsal"), lab.pool[:FEW]
    predict(network, lab.train, some)
    started = time.perf_counter()
    predict(network, lab.train, some)
    return (time.perf_counter() - started) / len(some) * (len(lab.pool) + len(lab.data.test))


def of_looking(lab: Lab, student: Forecast, recipe: Recipe) -> float:
    """Seconds of looking once at the pool and twice at the test images: a third of what training on them takes."""
    images = len(lab.pool) + 2 * len(lab.data.test)
    return student.seconds / student.steps * images / (3 * recipe.batch)


def _forecast(recipe: Recipe, labelled: int, some: Callable[[Recipe], Fitted], kept: int | None = None) -> Forecast:
    """kept: how many answers of the teacher are computed once and looked up after that; None: no answer is."""

    def timed(count: int) -> Fitted:
        return some(replace(recipe, steps=count, epochs=None, checks=1, schedule="constant", compile="none"))

    fitted = timed(WARM)
    if fitted.seconds < PATIENCE:
        fitted = timed(TIMED)

    def seconds(steps: int) -> float:
        share = steps / fitted.steps
        answers = share * fitted.images
        if kept:  # drawn at random, so many different ones
            answers = kept * -math.expm1(-answers / kept)
        return share * fitted.spent["train_s"] + answers / fitted.images * fitted.teacher_seconds

    return Forecast.at(seconds, recipe, labelled)


def rounded(seconds: float) -> int:
    """Two digits: more would be a promise."""
    scale = 10 ** max(0, math.floor(math.log10(max(seconds, 1))) - 1)
    return max(1, scale * round(seconds / scale))
