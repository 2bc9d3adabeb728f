"""What a sampler may look at: lazy, computed when first read and then kept for the round.

Axis letters: N pool, M labelled, C classes, D features, K draws. Every tensor is float32 on one device, in eval mode,
without augmentation; rows of the pool follow `ids`, rows of the labelled part follow `labelled_ids`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

from torch import Generator, Tensor

from kdal_cli.errors import MachineError, UserError

Seen = TypeVar("Seen", bound=tuple[Tensor, ...])


class Scorer(Protocol):
    """A model that can look at images by id."""

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (N, C), features (N, D)) from one pass."""
        ...

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        """`count` logits (N, C), each under another dropout mask, batch-norm in eval."""
        ...


@dataclass(frozen=True)
class Evidence:
    """The pool as a sampler sees it.

    ids: (N,) of the candidates. labelled_ids, labels: (M,) what has been paid for. scorer: whose logits and features
    are shown. teacher: the teacher, or None when there is none.
    """

    ids: Tensor
    labelled_ids: Tensor
    labels: Tensor
    classes: int
    scorer: Scorer
    teacher: Scorer | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _pool(self) -> tuple[Tensor, Tensor]:
        return _finite(self.scorer.look(self.ids), self.ids)

    @property
    def seen(self) -> Tensor | None:
        """The scorer's logits if anybody has asked for them, without computing them."""
        return self._pool[0] if "_pool" in self.__dict__ else None

    @property
    def logits(self) -> Tensor:
        """(N, C) of the scorer."""
        return self._pool[0]

    @property
    def features(self) -> Tensor:
        """(N, D) of the scorer, what enters its classifier."""
        return self._pool[1]

    @cached_property
    def labelled_features(self) -> Tensor:
        """(M, D) of the scorer, of the images that are labelled."""
        return (
            _finite(self.scorer.look(self.labelled_ids), self.labelled_ids)[1]
            if len(self.labelled_ids)
            else self.features[:0]
        )

    @cached_property
    def teacher_logits(self) -> Tensor:
        """(N, C) of the teacher. Raises UserError when there is none."""
        if self.teacher is None:
            raise UserError(
                "this sampler asks the teacher, and there is none", where="teacher=none", cure="choose a teacher"
            )
        return _finite(self.teacher.look(self.ids), self.ids)[0]

    def draws(self, count: int, rng: Generator) -> Iterator[Tensor]:
        """`count` logits (N, C) of the scorer under dropout, one at a time, so that N·C·K is never held."""
        for logits in self.scorer.draws(self.ids, count, rng):
            yield _finite((logits,), self.ids)[0]


def _finite(seen: Seen, ids: Tensor) -> Seen:
    for values in seen:
        bad = ~values.isfinite().all(1)  # (N,)
        if bad.any():
            first = int(ids[bad.cpu()][0])
            raise MachineError(
                f"the scorer answers image {first} with a number that is not finite", cure="lower recipe.lr"
            )
    return seen
