"""Factored gradients against materialised ones: the same distances, and for the same uniforms the same picks.

N images, C classes, D features, g the gradient of the last layer at the predicted label, (C·D,).
"""

import math
from collections import Counter
from itertools import accumulate

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kdal_cli.samplers._select import shuffled
from kdal_cli.samplers.badge import badge, residuals


def rng(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def answers(seed: int, n: int, classes: int = 4, width: int = 3) -> tuple[Tensor, Tensor]:
    return 2 * torch.randn(n, classes, generator=rng(seed)), torch.randn(n, width, generator=rng(seed + 1))


def materialised(logits: Tensor, features: Tensor) -> Tensor:
    """(N, C·D) in float64, by automatic differentiation through a last layer."""
    rows = []
    for answer, feature in zip(logits.double(), features.double(), strict=True):
        weight = torch.zeros(len(answer), len(feature), dtype=torch.float64, requires_grad=True)
        F.cross_entropy(answer + weight @ feature, answer.argmax()).backward()
        rows.append(weight.grad.flatten())
    return torch.stack(rows)


def plain_kmeans_plus_plus(g: Tensor, k: int, uniforms: Generator) -> tuple[list[int], list[float]]:
    """On whole gradients, with one uniform number a pick after the first, inverted by a running sum."""
    rows = [int(g.norm(dim=1).argmax())]
    scores = [float(g.square().sum(1)[rows[0]])]
    for _ in range(k - 1):
        weights = torch.stack([(g - g[row]).square().sum(1) for row in rows]).min(0).values.tolist()
        point = float(torch.rand((), generator=uniforms, dtype=torch.float64)) * math.fsum(weights)
        row = next(row for row, running in enumerate(accumulate(weights)) if running > point)
        rows.append(row)
        scores.append(weights[row])
    return rows, scores


def test_a_residual_is_the_gradient_of_cross_entropy_at_the_predicted_label() -> None:
    logits = answers(0, 6)[0].double().requires_grad_()
    F.cross_entropy(logits, logits.argmax(1), reduction="sum").backward()
    torch.testing.assert_close(residuals(logits.detach()), logits.grad)


@pytest.mark.parametrize("seed", range(6))
def test_the_picks_are_those_of_k_means_plus_plus_on_whole_gradients(seed: int, make_pool) -> None:
    logits, features = answers(seed, 25)
    query = badge(make_pool(logits, features), 8, rng(seed))
    uniforms = rng(seed)
    order = shuffled(torch.arange(25), uniforms)
    rows, scores = plain_kmeans_plus_plus(materialised(logits, features)[order], 8, uniforms)
    assert query.rows.tolist() == order[rows].tolist()
    assert query.scores.tolist() == pytest.approx(scores, rel=1e-9)


def test_the_second_pick_comes_in_proportion_to_the_squared_distance(make_pool) -> None:
    logits, features = answers(7, 6)
    g = materialised(logits, features)
    pool = make_pool(logits, features)
    first = int(g.norm(dim=1).argmax())
    share = (g - g[first]).square().sum(1) / (g - g[first]).square().sum()
    counts = Counter(int(badge(pool, 2, rng(seed)).rows[1]) for seed in range(3000))
    for row in range(6):
        error = math.sqrt(3000 * float(share[row]) * (1 - float(share[row])))
        assert abs(counts[row] - 3000 * float(share[row])) <= 5 * error
    assert counts[first] == 0


def test_a_sure_image_and_its_copies_come_last(make_pool) -> None:
    """Gradients of the sure are zero, and no k-means needs two centres in one place."""
    logits, features = answers(8, 6)
    sure = torch.tensor([[1e4, 0.0, 0.0, 0.0]]).repeat(4, 1)
    pool = make_pool(torch.cat([sure, logits]), torch.cat([features[:4], features]))
    query = badge(pool, 10, rng(0))
    assert sorted(query.rows[:7].tolist())[1:] == [4, 5, 6, 7, 8, 9]
    assert query.scores[7:].tolist() == [0, 0, 0]
