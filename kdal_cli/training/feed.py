"""The batches of a training, addressed by step: labelled images first, images of the pool after them.

Axis letters: S steps of a chunk, B batch, L its labelled part.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kdal_cli.devices.team import Team
from kdal_cli.images.augment import Resident
from kdal_cli.streams import Streams
from kdal_cli.types import Batch, Examples


class Feed:
    """The batches of a training, addressed by step: the same step gives the same images in the same views, always.

    team: each of its processes is given its share of every batch, as many images of both parts as the others.
    """

    def __init__(
        self,
        images: Resident,
        examples: Examples,
        batch: int,
        pool_batch: int,
        streams: Streams,
        team: Team | None = None,
    ) -> None:
        self.images, self.examples, self.team = images, examples, team or Team()
        self.batch, self.pool_batch = batch, pool_batch
        self.labelled_order = Order(len(examples.labels), images.augment.count, streams.under("labelled"))
        self.pool_order = Order(len(examples.pool_ids), images.augment.count, streams.under("pool"))

    def ids(self, steps: int) -> Tensor:
        """(n,) the images that a training of so many steps sees, each once, in order."""
        labelled = self.examples.labelled_ids[self.labelled_order.rows(steps * self.batch)]
        pool = self.examples.pool_ids[self.pool_order.rows(steps * self.pool_batch)]
        return torch.cat([labelled, pool]).unique()

    def plan(self, start: int, stop: int) -> "Plan":
        """What steps `start` to `stop` see, or this process's share of it, before any of it is looked at."""
        rows, views = self._share(self.labelled_order, start, stop, self.batch)  # (S, L)
        ids, labels = self.examples.labelled_ids[rows], self.examples.labels[rows]
        if self.pool_batch:
            more, more_views = self._share(self.pool_order, start, stop, self.pool_batch)  # (S, B - L)
            ids, views = torch.cat([ids, self.examples.pool_ids[more]], 1), torch.cat([views, more_views], 1)  # (S, B)
        return Plan(ids, views, labels)

    def batches(self, plan: "Plan", *, blind: bool = False) -> Iterator[Batch]:
        """The batches of a plan; its addresses are moved to the device at once, before the first.

        blind: without pixels, for whoever remembers what was seen.
        """
        ids, views, labels = (part.to(self.images.device) for part in (plan.ids, plan.views, plan.labels))
        nothing = self.images.pixels.new_empty(0)
        for step in range(len(ids)):
            pixels = nothing if blind else self.images.at(plan.ids[step], plan.views[step])
            yield Batch(ids[step], views[step], pixels, labels[step])

    def _share(self, order: "Order", start: int, stop: int, batch: int) -> list[Tensor]:
        """This process's columns of [rows (S, batch), views (S, batch)]."""
        return [part.chunk(self.team.size, 1)[self.team.rank] for part in order.draw(start, stop, batch)]


@dataclass(frozen=True)
class Plan:
    """The addresses of some steps: images and views (S, B), and the labels of the first L of each step (S, L)."""

    ids: Tensor
    views: Tensor
    labels: Tensor


class Order:
    """An endless stream of `size` rows, each epoch shuffled anew and each visit in a view of its own."""

    def __init__(self, size: int, views: int, streams: Streams) -> None:
        self.size, self.views, self.streams = size, views, streams

    def draw(self, start: int, stop: int, batch: int) -> tuple[Tensor, Tensor]:
        """(rows (S, batch), views (S, batch)) of steps `start` to `stop`."""
        if not batch:
            return torch.empty(stop - start, 0, dtype=torch.int64), torch.empty(stop - start, 0, dtype=torch.int64)
        low, high = start * batch, stop * batch
        epochs = [self._epoch(epoch) for epoch in range(low // self.size, -(-high // self.size))]
        inside = slice(low % self.size, low % self.size + high - low)
        rows, views = (torch.cat(part)[inside].view(stop - start, batch) for part in zip(*epochs, strict=True))
        return rows, views

    def rows(self, visits: int) -> Tensor:
        """(n,) the rows of the first so many visits, each once."""
        return torch.arange(self.size) if visits >= self.size else self._epoch(0)[0][:visits]

    def _epoch(self, epoch: int) -> tuple[Tensor, Tensor]:
        rng = self.streams.at("epoch", epoch)
        return torch.randperm(self.size, generator=rng), torch.randint(self.views, (self.size,), generator=rng)
