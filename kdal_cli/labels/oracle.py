"""Who sells labels, as the ledger sees them. The oracles themselves are in `labels/oracles/`, one file each.

An oracle is `(ids (k,), occasion) -> Answer | NotYet`. It is called again with the same ids until it has answered.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

TEACHER = "teacher"
"""The owner of labels that a teacher gave; no person is called so."""

NONE = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class Answer:
    """What an oracle says about k images.

    labels: (k,) int64, without those of the undecided. costs: (k,) in the currency of the oracle, one price an image.
    owner: who answered. undecided: {place in the query: what was said instead of a class}; such an image is paid for,
    is asked about no more, and has no label. Where they are known, of each of the k images: owners, who answered it;
    times, when; seconds, how long it took. audited: {place in the query: the class that a teacher was sure of} of
    images that people were asked about to see how often it is wrong. opinions: {place: (who, class) of each answer that
    names one} of images about which several people answered.
    """

    labels: Tensor
    costs: Tensor
    owner: str
    undecided: Mapping[int, str] = field(default_factory=dict)
    owners: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    seconds: tuple[float, ...] = ()
    audited: Mapping[int, int] = field(default_factory=dict)
    opinions: Mapping[int, Sequence[tuple[str, int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class NotYet:
    """A person has still to answer. labels: how many are missing. todo: what is to be done, in words that the command
    follows which goes on: `fill in round_003.csv and`."""

    labels: int
    todo: str


Guess = Callable[[Tensor], tuple[Tensor, Tensor]]
"""The likeliest class (k,) of images (k,) for a model, and its probability (k,)."""


@dataclass(frozen=True)
class Occasion:
    """When and for what labels are asked for.

    guess: that of the student of the round before; teacher: that of the teacher which can be asked by then; None
    without one. validation: (ids (V,), labels (V,)) that are known. audits: whether a teacher was right, of each image
    that people were asked about to see that. current: the labels (k,) that are reviewed. again: {id: who has answered
    already} of images that have a label and are asked about once more.
    """

    round: int = 0
    purpose: str = "train"
    guess: Guess | None = None
    teacher: Guess | None = None
    validation: tuple[Tensor, Tensor] = field(default_factory=lambda: (NONE, NONE))
    audits: tuple[bool, ...] = ()
    current: Tensor | None = None
    again: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the files of the question are called: `round_003`, `review_004`, or the purpose where it comes once."""
        if self.purpose in ("validation", "test"):
            return self.purpose
        return f"{'round' if self.purpose == 'train' else self.purpose}_{self.round:03d}"


FIRST = Occasion()
"""The seed set."""


class Oracle(Protocol):
    def __call__(self, ids: Tensor, occasion: Occasion = ...) -> Answer | NotYet: ...
