"""Calibration error against a loop over bins, hand-computed values and laws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdal_cli.metrics.calibration import ece, reliability

laws = settings(max_examples=60, deadline=None)


def logits_of(probs: list[list[float]]) -> Tensor:
    return torch.tensor(probs, dtype=torch.float64).log()


def ece_by_loop(logits: Tensor, labels: Tensor, bins: int) -> float:
    """Guo et al. 2017, as their reference code walks it: bin by bin, (low, high]."""
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            gap = (predicted[inside] == labels[inside]).double().mean() - confidence[inside].mean()
            total += float(inside.double().mean() * gap.abs())
    return total


def test_by_hand() -> None:
    logits = logits_of([[0.9, 0.1], [0.7, 0.3], [0.35, 0.65], [0.05, 0.95]])
    labels = torch.tensor([0, 1, 1, 1])  # right, wrong, right, right
    confidence, accuracy, count = reliability(logits, labels, bins=5)
    assert count.tolist() == [0, 0, 0, 2, 2]
    assert confidence.tolist() == pytest.approx([0, 0, 0, 0.675, 0.925])
    assert accuracy.tolist() == [0, 0, 0, 0.5, 1]
    assert ece(logits, labels, bins=5) == pytest.approx(0.5 * 0.175 + 0.5 * 0.075)


def test_a_bin_is_closed_on_the_right() -> None:
    logits = torch.zeros(1, 2)  # confidence 0.5, the edge between the two bins
    assert reliability(logits, torch.tensor([0]), bins=2)[2].tolist() == [1, 0]
    assert reliability(torch.zeros(1, 1), torch.tensor([0]), bins=2)[2].tolist() == [0, 1]  # confidence 1


@laws
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 6), st.integers(1, 30))
def test_the_loop_agrees(seed: int, images: int, classes: int, bins: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, generator=rng) * 3
    labels = torch.randint(classes, (images,), generator=rng)
    assert ece(logits, labels, bins) == pytest.approx(ece_by_loop(logits, labels, bins), abs=1e-12)


@laws
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 30))
def test_reliability_accounts_for_every_image(seed: int, images: int, bins: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits, labels = torch.randn(images, 4, generator=rng) * 3, torch.randint(4, (images,), generator=rng)
    confidence, accuracy, count = reliability(logits, labels, bins)
    assert confidence.shape == accuracy.shape == count.shape == (bins,)
    assert count.sum() == images
    mean = logits.double().softmax(dim=1).amax(dim=1).mean()
    assert float((confidence * count).sum() / images) == pytest.approx(float(mean))
    held = count > 0
    above = torch.arange(1, bins + 1) / bins + 1e-6
    assert (confidence[held] <= above[held]).all()


def test_always_sure_and_always_wrong_is_one() -> None:
    logits = torch.tensor([[1e4, -1e4]]).expand(8, 2)
    assert ece(logits, torch.ones(8).long()) == 1
    assert ece(logits, torch.zeros(8).long()) == 0


def test_chance_that_knows_it_is_calibrated() -> None:
    assert ece(torch.zeros(40, 4), torch.arange(40) % 4) == pytest.approx(0, abs=1e-12)


def test_no_bins_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one bin"):
        ece(torch.zeros(1, 2), torch.zeros(1).long(), bins=0)
