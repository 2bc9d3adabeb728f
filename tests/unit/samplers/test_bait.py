"""BAIT against matrices that are built and inverted whole: every gain, every pick, every image taken away again.

N images, M labelled, C classes, D features.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.errors import UserError
from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import shuffled
from kdal_cli.samplers import _fisher as module
from kdal_cli.samplers import bait as sampler_module
from kdal_cli.samplers._fisher import Design, Fisher, curvature, information
from kdal_cli.samplers.bait import bait, greedy
from kdal_cli.types import Query

both = pytest.mark.parametrize("fisher", ["full", "binary"])


class Known:
    """A scorer that knows every answer beforehand."""

    def __init__(self, logits: Tensor, features: Tensor) -> None:
        self.answers, self.features = logits, features

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.answers[ids], self.features[ids]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(seed: int, n: int, classes: int = 3, width: int = 4) -> tuple[Tensor, Tensor]:
    """Logits (N, C), features (N, D)."""
    return 2 * normal(seed, n, classes), normal(seed + 1, n, width)


def choose(logits: Tensor, features: Tensor, k: int, labelled: int, seed: int = 0, **settings: object) -> Query:
    """From all but the last `labelled` images."""
    n, ids = len(logits) - labelled, torch.arange(len(logits))
    scorer = Known(logits, features)
    pool = Evidence(ids[:n], ids[n:], torch.zeros(labelled), logits.shape[1], scorer)  # type: ignore[arg-type]
    return bait(pool, k, Generator().manual_seed(seed), **settings)  # type: ignore[arg-type]


def whole(logits: Tensor, features: Tensor, fisher: Fisher) -> list[Tensor]:
    """The Fisher information of each image: the mean of g gᵀ over labels, g the gradient of all weights by autograd."""
    return [_of_one(answer, z, fisher) for answer, z in zip(logits, features, strict=True)]


def _of_one(answer: Tensor, z: Tensor, fisher: Fisher) -> Tensor:
    if fisher == "binary":
        most = answer.softmax(0).max()
        answer = torch.stack([most.log() - (1 - most).log()])  # the logit of one sigmoid
    weight = torch.zeros(len(answer), len(z), dtype=torch.float64, requires_grad=True)
    logits = answer + weight @ z
    log_probs = F.logsigmoid(torch.cat([logits, -logits])) if fisher == "binary" else logits.log_softmax(0)
    gradients = [torch.autograd.grad(each, weight, retain_graph=True)[0].flatten() for each in log_probs]
    terms = zip(log_probs.detach().exp(), gradients, strict=True)
    return torch.stack([p * torch.outer(g, g) for p, g in terms]).sum(0)


def trace(m: Tensor, target: Tensor) -> float:
    return float((torch.linalg.inv(m) @ target).trace())


def plain(
    fishers: list[Tensor], labelled: list[Tensor], k: int, ridge: float, oversample: int
) -> tuple[list[int], list[float]]:
    """Forward and backward greedy, with an inverse for every image at every step."""
    zero = torch.zeros_like(fishers[0])
    target = sum(fishers + labelled, zero) / len(fishers + labelled)
    share = 1 / (len(labelled) + k)
    m = ridge * torch.eye(len(zero)).double() + sum(labelled, zero) * share
    fishers = [each * k * share for each in fishers]
    chosen: dict[int, float] = {}
    while len(chosen) < min(oversample * k, len(fishers)):
        fall = {i: trace(m, target) - trace(m + each, target) for i, each in enumerate(fishers) if i not in chosen}
        best = max(fall, key=lambda i: fall[i])
        chosen[best] = fall[best]
        m = m + fishers[best]
    while len(chosen) > k:
        worst = min(chosen, key=lambda i: trace(m - fishers[i], target))
        del chosen[worst]
        m = m - fishers[worst]
    return list(chosen), list(chosen.values())


@both
@pytest.mark.parametrize("chunk", [2, 1024])
def test_curvature_and_features_make_the_fisher_information(
    fisher: Fisher, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    logits, features = problem(0, 5)
    curves = curvature(logits, fisher)
    for i, expected in enumerate(whole(logits, features, fisher)):
        torch.testing.assert_close(information(curves[i : i + 1], features[i : i + 1]), expected)
    torch.testing.assert_close(information(curves, features), sum(whole(logits, features, fisher)))


@both
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 4), width=st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_a_gain_is_what_the_trace_loses_at_any_time(fisher: Fisher, seed: int, classes: int, width: int) -> None:
    logits, features = problem(seed, 7, classes, width)
    curves, fishers = curvature(logits, fisher), whole(logits, features, fisher)
    m = 0.1 * torch.eye(len(fishers[0])).double()
    target = sum(fishers, torch.zeros_like(m)) / 7
    design = Design(m.clone(), target, curves, features)
    for row, sign in [(0, 1), (3, 1), (5, 1), (3, -1), (2, 1), (0, -1)]:
        expected = [trace(m, target) - trace(m + each, target) for each in fishers]
        torch.testing.assert_close(design.gain(1), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-8)
        expected = trace(m, target) - trace(m + sign * fishers[row], target)
        assert float(design.gain(sign)[row]) == pytest.approx(expected, rel=1e-6, abs=1e-8)
        design.change(row, sign)
        m = m + sign * fishers[row]


@both
@pytest.mark.parametrize("oversample", [1, 2, 3])
@pytest.mark.parametrize("labelled", [0, 5])
@pytest.mark.parametrize("seed", range(3))
def test_the_query_is_that_of_forward_and_backward_greedy(
    fisher: Fisher, oversample: int, labelled: int, seed: int
) -> None:
    logits, features = problem(seed, 12 + labelled)
    fishers = whole(logits, features, fisher)
    rows, gains = plain(fishers[:12], fishers[12:], 4, 0.1, oversample)
    query = choose(logits, features, 4, labelled, seed, fisher=fisher, ridge=0.1, oversample=oversample)
    assert query.rows.tolist() == rows
    assert query.scores.tolist() == pytest.approx(gains, rel=1e-6)


def test_more_than_there_are_is_everything_in_the_order_of_greed() -> None:
    logits, features = problem(3, 6)
    rows, gains = plain(whole(logits, features, "full"), [], 6, 0.01, 1)
    query = choose(logits, features, 100, 0)
    assert query.rows.tolist() == rows
    assert query.scores.tolist() == pytest.approx(gains, rel=1e-6)


def test_what_is_labelled_already_is_worth_less() -> None:
    """Two directions of features, one labelled often: the pool needs the other as much, and lacks it more."""
    features = torch.eye(2).double().repeat_interleave(3, 0)  # (6, D)
    known = torch.tensor([[1.0, 0.0]] * 4).double()
    logits = torch.zeros(10, 2).double()
    for fisher in ("full", "binary"):
        for seed in range(5):
            rows = choose(logits, torch.cat([features, known]), 1, 4, seed, fisher=fisher, oversample=1).rows
            assert int(rows) >= 3


@both
def test_of_equal_images_the_first_in_a_random_order_are_kept(fisher: Fisher) -> None:
    logits, features = torch.zeros(8, 3).double(), torch.ones(8, 2).double()
    for seed in range(10):
        query = choose(logits, features, 3, 0, seed, fisher=fisher)
        assert query.rows.tolist() == shuffled(torch.arange(8), Generator().manual_seed(seed))[:3].tolist()


class Fixed:
    """A design whose gains are given and do not change."""

    def __init__(self, gains: list[float]) -> None:
        self.gains = torch.tensor(gains, dtype=torch.float64)

    def gain(self, sign: int) -> Tensor:
        return self.gains.clone()

    def change(self, row: int, sign: int) -> None:
        pass


@pytest.mark.parametrize("base", [1.0, -1.0])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_gains_that_differ_by_rounding_are_equal_and_others_are_not(base: float, scale: float) -> None:
    gains = [scale * (base + more) for more in (0, 1e-12, 1e-6)]
    rows, found = greedy(Fixed(gains), 3, 1)  # type: ignore[arg-type]
    assert rows == [2, 0, 1]
    assert found == [gains[row] for row in rows]


def test_sure_images_are_worth_nothing() -> None:
    logits, features = problem(5, 6)
    logits[::2] = torch.tensor([1e4, 0.0, 0.0]).double()
    query = choose(logits, features, 6, 0)
    assert sorted(query.rows[:3].tolist()) == [1, 3, 5]
    assert query.scores[3:].tolist() == [0, 0, 0]


def test_what_cannot_be_held_is_refused_with_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, features = problem(0, 20, 5, 6)
    numbers = 4 * 30**2 + 6 * 20 * 25
    monkeypatch.setattr(sampler_module, "MOST", numbers)
    choose(logits, features, 3, 0)
    monkeypatch.setattr(sampler_module, "MOST", numbers - 1)
    with pytest.raises(
        UserError,
        match=rf"20 candidates, 5 classes and 6 features.* {numbers:,} numbers.*binary or .*takes 19 candidates",
    ):
        choose(logits, features, 3, 0)
    assert len(choose(logits, features, 3, 0, fisher="binary").rows) == 3
