"""How well a student fits the labels that it learns from."""

import torch

from kdal_cli.devices.passes import images_a_pass
from kdal_cli.images.augment import Resident
from kdal_cli.metrics.cost import evaluating
from kdal_cli.network import Network
from kdal_cli.streams import Streams
from kdal_cli.types import Examples

ASKED, BATCH = 500, 250
"""Labelled images that are looked at, of more than so many a random part, and those of a pass, at most."""


class Fitness:
    """The share of the labelled images that a student is right on, without augmentation, batch-norm in eval."""

    def __init__(self, images: Resident, examples: Examples, streams: Streams) -> None:
        order = torch.randperm(len(examples.labels), generator=streams.at("fitness"))[:ASKED]
        self.images, self.ids, self.labels = images, examples.labelled_ids[order], examples.labels[order]

    @torch.no_grad()
    def __call__(self, student: Network) -> float:
        """0 where there are no labels: they are never fitted."""
        if not len(self.ids):
            return 0.0
        with evaluating(student):
            parts = self.ids.split(images_a_pass(student, self.images, BATCH))
            answers = [student.recall(self.images, ids) or student(self.images.whole(ids)) for ids in parts]
        return float((torch.cat([answer.logits.argmax(1).cpu() for answer in answers]) == self.labels).float().mean())
