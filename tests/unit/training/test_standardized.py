"""Standardised logits: mean 0 and deviation 1 over the classes, and what a loss no longer sees of them.

z logits, s student, t teacher, B batch, C classes.
"""

import math
import statistics
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from kdal_cli.compose.loss import plan_loss
from kdal_cli.dataset import Shape
from kdal_cli.losses.kd import kd, kd_loss
from kdal_cli.training.objective import Part, standardized
from kdal_cli.types import Batch, Output

BATCH = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def random_logits(seed: int, batch: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_each_logit_is_taken_from_the_mean_of_its_row_in_units_of_the_unbiased_deviation() -> None:
    z = random_logits(0)
    expected = [[(x - statistics.mean(row)) / (statistics.stdev(row) + 1e-7) for x in row] for row in z.tolist()]
    torch.testing.assert_close(standardized(z), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_torchdistill_standardises_alike_and_has_the_same_divergence() -> None:
    peer = pytest.importorskip("torchdistill.losses.mid_level")
    theirs = peer.LogitStdKDLoss("s", "output", "t", "output", temperature=2.0, beta=9.0)
    student, teacher = random_logits(1), random_logits(2)
    torch.testing.assert_close(standardized(student), theirs.standardize(student), rtol=1e-12, atol=1e-12)
    divergence = theirs({"s": {"output": student}}, {"t": {"output": teacher}})
    ours = kd_loss(standardized(student), standardized(teacher), 2.0).mean()
    torch.testing.assert_close(ours, 4 * divergence, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("a", "b"), [(1.0, 100.0), (7.0, 0.0), (0.03, -5.0), (1e3, 1e3)])
def test_it_is_unchanged_under_a_positive_affine_map_but_for_the_constant_in_the_divisor(a: float, b: float) -> None:
    z = random_logits(3)
    torch.testing.assert_close(standardized(a * z + b), standardized(z), rtol=1e-5, atol=0)
    exact = standardized(z) * (1 + 1e-7 / z.std(1, keepdim=True))
    rescaled = standardized(a * z + b) * (1 + 1e-7 / (a * z.std(1, keepdim=True)))
    torch.testing.assert_close(rescaled, exact, rtol=1e-10, atol=1e-10)


def test_a_negative_factor_turns_it_round() -> None:
    z = random_logits(4)
    torch.testing.assert_close(standardized(-z), -standardized(z))


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_its_mean_is_zero_its_deviation_one_and_its_largest_logit_bounded_by_the_classes(classes: int) -> None:
    """One class against C − 1 equal ones is the most extreme: (C − 1)/√C."""
    z = standardized(random_logits(5, classes=classes))
    torch.testing.assert_close(z.mean(1), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(z.std(1), torch.ones(5, dtype=torch.float64), rtol=1e-5, atol=0)
    peak = standardized(1e4 * torch.eye(classes, dtype=torch.float64))
    torch.testing.assert_close(peak.max(), torch.tensor((classes - 1) / math.sqrt(classes), dtype=torch.float64))
    assert (z.abs() <= (classes - 1) / math.sqrt(classes)).all()


def test_its_gradient_has_no_part_along_a_shift_and_next_to_none_along_the_logits() -> None:
    """The direction of a map that changes nothing is one in which no gradient points."""
    z = random_logits(6).requires_grad_()
    (standardized(z) * random_logits(7)).sum().backward()
    torch.testing.assert_close(z.grad.sum(1), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)
    along = (z.grad * z.detach()).sum(1)
    torch.testing.assert_close(along, torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-5)


def test_the_derivative_agrees_with_finite_differences() -> None:
    assert torch.autograd.gradcheck(standardized, random_logits(8, 3, 4).requires_grad_())


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_large_logits_in_float32_have_a_finite_gradient(scale: float) -> None:
    z = (scale * torch.eye(4)).requires_grad_()
    value = standardized(z)
    value.square().sum().backward()
    assert value.isfinite().all()
    assert z.grad is not None
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [3, 7, 100])
@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3, 3333.3, -1e4])
def test_a_row_of_equal_logits_is_zero_with_a_gradient_of_zero(dtype: torch.dtype, classes: int, level: float) -> None:
    """Rounding moves the mean off the level in some rows, which is no deviation of the logits."""
    z = torch.full((2, classes), level, dtype=dtype, requires_grad=True)
    value = standardized(z)
    (gradient,) = torch.autograd.grad((value * random_logits(9, 2, classes).to(dtype)).sum(), z)
    assert torch.equal(value, torch.zeros_like(value))
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_a_part_standardises_student_and_teacher_for_its_term_alone() -> None:
    z_s, z_t = random_logits(10), random_logits(11)
    student, teacher = Output(z_s, z_s), Output(z_t, z_t)
    value = Part(kd, 9.0, scheduled={}, standardize=True)(student, teacher, BATCH, 0.5)
    expected = 9 * kd_loss(standardized(z_s), standardized(z_t), 4.0).mean()
    torch.testing.assert_close(value, expected)
    moved = Part(kd, 9.0, standardize=True)(Output(3 * z_s + 2, z_s), Output(0.5 * z_t - 1, z_t), BATCH, 0.5)
    torch.testing.assert_close(moved, expected, rtol=1e-5, atol=0)
    assert not torch.allclose(Part(kd, 9.0)(student, teacher, BATCH, 0.5), expected)


def test_the_file_kd_ls_has_the_weights_of_the_authors_code() -> None:
    section = OmegaConf.to_container(OmegaConf.load(Path(__file__).parents[3] / "conf" / "loss" / "kd_ls.yaml"))
    section.pop("defaults")  # type: ignore[union-attr, call-arg]
    plan = plan_loss(section, [], Shape(3, 8, 8, 4))  # type: ignore[arg-type]
    part = plan.terms["kd_ls"].part
    assert (plan.hard, part.weight, part.standardize, plan.temperature) == (0.1, 9.0, True, 2.0)
    assert part.term is kd
