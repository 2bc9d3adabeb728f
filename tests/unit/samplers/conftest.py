"""Evidence from numbers that a test chooses."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence


class Known:
    """A scorer that knows every answer beforehand: answers (N, C) and features (N, D), by id; head (C, D)."""

    def __init__(self, answers: Tensor, features: Tensor, head: Tensor | None = None) -> None:
        self.answers, self.features, self.head = answers, features, head

    def logits(self, ids: Tensor) -> Tensor:
        return self.answers[ids]

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.answers[ids], self.features[ids]

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        for _ in range(count):
            yield self.answers[ids] + torch.randn(self.answers[ids].shape, generator=rng)

    def classify(self, features: Tensor) -> Tensor:
        assert self.head is not None
        return features @ self.head.T


MakePool = Callable[..., Evidence]


@pytest.fixture
def make_pool() -> MakePool:
    """`make_pool(logits, features, ids)`: a pool of `ids`, by default of every row, with no labels yet."""

    def make(logits: Tensor, features: Tensor | None = None, ids: Tensor | None = None) -> Evidence:
        none = torch.zeros(0, dtype=torch.int64)
        ids = torch.arange(len(logits)) if ids is None else ids
        return Evidence(ids, none, none, logits.shape[1], Known(logits, logits if features is None else features))

    return make


@pytest.fixture
def rng() -> Generator:
    return torch.Generator().manual_seed(0)
