"""The batches of a training, addressed by step: labelled images first, images of the pool after them.

Axis letters: S steps of a chunk, B batch, L its labelled part.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kdal_cli.devices.team import Team
from kdal_cli.images.augment import ENDLESS, Resident
from kdal_cli.streams import Streams
from kdal_cli.types import Batch, Examples, Other

More = Mapping[Other, Literal["pool", "both"]]
"""Which other views are wanted, of the images of the pool or of all."""


class Feed:
    """The batches of a training, addressed by step: the same step gives the same images in the same views, always.

    team: each of its processes is given its share of every batch, as many images of both parts as the others. more:
    which other views of the images a batch has besides.
    """

    def __init__(
        self,
        images: Resident,
        examples: Examples,
        batch: int,
        pool_batch: int,
        streams: Streams,
        team: Team | None = None,
        more: More | None = None,
    ) -> None:
        self.images, self.examples, self.team, self.more = images, examples, team or Team(), more or {}
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
        rows, views = self._share(self.labelled_order.draw(start, stop, self.batch))  # (S, L)
        ids, labels = self.examples.labelled_ids[rows], self.examples.labels[rows]
        if self.pool_batch:
            more, more_views = self._share(self.pool_order.draw(start, stop, self.pool_batch))  # (S, B - L)
            ids, views = torch.cat([ids, self.examples.pool_ids[more]], 1), torch.cat([views, more_views], 1)  # (S, B)
        return Plan(ids, views, labels, self._others(start, stop))

    def batches(self, plan: "Plan", *, blind: bool = False) -> Iterator[Batch]:
        """The batches of a plan; its addresses are moved to the device at once, before the first.

        blind: without pixels, for whoever remembers what was seen.
        """
        ids, views, labels = (part.to(self.images.device) for part in (plan.ids, plan.views, plan.labels))
        nothing = self.images.pixels.new_empty(0)
        for step in range(len(ids)):
            pixels = nothing if blind else self.images.at(plan.ids[step], plan.views[step])
            others = {} if blind else {kind: self._other(kind, plan, step) for kind in self.more}
            yield Batch(ids[step], views[step], pixels, labels[step], **others)

    def _others(self, start: int, stop: int) -> Tensor | None:
        """(S, B) a number for each visit, that its other views follow from."""
        if not self.more:
            return None
        orders = ((self.labelled_order, self.batch), (self.pool_order, self.pool_batch))
        return torch.cat(self._share(order.others(start, stop, batch) for order, batch in orders), 1)

    def _other(self, kind: Other, plan: "Plan", step: int) -> Tensor:
        """The other view of the images of a step, or of those of the pool."""
        assert plan.others is not None
        first = 0 if self.more[kind] == "both" else plan.labels.shape[1]
        ids, numbers = plan.ids[step, first:], plan.others[step, first:]
        return self.images.strong(ids, numbers) if kind == "strong" else self.images.again(ids, numbers)

    def _share(self, parts: Iterable[Tensor]) -> list[Tensor]:
        """This process's columns of each (S, batch)."""
        return [part.chunk(self.team.size, 1)[self.team.rank] for part in parts]


@dataclass(frozen=True)
class Plan:
    """The addresses of some steps: images and views (S, B), and the labels of the first L of each step (S, L).

    others: (S, B) the numbers that other views follow from, where there are any.
    """

    ids: Tensor
    views: Tensor
    labels: Tensor
    others: Tensor | None = None


class Order:
    """An endless stream of `size` rows, each epoch shuffled anew and each visit in a view of its own."""

    def __init__(self, size: int, views: int, streams: Streams) -> None:
        self.size, self.views, self.streams = size, views, streams

    def draw(self, start: int, stop: int, batch: int) -> tuple[Tensor, Tensor]:
        """(rows (S, batch), views (S, batch)) of steps `start` to `stop`."""
        epochs = [self._epoch(epoch) for epoch in self._epochs(start, stop, batch)]
        rows, views = ([epoch[part] for epoch in epochs] for part in (0, 1))
        return self._steps(rows, start, stop, batch), self._steps(views, start, stop, batch)

    def others(self, start: int, stop: int, batch: int) -> Tensor:
        """(S, batch) whole numbers below `ENDLESS` of steps `start` to `stop`, another one for each visit."""
        rngs = (self.streams.at("other", epoch) for epoch in self._epochs(start, stop, batch))
        drawn = [torch.randint(ENDLESS, (self.size,), generator=rng) for rng in rngs]
        return self._steps(drawn, start, stop, batch)

    def rows(self, visits: int) -> Tensor:
        """(n,) the rows of the first so many visits, each once."""
        return torch.arange(self.size) if visits >= self.size else self._epoch(0)[0][:visits]

    def _epochs(self, start: int, stop: int, batch: int) -> range:
        return range(start * batch // self.size, -(-stop * batch // self.size)) if batch else range(0)

    def _steps(self, epochs: Sequence[Tensor], start: int, stop: int, batch: int) -> Tensor:
        """(S, batch) of the epochs (size,) that steps `start` to `stop` lie in."""
        if not batch:
            return torch.empty(stop - start, 0, dtype=torch.int64)
        low = start * batch % self.size
        return torch.cat(list(epochs))[low : low + (stop - start) * batch].view(stop - start, batch)

    def _epoch(self, epoch: int) -> tuple[Tensor, Tensor]:
        rng = self.streams.at("epoch", epoch)
        return torch.randperm(self.size, generator=rng), torch.randint(self.views, (self.size,), generator=rng)
