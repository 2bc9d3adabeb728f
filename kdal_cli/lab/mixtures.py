"""What may look at mixtures of two images: networks may, and terms that ask neither which image nor which class."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.lab.teacher import TeacherPlan
from kdal_cli.streams import undisturbed
from kdal_cli.training.objective import Objective
from kdal_cli.types import Batch, Output


def refuse_unmixable(
    objective: Objective, ours: Output, theirs: Output | None, batch: Batch, plan: TeacherPlan | None, mixes: str
) -> None:
    """Raise UserError for a teacher or a term that a mixture means nothing to. mixes: the settings that mix.

    A term is tried with other labels, and with the images in other places: one that answers otherwise reads them.
    """
    if plan is not None and plan.manner.view == "clean":
        cure = "teacher.view=same, so that it answers about the mixtures that the student sees"
        raise UserError(f"teacher.view=clean and {mixes}", cure=cure)
    if viewed := [name for name, part in objective.parts.items() if part.others]:
        what = f"loss.{viewed[0]} compares two views of an image, and {mixes} mixes two images"
        raise UserError(what, cure="no mixing: its views are changed already")
    usual = _values(objective, ours, theirs, batch)
    for other in _others(batch, ours.logits.shape[1]):
        for name, value in _values(objective, ours, theirs, other).items():
            if name != "ce" and not torch.allclose(value, usual[name], rtol=0, atol=0, equal_nan=True):
                what = f"loss.{name} reads which image or which class it looks at, and {mixes} mixes two"
                raise UserError(what, cure="another loss: kd, or one of features or maps; or no mixing")
    for name, part in objective.parts.items():
        if part.sample_weight == "right":
            what = f"loss.{name}.sample_weight=right asks for one label, and {mixes} mixes two"
            raise UserError(what, cure="all or confidence")


def _others(batch: Batch, classes: int) -> Iterator[Batch]:
    for shift in range(1, min(classes, 4)):
        yield replace(batch, labels=(batch.labels + shift) % classes)
    yield replace(batch, ids=batch.ids.roll(1))


def _values(objective: Objective, ours: Output, theirs: Output | None, batch: Batch) -> dict[str, Tensor]:
    """The parts of a loss by name, those of a first stage included."""
    found: dict[str, Tensor] = {}
    for first in {False, objective.first > 0}:
        with undisturbed():
            torch.manual_seed(0)
            found |= copy.deepcopy(objective)(ours, theirs, batch, 0.5, first=first)
    return found
