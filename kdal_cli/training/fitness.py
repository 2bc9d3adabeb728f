"""How well a student fits the labels that it learns from."""

from functools import cached_property

import torch
from torch import Tensor

from kdal_cli.devices.passes import images_a_pass
from kdal_cli.images.augment import Resident
from kdal_cli.metrics.cost import evaluating
from kdal_cli.network import Network
from kdal_cli.streams import Streams
from kdal_cli.training.answers import Teacher
from kdal_cli.types import Examples

ASKED, BATCH = 500, 250
"""Labelled images that are looked at, of more than so many a random part, and those of a pass, at most."""


class Fitness:
    """The share of the labelled images that a student has fitted, without augmentation, batch-norm in eval.

    An image is fitted when the student gives it its label; where there is a teacher whose word counts and who gives it
    another class, either is fitted. ids: (N,) the images that are looked at, about which the teacher is asked once.
    """

    def __init__(self, images: Resident, examples: Examples, streams: Streams, teacher: Teacher | None) -> None:
        order = torch.randperm(len(examples.labels), generator=streams.at("fitness"))[:ASKED]
        self.images, self.ids, self.labels = images, examples.labelled_ids[order], examples.labels[order]
        self.teacher = teacher

    @cached_property
    def taught(self) -> Tensor:
        """What the teacher would have the student say, (N,); the labels where there is none."""
        return self.labels if self.teacher is None else self.teacher.classes_of(self.images, self.ids)

    @torch.no_grad()
    def __call__(self, student: Network) -> float:
        """0 where there are no labels: they are never fitted."""
        if not len(self.ids):
            return 0.0
        with evaluating(student):
            parts = self.ids.split(images_a_pass(student, self.images, BATCH))
            answers = [student.recall(self.images, ids) or student(self.images.whole(ids)) for ids in parts]
        given = torch.cat([answer.logits.argmax(1).cpu() for answer in answers])
        return float(((given == self.labels) | (given == self.taught)).float().mean())
