"""Factored gradients against materialised ones: the same distances, for the same uniforms the same picks, and the
same distribution of the draws however they are made.

N images, C classes, D features, P chosen, g the gradient of the last layer at the predicted label, (C·D,).
"""

import math
from collections import Counter
from itertools import accumulate, permutations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdal_cli.inference.ranking import shuffled
from kdal_cli.samplers import badge as module
from kdal_cli.samplers.badge import Gradients, badge, kmeans_plus_plus, residuals

both_ways = pytest.mark.parametrize("sequential", [False, True])


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


def test_of_a_saturated_softmax_the_residual_still_has_its_digits() -> None:
    """p − 1 is 0 there, and Σ a = 0 would be lost."""
    logits = torch.tensor([[0.0, -50.0, -60.0]], dtype=torch.float64)
    expected = [-math.exp(-50) - math.exp(-60), math.exp(-50), math.exp(-60)]
    assert residuals(logits)[0].tolist() == pytest.approx(expected, rel=1e-12, abs=0)


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 30),
    classes=st.integers(2, 7),
    width=st.integers(1, 9),
    p=st.integers(1, 9),
)
@settings(max_examples=60)
def test_distances_are_those_of_whole_gradients(seed: int, n: int, classes: int, width: int, p: int) -> None:
    """Within the rounding of float64; and a bound is above them, within the rounding of float32."""
    logits, features = answers(seed, n, classes, width)
    rows = torch.randint(n, (p,), generator=rng(seed))
    gradients, g = Gradients(logits, features), materialised(logits, features)
    apart = (g[:, None] - g[rows]).square().sum(2)  # (N, P)
    scale = float(g.square().sum(1).max())
    torch.testing.assert_close(gradients.sizes, g.square().sum(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients.distance(torch.arange(n), rows), apart, rtol=0, atol=1e-13 * scale)
    torch.testing.assert_close(gradients.nearest(rows), apart.amin(1), rtol=0, atol=1e-13 * scale)
    assert (gradients.bound(rows) >= apart.amin(1)).all()
    assert (gradients.bound(rows) <= apart.amin(1) + 1e-5 * scale).all()


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 30),
    p=st.integers(1, 4),
    spread=st.sampled_from([0.0, 1e-6, 1.0, 1e12, 1e25]),
    chunk=st.sampled_from([3, 1024]),
)
@settings(max_examples=80, deadline=None)
def test_what_is_nearer_is_told_in_float32_only_where_that_is_sure(
    seed: int, n: int, p: int, spread: float, chunk: int
) -> None:
    """Copies, features of a thousand sizes, and those whose squares float32 cannot hold."""
    logits, features = answers(seed, n)
    features = features * 10 ** (torch.rand(n, 1, generator=rng(seed)) * 3) * (spread or 1.0)
    logits, features = (torch.cat([x, x[: n // 2]]) for x in (logits, features))
    gradients = Gradients(logits, features)
    rows, last = (torch.randint(len(logits), (size,), generator=rng(seed + size)) for size in (p, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        before = gradients.nearest(rows)
        found = gradients.nearer(before, last)
    expected = torch.minimum(before, gradients.nearest(last))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13 * float(gradients.sizes.max()))
    assert torch.equal(gradients.nearer(torch.full_like(before, torch.inf), last).isfinite(), expected.isfinite())


def test_copies_lie_at_exactly_zero() -> None:
    logits, features = answers(3, 40, 10, 64)
    gradients = Gradients(logits.repeat(2, 1), features.repeat(2, 1))
    rows = torch.arange(40)
    assert gradients.distance(rows, rows + 40).diagonal().eq(0).all()


@pytest.mark.parametrize("seed", range(6))
def test_the_picks_are_those_of_k_means_plus_plus_on_whole_gradients(seed: int, make_pool) -> None:
    logits, features = answers(seed, 25)
    query = badge(make_pool(logits, features), 8, rng(seed), sequential=True)
    uniforms = rng(seed)
    order = shuffled(torch.arange(25), uniforms)
    rows, scores = plain_kmeans_plus_plus(materialised(logits, features)[order], 8, uniforms)
    assert query.rows.tolist() == order[rows].tolist()
    assert query.scores.tolist() == pytest.approx(scores, rel=1e-9)


@both_ways
def test_the_score_is_the_squared_distance_to_the_nearest_before(sequential: bool, make_pool) -> None:
    logits, features = answers(11, 60)
    g = materialised(logits, features)
    query = badge(make_pool(logits, features), 30, rng(1), sequential=sequential)
    assert float(query.scores[0]) == pytest.approx(float(g.square().sum(1).max()))
    for i, row in enumerate(query.rows[1:], 1):
        assert float(query.scores[i]) == pytest.approx(float((g[row] - g[query.rows[:i]]).square().sum(1).min()))


def probability(g: Tensor, rows: tuple[int, ...]) -> float:
    """That k-means++ draws these, in this order, after the largest gradient."""
    chosen, product = [int(g.norm(dim=1).argmax())], 1.0
    for row in rows:
        nearest = torch.stack([(g - g[c]).square().sum(1) for c in chosen]).min(0).values
        product *= float(nearest[row] / nearest.sum())
        chosen.append(row)
    return product


@pytest.mark.parametrize(("tries", "loose"), [(512, 1), (3, 1), (3, 2.5), (1, None)], ids=str)
def test_every_order_of_rows_comes_as_often_as_k_means_plus_plus_draws_it(
    tries: int, loose: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chi-square over the 24 orders of 3 rows after the first; its quantile of 0.9999 is 57.4.

    However many are proposed at a time, and however loose the bound is that proposes them; None: sequentially.
    """
    monkeypatch.setattr(module, "TRIES", tries)
    logits, features = answers(7, 5)
    gradients, g = Gradients(logits, features), materialised(logits, features)
    if loose is not None:
        tight = gradients.bound
        monkeypatch.setattr(gradients, "bound", lambda rows: loose * tight(rows) + (loose - 1))
    first, times, uniforms = int(g.norm(dim=1).argmax()), 800, rng(5)
    counts: Counter[tuple[int, ...]] = Counter()
    for _ in range(times):
        query = kmeans_plus_plus(gradients, 4, torch.arange(5), uniforms, sequential=loose is None)
        counts[tuple(query.rows.tolist()[1:])] += 1
    expected = {rows: times * probability(g, rows) for rows in permutations({0, 1, 2, 3, 4} - {first}, 3)}
    assert sum(expected.values()) == pytest.approx(times)
    assert counts.keys() <= expected.keys()
    common = [rows for rows, mean in expected.items() if mean >= 5]
    seldom = (
        sum(mean for mean in expected.values() if mean < 5),
        sum(counts[r] for r in expected if r not in common),
    )
    chi_square = sum((counts[rows] - expected[rows]) ** 2 / expected[rows] for rows in common)
    assert len(common) > 15
    assert chi_square < 57.4
    assert abs(seldom[1] - seldom[0]) <= 5 * math.sqrt(seldom[0]) + 5


def test_of_a_thousand_images_no_more_than_a_few_passes_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, features = answers(2, 1000, 10, 32)
    gradients, passes = Gradients(logits, features), []
    bound = gradients.bound
    monkeypatch.setattr(gradients, "bound", lambda rows: passes.append(len(rows)) or bound(rows))
    query = kmeans_plus_plus(gradients, 300, torch.arange(1000), rng(0))
    assert len(query.rows.unique()) == 300
    assert len(passes) <= 8


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest tensor has that is computed."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


@both_ways
def test_no_tensor_is_larger_than_the_logits_or_the_features(sequential: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 16)
    monkeypatch.setattr(module, "TRIES", 20)
    logits, features = answers(4, 500, 12, 15)
    with Largest() as largest:
        kmeans_plus_plus(Gradients(logits, features), 25, torch.arange(500), rng(0), sequential=sequential)
    assert largest.numbers <= 500 * 15


@both_ways
def test_the_second_pick_comes_in_proportion_to_the_squared_distance(sequential: bool, make_pool) -> None:
    logits, features = answers(7, 6)
    g = materialised(logits, features)
    pool = make_pool(logits, features)
    first = int(g.norm(dim=1).argmax())
    share = (g - g[first]).square().sum(1) / (g - g[first]).square().sum()
    counts = Counter(int(badge(pool, 2, rng(seed), sequential=sequential).rows[1]) for seed in range(800))
    for row in range(6):
        error = math.sqrt(800 * float(share[row]) * (1 - float(share[row])))
        assert abs(counts[row] - 800 * float(share[row])) <= 5 * error
    assert counts[first] == 0


@both_ways
def test_a_sure_image_and_its_copies_come_last(sequential: bool, make_pool) -> None:
    """Gradients of the sure are zero, and no k-means needs two centres in one place."""
    logits, features = answers(8, 6)
    sure = torch.tensor([[1e4, 0.0, 0.0, 0.0]]).repeat(4, 1)
    pool = make_pool(torch.cat([sure, logits]), torch.cat([features[:4], features]))
    query = badge(pool, 10, rng(0), sequential=sequential)
    assert sorted(query.rows[:7].tolist())[1:] == [4, 5, 6, 7, 8, 9]
    assert query.scores[7:].tolist() == [0, 0, 0]


@both_ways
@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_when_only_copies_are_left_they_come_in_an_order_of_their_own(
    sequential: bool, scale: float, make_pool
) -> None:
    """However small the gradients are: no rounding of what is large is taken for a distance."""
    logits, features = answers(9, 5, 4, 40)
    pool = make_pool(logits.repeat(30, 1), scale * features.repeat(30, 1))
    queries = [badge(pool, 150, rng(seed), sequential=sequential) for seed in range(3)]
    for query in queries:
        assert sorted(row % 5 for row in query.rows[:5].tolist()) == [0, 1, 2, 3, 4]
        assert query.scores[5:].eq(0).all()
        assert sorted(query.rows.tolist()) == list(range(150))
    assert len({tuple(query.rows[5:].tolist()) for query in queries}) == 3


def test_gradients_too_small_for_float32_are_told_apart_all_the_same(make_pool) -> None:
    """p of the second class from e⁻⁶⁵ to e⁻⁶⁰: its square is 0 in float32."""
    logits = torch.stack([torch.zeros(6), -60 - torch.arange(6.0), torch.full((6,), -500.0)], 1)
    pool = make_pool(logits, torch.eye(6))
    draws = Counter(int(badge(pool, 2, rng(seed)).rows[1]) for seed in range(200))
    weight = logits[:, 1].double().mul(2).exp()  # ‖g‖² of all but the first is its own, and so is the rest of D²
    apart = weight + weight[0]
    assert badge(pool, 6, rng(0)).scores[1:].gt(0).all()
    for row in range(1, 6):
        share = float(apart[row] / apart[1:].sum())
        assert abs(draws[row] - 200 * share) <= 5 * math.sqrt(200 * share)
