"""What a student sees of a batch: its images, and the strongly changed views of them in the same pass."""

from dataclasses import replace

import torch

from kdal_cli.network import Network
from kdal_cli.training.feed import More
from kdal_cli.types import Batch, Output


def look(student: Network, batch: Batch) -> Output:
    """The student's answer, `strong` and `second` besides where the batch has such views.

    One pass, so that norms see all of them.
    """
    shown = {name: pixels for name in ("strong", "second") if (pixels := getattr(batch, name)) is not None}
    if not shown:
        return student(batch.pixels)
    together = student(torch.cat([batch.pixels, *shown.values()]))
    others, end = {}, len(batch.pixels)
    for name, pixels in shown.items():
        others[name] = together[end : end + len(pixels)]
        end += len(pixels)
    return replace(together[: len(batch.pixels)], **others)


def doubled(batch: Batch, more: More) -> Batch:
    """A batch whose other views are the images as they are: what a loss is tried on."""
    first = {"both": 0, "pool": len(batch.labels)}
    return replace(batch, **{kind: batch.pixels[first[which] :] for kind, which in more.items()})
