"""What a student sees of a batch: its images, and the strongly changed views of them in the same pass."""

from dataclasses import replace

import torch

from kdal_cli.network import Network
from kdal_cli.training.feed import More
from kdal_cli.types import Batch, Output


def look(student: Network, batch: Batch) -> Output:
    """The student's answer, `strong` besides where the batch has such views: one pass, so that norms see both."""
    if batch.strong is None:
        return student(batch.pixels)
    both = student(torch.cat([batch.pixels, batch.strong]))
    images = len(batch.pixels)
    return replace(both[:images], strong=both[images:])


def doubled(batch: Batch, more: More) -> Batch:
    """A batch whose other views are the images as they are: what a loss is tried on."""
    first = {"both": 0, "pool": len(batch.labels)}
    return replace(batch, **{kind: batch.pixels[first[which] :] for kind, which in more.items()})
