"""Margin, entropy and least confidence against their naive forms in NumPy float64, and what they must agree on.

N images, C classes, p = softmax of the logits.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Generator, Tensor

from kdal_cli.samplers.entropy import entropy, entropy_score
from kdal_cli.samplers.least_confidence import least_confidence, least_confidence_score
from kdal_cli.samplers.margin import margin, margin_score

Score = Callable[[Tensor], Tensor]
SCORES = {"margin": margin_score, "entropy": entropy_score, "least_confidence": least_confidence_score}
every_score = pytest.mark.parametrize("name", SCORES)
pools = st.tuples(st.integers(1, 5), st.integers(2, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-20, 20))
)


def naive(name: str, logits: np.ndarray) -> np.ndarray:
    """The formulas of the papers, straight from the probabilities."""
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ranked = np.sort(probs, axis=1)
    return {
        "margin": -(ranked[:, -1] - ranked[:, -2]),
        "entropy": -(probs * np.log(probs)).sum(1),
        "least_confidence": 1 - ranked[:, -1],
    }[name]


@every_score
@given(logits=pools)
@settings(deadline=None, max_examples=60)
def test_the_score_is_the_one_of_the_paper(name: str, logits: np.ndarray) -> None:
    score = SCORES[name](torch.from_numpy(logits))
    assert score.dtype == torch.float64
    np.testing.assert_allclose(score.numpy(), naive(name, logits), rtol=1e-9, atol=1e-14)


@given(logits=pools)
@settings(deadline=None, max_examples=60)
def test_each_score_stays_within_its_bounds(logits: np.ndarray) -> None:
    classes = logits.shape[1]
    bounds = {"margin": (-1, 0), "entropy": (0, math.log(classes)), "least_confidence": (0, 1 - 1 / classes)}
    for name, (low, high) in bounds.items():
        score = SCORES[name](torch.from_numpy(logits))
        assert ((score >= low) & (score <= high + 1e-12)).all(), name


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_the_bounds_are_reached_by_the_uniform_and_by_the_certain(classes: int) -> None:
    uniform, certain = torch.zeros(1, classes), torch.zeros(1, classes)
    certain[0, 1] = 1e4
    highest = {"margin": 0.0, "entropy": math.log(classes), "least_confidence": 1 - 1 / classes}
    lowest = {"margin": -1.0, "entropy": 0.0, "least_confidence": 0.0}
    for name, score in SCORES.items():
        assert score(uniform).item() == pytest.approx(highest[name], abs=1e-12)
        assert score(certain).item() == pytest.approx(lowest[name], abs=1e-12)


@every_score
def test_more_doubt_is_a_higher_score(name: str) -> None:
    """Logits (0, −g, −g): the wider the gap g, the surer the answer."""
    gaps = torch.arange(0.0, 12.0, 0.5)
    logits = torch.stack([torch.zeros(len(gaps)), -gaps, -gaps], 1)
    assert (SCORES[name](logits).diff() < 0).all()


@given(logits=arrays(np.float64, (6, 2), elements=st.floats(-15, 15).map(lambda z: round(z, 3))))
@settings(deadline=None, max_examples=40)
def test_of_two_classes_all_three_order_the_images_alike(logits: np.ndarray) -> None:
    """There each is an increasing function of −|z₀ − z₁|."""
    doubt = -np.abs(logits[:, 0] - logits[:, 1])
    for name, score in SCORES.items():
        ordered = score(torch.from_numpy(logits)).numpy()[np.argsort(doubt)]
        assert (np.diff(ordered) >= -1e-12).all(), name


@pytest.mark.parametrize("name", ["entropy", "least_confidence"])
def test_sure_images_still_have_an_order(name: str) -> None:
    """1 − max p is 0 from a gap of 37 on where it is subtracted; summed over the others it is not."""
    logits = torch.tensor([[0.0, -60.0], [0.0, -50.0], [0.0, -70.0]])
    assert SCORES[name](logits).argsort(descending=True).tolist() == [1, 0, 2]


@every_score
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_score_is_computed_in_float64_from_whatever_precision(name: str, dtype: torch.dtype) -> None:
    logits = (4 * torch.randn(50, 10, generator=torch.Generator().manual_seed(1))).to(dtype)
    assert torch.equal(SCORES[name](logits), SCORES[name](logits.double()))


@every_score
def test_a_constant_added_to_an_images_logits_changes_nothing(name: str) -> None:
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moved = SCORES[name](logits + torch.linspace(-300, 300, 20)[:, None])
    torch.testing.assert_close(moved, SCORES[name](logits), rtol=0, atol=1e-12)


@every_score
def test_the_order_of_the_classes_does_not_matter(name: str) -> None:
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    shuffled = SCORES[name](logits[:, [3, 0, 4, 1, 2]])
    torch.testing.assert_close(shuffled, SCORES[name](logits), rtol=0, atol=1e-14)


def test_one_class_alone_leaves_nothing_to_doubt() -> None:
    logits = torch.tensor([[3.0], [-2.0]])
    assert margin_score(logits).tolist() == [-1, -1]
    assert entropy_score(logits).tolist() == [0, 0]
    assert least_confidence_score(logits).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("sampler", "name"), [(margin, "margin"), (entropy, "entropy"), (least_confidence, "least_confidence")]
)
def test_a_sampler_takes_the_highest_scores_in_their_order(sampler, name: str, make_pool, rng: Generator) -> None:
    logits = torch.randn(40, 4, generator=torch.Generator().manual_seed(4))
    query = sampler(make_pool(logits), 7, rng)
    score = naive(name, logits.double().numpy())
    best = np.argsort(-score)[:7]
    assert query.rows.tolist() == best.tolist()
    np.testing.assert_allclose(query.scores.numpy(), score[best], rtol=1e-9)
