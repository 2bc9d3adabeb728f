"""The words of a training that every floor shares: what a model sees, answers and chooses. Imports torch alone.

Axis letters: N images, C classes, D features, B batch, L labelled part, c channels, h w pixels of a map.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Output:
    """What a model returns for a batch.

    logits: (B, C), before any softmax. features: (B, D), what enters the classifier. maps: {module path: (B, c, h, w)},
    only those that were asked for. model: who answered, pixels (B, c, H, W) from 0 to 255 -> Output, for the terms that
    ask about other pixels than those of the batch. strong, second: what it answers to the views of these names of
    `Batch`, where they were asked for.
    """

    logits: Tensor
    features: Tensor
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    model: Callable[[Tensor], "Output"] | None = None
    strong: "Output | None" = None
    second: "Output | None" = None

    def __getitem__(self, rows: slice) -> "Output":
        part = replace(self, strong=None, second=None).each(lambda x: x[rows])
        return replace(part, **self._others(lambda x: _of_the_last(x, rows, len(self.logits))))

    def float(self) -> "Output":
        """The same in float32 (float64 stays): loss terms are never computed in less."""
        return self.each(lambda x: x if x.dtype == torch.float64 else x.float())

    def detach(self) -> "Output":
        """The same, through which no gradient passes."""
        return self.each(Tensor.detach)

    def each(self, change: Callable[[Tensor], Tensor]) -> "Output":
        """The same with every tensor changed."""
        maps = {name: change(m) for name, m in self.maps.items()}
        shown = {"logits": change(self.logits), "features": change(self.features), "maps": maps}
        return replace(self, **shown, **self._others(change))

    def _others(self, change: Callable[[Tensor], Tensor]) -> dict[str, "Output"]:
        """Its answers to strong views, with every tensor changed."""
        others = {"strong": self.strong, "second": self.second}
        return {name: other.each(change) for name, other in others.items() if other is not None}


Places = Literal["all", "stages", "middle", "last"] | Sequence[str]
"""Where a term looks inside a network: module paths; or `stages`, all that the architecture names, `all`, the stem
before them as well, the `middle` one of the stages, of four the second, or the `last`. Names are resolved to paths
before the term is made, stages paired from the last ones backwards."""


@dataclass(frozen=True)
class Mixed:
    """What the labelled images of a batch were mixed with. labels: (L,) of the others. share: of the images' own."""

    labels: Tensor
    share: float


@dataclass(frozen=True)
class Batch:
    """What a training step sees.

    ids: (B,) rows of the data set. views: (B,) which augmented view of each. pixels: (B, c, H, W) uint8, that view.
    labels: (L,) of the first L rows, the labelled part; the other B - L come from the pool and have none. mixed: with
    what, where `pixels` are mixtures of that view and another image's. again, strong, second: (S, c, H, W) uint8, the
    last S images once more, in another view and in two that are changed strongly; all B of them or the pool's, where a
    term asks for them.
    """

    ids: Tensor
    views: Tensor
    pixels: Tensor
    labels: Tensor
    mixed: Mixed | None = None
    again: Tensor | None = None
    strong: Tensor | None = None
    second: Tensor | None = None

    def __getitem__(self, rows: slice) -> "Batch":
        mixed = replace(self.mixed, labels=self.mixed.labels[rows]) if self.mixed is not None else None
        others = (
            None if pixels is None else _of_the_last(pixels, rows, len(self.ids))
            for pixels in (self.again, self.strong, self.second)
        )
        return Batch(self.ids[rows], self.views[rows], self.pixels[rows], self.labels[rows], mixed, *others)


def _of_the_last(tensor: Tensor, rows: slice, whole: int) -> Tensor:
    """Those `rows` of `whole` that a tensor has which holds the last of them alone."""
    missing = whole - len(tensor)
    start, stop, _ = rows.indices(whole)
    return tensor[max(0, start - missing) : max(0, stop - missing)]


Other = Literal["again", "strong", "second"]
"""The other views of an image that a batch may have."""


@dataclass(frozen=True)
class Examples:
    """The images of one training.

    ids: (N,) rows of the data set. labels: (L,) of the first L of them, the labelled ones, all paid for; the others
    come from the pool, are seen by the terms that need no label, and may come more than once.
    """

    ids: Tensor
    labels: Tensor

    @property
    def labelled_ids(self) -> Tensor:
        """(L,)"""
        return self.ids[: len(self.labels)]

    @property
    def pool_ids(self) -> Tensor:
        """(N - L,)"""
        return self.ids[len(self.labels) :]


@dataclass(frozen=True)
class Query:
    """What a sampler chose: `rows` (k,) distinct positions in the pool, in the order picked, with `scores` (k,).

    candidates: rows (S,) of the part of the pool that was looked at, where that was not all of it. again: (k,) bool,
    which rows are positions among the labelled images instead, that are to be asked about once more; None: none are.
    """

    rows: Tensor
    scores: Tensor
    candidates: Tensor | None = None
    again: Tensor | None = None


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities of a network are to be believed, found out on `images` validation images.

    temperature: T in softmax(z / T). ece: (before, after). curve: rows of (threshold, share of images answered, how
    often those answers are right), from low to high; a threshold is the least probability that is answered. threshold:
    of these the one that a run chose; what is below it is unsure. sets: rows of (coverage, the least probability, at
    T = 1, of a class of a set that holds the true one so often), from low to high coverage.
    """

    temperature: float
    images: int
    ece: tuple[float, float]
    threshold: float
    curve: tuple[tuple[float, float, float], ...]
    sets: tuple[tuple[float, float], ...] = ()


class Watcher(Protocol):
    """Whoever wants to see a run as it goes: the display, the log of figures. Every call returns at once."""

    def say(self, text: str) -> None: ...

    def begin(self, what: str, steps: int, *, at_most: bool = False) -> None:
        """A piece of work of so many steps starts, or of so many at most."""
        ...

    def advance(self, steps: int, images: int) -> None:
        """So many steps and images of it are done."""
        ...

    def figures(self, values: Mapping[str, float]) -> None:
        """What was measured on the way: loss parts, learning rate, validation accuracy."""
        ...

    def end(self) -> None: ...


class Unwatched:
    """A watcher for work that nobody watches."""

    def say(self, text: str) -> None: ...

    def begin(self, what: str, steps: int, *, at_most: bool = False) -> None: ...

    def advance(self, steps: int, images: int) -> None: ...

    def figures(self, values: Mapping[str, float]) -> None: ...

    def end(self) -> None: ...
