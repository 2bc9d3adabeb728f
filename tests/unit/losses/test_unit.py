"""Vectors of length 1, and those that have no direction."""

import math

import pytest
import torch

from kdal_cli.metrics.directions import unit


def test_every_vector_of_the_last_axis_is_divided_by_its_length() -> None:
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [[[v / math.hypot(*row) for v in row] for row in table] for table in x.tolist()]
    torch.testing.assert_close(unit(x), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-20, 1e-13, 1e-11, 1e-6, 1e4, 1e18])
def test_value_and_gradient_are_finite_at_every_length(size: float, dtype: torch.dtype) -> None:
    x = torch.full((1, 4), size, dtype=dtype, requires_grad=True)
    value = unit(x)
    (value * torch.tensor([1, -2, 3, 0.5])).sum().backward()
    assert x.grad.isfinite().all()
    short = size * 2 < 1e-12
    assert torch.equal(value, torch.zeros_like(value)) if short else value.norm().item() == pytest.approx(1)
    assert (x.grad == 0).all() == short


def test_the_derivative_is_that_of_finite_differences() -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(unit, x.requires_grad_())
