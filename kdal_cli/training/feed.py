"""The batches of a training, addressed by step: labelled images first, images of the pool after them.

Axis letters: S steps of a chunk, B batch, L its labelled part, C classes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Generator, Tensor

from kdal_cli.devices.team import Team
from kdal_cli.images.augment import ENDLESS, Resident
from kdal_cli.streams import Streams
from kdal_cli.training.mixing import Mixer, Mixture
from kdal_cli.types import Batch, Examples, Mixed, Other

More = Mapping[Other, Literal["pool", "both"]]
"""Which other views are wanted, of the images of the pool or of all."""


class Feed:
    """The batches of a training, addressed by step: the same step gives the same images in the same views, always.

    team: each of its processes is given its share of every batch, as many images of both parts as the others. balanced:
    labelled images of all classes come equally often. mixer: mixes the images of a batch. pieces: as how many batches
    one after the other a step is given, of the same images. more: which other views of the images a batch has besides.
    """

    def __init__(
        self,
        images: Resident,
        examples: Examples,
        batch: int,
        pool_batch: int,
        streams: Streams,
        team: Team | None = None,
        *,
        balanced: bool = False,
        mixer: Mixer | None = None,
        more: More | None = None,
    ) -> None:
        self.images, self.examples, self.team, self.mixer, self.more = (
            images,
            examples,
            team or Team(),
            mixer,
            more or {},
        )
        self.batch, self.pool_batch, self.pieces = batch, pool_batch, 1
        groups = _by_class(examples.labels) if balanced else None
        self.labelled_order = Order(len(examples.labels), images.augment.count, streams.under("labelled"), groups)
        self.pool_order = Order(len(examples.pool_ids), images.augment.count, streams.under("pool"))

    def ids(self, steps: int) -> Tensor:
        """(n,) the images that a training of so many steps sees, each once, in order."""
        labelled = self.examples.labelled_ids[self.labelled_order.rows(steps * self.batch)]
        pool = self.examples.pool_ids[self.pool_order.rows(steps * self.pool_batch)]
        return torch.cat([labelled, pool]).unique()

    def plan(self, start: int, stop: int) -> "Plan":
        """What steps `start` to `stop` see, or this process's share of it, before any of it is looked at.

        Of a feed in pieces each is a row of the plan, so that a step has several.
        """
        rows, views = self._share(self.labelled_order.draw(start, stop, self.batch))  # (S, L)
        ids, labels = self.examples.labelled_ids[rows], self.examples.labels[rows]
        if self.pool_batch:
            more, more_views = self._share(self.pool_order.draw(start, stop, self.pool_batch))  # (S, B - L)
            ids, views = torch.cat([ids, self.examples.pool_ids[more]], 1), torch.cat([views, more_views], 1)  # (S, B)
        plan = Plan(ids, views, labels, numbers=self._numbers(start, stop))
        if self.mixer:
            counts = labels.shape[1], ids.shape[1] - labels.shape[1]
            mixtures, others = zip(*(self.mixer.at(step, *counts) for step in range(start, stop)), strict=True)
            plan = replace(plan, mixtures=mixtures, others=torch.stack(others))
        return plan if self.pieces == 1 else plan.cut(self.pieces)

    def batches(self, plan: "Plan", *, blind: bool = False) -> Iterator[Batch]:
        """The batches of a plan; its addresses are moved to the device at once, before the first.

        blind: without pixels, for whoever remembers what was seen.
        """
        ids, views, labels = (part.to(self.images.device) for part in (plan.ids, plan.views, plan.labels))
        nothing = torch.empty(0, dtype=torch.uint8)
        for row in range(len(ids)):
            pixels, mixed = nothing if blind else self.images.at(plan.ids[row], plan.views[row]), None
            if plan.mixtures:
                pixels, share = plan.mixtures[row](pixels, self._others(plan, row, pixels))
                mixed = Mixed(plan.other_labels(row).to(self.images.device), share)
            more = {} if blind else {kind: self._again(kind, plan, row) for kind in self.more}
            if not blind and row + 1 < len(ids):
                self.images.expect(plan.ids[row + 1])
            yield Batch(ids[row], views[row], pixels, labels[row], mixed, **more)

    def _numbers(self, start: int, stop: int) -> Tensor | None:
        """(S, B) a number for each visit, that its other views follow from."""
        if not self.more:
            return None
        orders = ((self.labelled_order, self.batch), (self.pool_order, self.pool_batch))
        return torch.cat(self._share(order.numbers(start, stop, batch) for order, batch in orders), 1)

    def _again(self, kind: Other, plan: "Plan", row: int) -> Tensor:
        """Another view of the images of a row, or of those of the pool."""
        assert plan.numbers is not None
        first = 0 if self.more[kind] == "both" else plan.labels.shape[1]
        ids, numbers = plan.ids[row, first:], plan.numbers[row, first:]
        if kind == "again":
            return self.images.again(ids, numbers)
        return self.images.strong(ids, numbers if kind == "strong" else numbers + ENDLESS)

    def _others(self, plan: "Plan", row: int, pixels: Tensor) -> Tensor:
        """What the images of a row are mixed with: some of its own `pixels`, or looked at again where they are not."""
        places = plan.others[row]
        if plan.whole is None:
            return pixels[places.to(pixels.device)]
        whole, step = plan.whole, plan.step(row)
        return self.images.at(whole.ids[step, places], whole.views[step, places])

    def _share(self, parts: Iterable[Tensor]) -> list[Tensor]:
        """This process's columns of each (S, batch)."""
        return [part.chunk(self.team.size, 1)[self.team.rank] for part in parts]


@dataclass(frozen=True)
class Plan:
    """The addresses of some steps: images and views (S, B), and the labels of the first L of each step (S, L).

    mixtures, others: how each step mixes, and the places (S, B) within it of what its images are mixed with. whole: the
    plan that this one was cut from, in whose steps these places are. numbers: (S, B) what other views of the images
    follow from, where there are any.
    """

    ids: Tensor
    views: Tensor
    labels: Tensor
    mixtures: Sequence[Mixture] = ()
    others: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    whole: "Plan | None" = None
    numbers: Tensor | None = None

    def cut(self, pieces: int) -> "Plan":
        """The same with each step in equal pieces, one below the other, each with its share of both parts."""
        labelled, batch = self.labels.shape[1], self.ids.shape[1]
        ends = ((0, labelled), (labelled, batch))
        parts = [torch.arange(low, high).view(pieces, (high - low) // pieces) for low, high in ends]
        columns = torch.cat(parts, 1)  # (pieces, B / pieces)

        def below(table: Tensor) -> Tensor:
            return table[:, columns].flatten(0, 1)

        return Plan(
            below(self.ids),
            below(self.views),
            self.labels.reshape(len(self.ids) * pieces, labelled // pieces),
            [mixture for mixture in self.mixtures for _ in range(pieces)],
            below(self.others) if self.mixtures else self.others,
            self,
            below(self.numbers) if self.numbers is not None else None,
        )

    def step(self, row: int) -> int:
        """Which of the steps a row is of."""
        return row if self.whole is None else row * len(self.whole.ids) // len(self.ids)

    def other_labels(self, row: int) -> Tensor:
        """(L,) the labels of what the labelled images of a row are mixed with."""
        whole = self.whole or self
        return whole.labels[self.step(row), self.others[row, : self.labels.shape[1]]]


class Order:
    """An endless stream of `size` rows, each epoch shuffled anew and each visit in a view of its own.

    groups: the rows of each class; then every so many visits as there are classes are one of each, in random order.
    Of a class with few rows all come in an epoch, again and again, of one with many a random part.
    """

    def __init__(self, size: int, views: int, streams: Streams, groups: Sequence[Tensor] | None = None) -> None:
        self.views, self.streams, self.groups = views, streams, groups or ()
        self.turns = -(-size // len(self.groups)) if self.groups else 0
        self.size = self.turns * len(self.groups) or size

    def draw(self, start: int, stop: int, batch: int) -> tuple[Tensor, Tensor]:
        """(rows (S, batch), views (S, batch)) of steps `start` to `stop`."""
        epochs = [self._epoch(epoch) for epoch in self._epochs(start, stop, batch)]
        rows, views = ([epoch[part] for epoch in epochs] for part in (0, 1))
        return self._steps(rows, start, stop, batch), self._steps(views, start, stop, batch)

    def numbers(self, start: int, stop: int, batch: int) -> Tensor:
        """(S, batch) whole numbers below `ENDLESS` of steps `start` to `stop`, another one for each visit."""
        rngs = (self.streams.at("other", epoch) for epoch in self._epochs(start, stop, batch))
        drawn = [torch.randint(ENDLESS, (self.size,), generator=rng) for rng in rngs]
        return self._steps(drawn, start, stop, batch)

    def rows(self, visits: int) -> Tensor:
        """(n,) the rows of the first so many visits, each once."""
        if self.groups and visits:
            return self.draw(0, 1, visits)[0].unique()
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
        rows = self._balanced(rng) if self.groups else torch.randperm(self.size, generator=rng)
        return rows, torch.randint(self.views, (self.size,), generator=rng)

    def _balanced(self, rng: Generator) -> Tensor:
        """(turns · C,) one row of each class after the other, in every turn in another order."""
        again = torch.arange(self.turns)
        shuffled = [group[torch.randperm(len(group), generator=rng)] for group in self.groups]
        table = torch.stack([group[again % len(group)] for group in shuffled], 1)  # (turns, C)
        order = torch.rand(table.shape, generator=rng).argsort(1)
        return table.gather(1, order).flatten()


def _by_class(labels: Tensor) -> list[Tensor]:
    """The rows of each class that labels (L,) name."""
    return [(labels == label).nonzero().flatten() for label in labels.unique()]
