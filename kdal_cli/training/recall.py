"""Steps of a training whose student has a body that does not change: the head learns from what the body answered."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from kdal_cli.images.augment import Resident
from kdal_cli.network import Network
from kdal_cli.streams import undisturbed
from kdal_cli.training.answers import WINDOW, CachedTeacher, Teacher
from kdal_cli.training.feed import Plan
from kdal_cli.training.objective import Objective
from kdal_cli.types import Batch, Output


def recalls(student: Network, images: Resident, objective: Objective, teacher: Teacher | None, plan: Plan) -> bool:
    """Whether a training can do without pixels: the student has a memory of its images, and nobody else looks at them.

    A term looks at them that cannot be computed without.
    """
    ids, views = plan.ids[0], plan.views[0]
    if not (teacher is None or isinstance(teacher, CachedTeacher)) or student.memory is None:
        return False
    ours = student.recall(images, ids[:1], views[:1])
    if ours is None:
        return False
    many = len(ids)
    shown = Output(ours.logits.expand(many, -1), ours.features.expand(many, -1))
    theirs = teacher.blank(many) if teacher is not None else None
    here = images.device
    batch = Batch(ids.to(here), views.to(here), torch.empty(0, dtype=torch.uint8), plan.labels[0].to(here))
    trial = copy.deepcopy(objective)
    try:
        with undisturbed():
            for first in {False, objective.first > 0}:
                trial(shown, theirs, batch, 0.0, first=first)
    except Exception:  # a term may be anybody's code; one that is broken says so when it is shown everything
        return False
    return True


def remembered(student: Network, images: Resident, plan: Plan) -> Iterator[Tensor]:
    """The features (B, D) of each step of a plan; what nobody has seen yet is looked at some steps ahead."""
    steps, batch = plan.ids.shape
    window = max(1, WINDOW // batch)
    assert student.memory is not None
    for start in range(0, steps, window):
        ids, views = (part[start : start + window] for part in (plan.ids, plan.views))
        features = student.memory(images, ids.flatten(), views.flatten())
        assert features is not None
        yield from torch.unflatten(features, 0, ids.shape)
