"""Two sets of features: a closed form, and how often a test errs."""

import math

import pytest
import torch

from kdal_cli.metrics.drift import mmd


def drawn(seed: int, shift: float = 0.0, n: int = 60) -> torch.Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)) + shift


def compared(one: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    return mmd(one, other, torch.Generator().manual_seed(0), 99)


def test_two_points_each_have_a_closed_form() -> None:
    one, other = torch.tensor([[0.0], [0.0]]), torch.tensor([[2.0], [2.0]])
    value, _ = compared(one, other)
    assert value == pytest.approx(2 - 2 * math.exp(-0.5))


def test_images_that_moved_are_seen_and_others_rarely() -> None:
    assert compared(drawn(0), drawn(1, shift=0.8))[1] == 0.01
    errors = sum(compared(drawn(2 * n), drawn(2 * n + 1))[1] <= 0.05 for n in range(40))
    assert errors <= 6  # 2 are expected; more than 6 of 40 come once in 300 times


def test_equal_sets_are_no_drift_and_the_sides_may_be_of_any_size() -> None:
    same = torch.zeros(5, 3)
    assert compared(same, torch.zeros(9, 3)) == (pytest.approx(0), 1.0)
    with pytest.raises(ValueError, match="two images"):
        compared(same, same[:1])
