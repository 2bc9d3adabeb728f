"""GLISTER against gradients of all weights by autograd, and against the loss that a step really leaves.

N images, M labelled, V validation, C classes, D features.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.samplers.glister import errors, glister, moved
from kdal_cli.types import Query

LR = 0.05


class Linear:
    """A scorer that ends in a linear layer, weight (C, D) and bias (C,)."""

    def __init__(self, features: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.features, self.weight, self.bias = features, weight, bias

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return F.linear(self.features[ids], self.weight, self.bias), self.features[ids]

    def logits(self, ids: Tensor) -> Tensor:
        return self.look(ids)[0]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def evidence(
    seed: int, n: int = 15, labelled: int = 6, validation: int = 8, classes: int = 3, width: int = 4
) -> Evidence:
    total = n + labelled + validation
    scorer = Linear(normal(seed, total, width), normal(seed + 1, classes, width), normal(seed + 2, classes))
    labels = torch.randint(classes, (total,), generator=torch.Generator().manual_seed(seed))
    pool, known, held = torch.arange(total).split([n, labelled, validation])
    return Evidence(pool, known, labels[known], classes, scorer, validation_ids=held, validation_labels=labels[held])


def choose(pool: Evidence, k: int, seed: int = 0, lr: float = LR, refresh: int = 1) -> Query:
    return glister(pool, k, Generator().manual_seed(seed), lr=lr, refresh=refresh)


class Layer:
    """The last layer as one vector of parameters, (C·D + C,)."""

    def __init__(self, pool: Evidence) -> None:
        scorer = pool.scorer
        assert isinstance(scorer, Linear)
        self.shape = scorer.weight.shape
        self.at = torch.cat([scorer.weight.flatten(), scorer.bias])

    def loss(self, at: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        classes, width = self.shape
        weight, bias = at[: classes * width].view(self.shape), at[classes * width :]
        return F.cross_entropy(F.linear(features, weight, bias), labels, reduction="none")

    def gradient(self, features: Tensor, labels: Tensor, at: Tensor | None = None) -> Tensor:
        """Of the summed loss."""
        at = (self.at if at is None else at).clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(at, features, labels).sum(), at)
        return gradient


def plain(pool: Evidence, held: tuple[Tensor, Tensor], k: int, refresh: int = 1) -> tuple[list[int], list[float]]:
    """Greedy with a vector of all parameters for each image."""
    layer, labels = Layer(pool), pool.logits.argmax(1)
    each = [layer.gradient(pool.features[i : i + 1], labels[i : i + 1]) for i in range(len(pool))]
    at = layer.at - LR * layer.gradient(pool.labelled_features, pool.labels)
    rows: list[int] = []
    scores: list[float] = []
    while len(rows) < min(k, len(pool)):
        wanted = layer.gradient(*held, at) / len(held[1])
        gains = {i: float(g @ wanted) for i, g in enumerate(each) if i not in rows}
        for row in sorted(gains, key=lambda i: -gains[i])[: min(refresh, k - len(rows))]:
            rows.append(row)
            scores.append(gains[row])
            at = at - LR * each[row]
    return rows, scores


@given(seed=st.integers(0, 10**6), labelled=st.integers(0, 5), refresh=st.integers(1, 4), k=st.integers(1, 18))
@settings(deadline=None, max_examples=30)
def test_it_is_greedy_on_whole_gradients(seed: int, labelled: int, refresh: int, k: int) -> None:
    pool = evidence(seed, labelled=labelled)
    rows, scores = plain(pool, (pool.validation_features, pool.validation_labels), k, refresh)
    query = choose(pool, k, seed, refresh=refresh)
    assert query.rows.tolist() == rows
    assert query.scores.tolist() == pytest.approx(scores, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("labelled", [0, 6])
def test_without_validation_images_the_pool_as_predicted_and_the_labelled_ones_are_held_out(
    seed: int, labelled: int
) -> None:
    """As in DISTIL."""
    pool = evidence(seed, validation=0, labelled=labelled)
    features = torch.cat([pool.features, pool.labelled_features])
    labels = torch.cat([pool.logits.argmax(1), pool.labels])
    assert choose(pool, 6).rows.tolist() == plain(pool, (features, labels), 6)[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_score_is_the_rate_at_which_a_small_step_lowers_the_validation_loss(seed: int) -> None:
    pool, step = evidence(seed, labelled=0), 1e-6
    layer = Layer(pool)
    query = choose(pool, 15, lr=1e-12)

    def held(at: Tensor) -> float:
        return float(layer.loss(at, pool.validation_features, pool.validation_labels).mean())

    for row, score in zip(query.rows.tolist(), query.scores.tolist(), strict=True):
        gradient = layer.gradient(pool.features[row : row + 1], pool.logits[row : row + 1].argmax(1))
        assert (held(layer.at) - held(layer.at - step * gradient)) / step == pytest.approx(score, rel=1e-3, abs=1e-6)


def test_after_a_large_step_for_an_image_its_copy_is_worth_less() -> None:
    """The validation images are of class 0 and told apart by nothing else than the first step."""
    features = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 1.0]] + [[1.0, 0.4]] * 4).double()
    weight, bias = torch.tensor([[0.1, 0.1], [0.0, 0.0]]).double(), torch.zeros(2).double()
    none, ids = torch.zeros(0, dtype=torch.int64), torch.arange(7)
    held = {"validation_ids": ids[3:], "validation_labels": torch.zeros(4, dtype=torch.int64)}
    pool = Evidence(ids[:3], none, none, 2, Linear(features, weight, bias), **held)  # type: ignore[arg-type]
    small, large = choose(pool, 3, lr=1e-9), choose(pool, 3, lr=5.0)
    assert sorted(small.rows[:2].tolist()) == sorted(large.rows[:2].tolist()) == [0, 1]
    assert small.scores[1] == pytest.approx(float(small.scores[0]))
    assert large.scores[1] < 0.2 * large.scores[0]


def test_errors_and_moves_are_those_of_autograd() -> None:
    pool = evidence(0)
    gradient = Layer(pool).gradient(pool.labelled_features, pool.labels)
    weight, bias = gradient[:12].view(3, 4), gradient[12:]
    found = moved(errors(pool.labelled_logits, pool.labels), pool.labelled_features, pool.features)
    torch.testing.assert_close(found, F.linear(pool.features, weight, bias))


def test_of_equal_images_any_may_come_first() -> None:
    features = torch.ones(12, 3).double()
    scorer = Linear(features, torch.zeros(2, 3).double(), torch.zeros(2).double())
    none = torch.zeros(0, dtype=torch.int64)
    pool = Evidence(torch.arange(12), none, none, 2, scorer)
    assert len({int(choose(pool, 1, seed).rows) for seed in range(30)}) > 6
