"""Variational information distillation against a computation by hand; its variance must be learnt, not given.

B batch, c channels, h w places of a map. ρ is the parameter behind the variance.
"""

import math

import pytest
import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.losses.vid import Vid
from kdal_cli.training.objective import Objective, Part
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(2), torch.arange(0))
BATCH = Batch(torch.arange(2), torch.zeros(2), torch.zeros(2, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def shown(**maps: Tensor) -> Output:
    n = len(next(iter(maps.values())))
    return Output(torch.zeros(n, 3), torch.zeros(n, 2), maps)


def maps(seed: int, channels: int = 2, side: int = 2) -> Tensor:
    """Positive, so that the regressor's ReLUs let them pass."""
    return torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(seed)) + 0.1


def as_is(term: Vid) -> Vid:
    """Let the mean be the student's own map: every 1 × 1 convolution of the regressors becomes the identity."""
    for weight in term.means.parameters():
        weight.data = torch.eye(*weight.shape[:2])[:, :, None, None]
    return term


def variances(term: Vid) -> list[float]:
    """softplus(ρ) + 1e-5, in the form that does not overflow."""
    return [max(rho, 0) + math.log1p(math.exp(-abs(rho))) + 1e-5 for rho in term.rhos[0].tolist()]


def test_the_value_is_the_gaussian_log_density_averaged_over_channels_and_places() -> None:
    student, teacher = maps(0), maps(1)
    term = as_is(Vid(shown(a=student), shown(a=teacher), EXAMPLES, layers=["a"]))
    term.rhos[0].data = torch.tensor([0.3, -1.2])
    variance = variances(term)
    expected = []
    for image in range(2):
        cells = [
            ((float(student[image, c, y, x]) - float(teacher[image, c, y, x])) ** 2 / variance[c]
             + math.log(variance[c])) / 2
            for c in range(2) for y in range(2) for x in range(2)
        ]  # fmt: skip
        expected.append(math.fsum(cells) / len(cells))
    value = term(shown(a=student), shown(a=teacher), BATCH)
    torch.testing.assert_close(value, torch.tensor(expected))


def test_several_layers_add_up_and_a_pair_may_have_two_names() -> None:
    student, teacher = shown(a=maps(2), b=maps(3, 3)), shown(x=maps(4), y=maps(5, 3))
    both = as_is(Vid(student, teacher, EXAMPLES, layers=["a", "b"], teacher_layers=["x", "y"]))
    first = as_is(Vid(student, teacher, EXAMPLES, layers=["a"], teacher_layers=["x"]))
    second = as_is(Vid(student, teacher, EXAMPLES, layers=["b"], teacher_layers=["y"]))
    total = first(student, teacher, BATCH) + second(student, teacher, BATCH)
    torch.testing.assert_close(both(student, teacher, BATCH), total)


@pytest.mark.parametrize("sides", [(4, 2), (2, 4)])
def test_the_larger_map_is_averaged_to_the_smaller_before_the_regressor_and_not_after_it(
    sides: tuple[int, int],
) -> None:
    student, teacher = maps(6, side=sides[0]), maps(7, side=sides[1])
    term = Vid(shown(a=student), shown(a=teacher), EXAMPLES, layers=["a"])  # its ReLUs and a mean do not commute
    small = [x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)) if x.shape[2] == 4 else x for x in (student, teacher)]
    expected = term(shown(a=small[0]), shown(a=small[1]), BATCH)
    torch.testing.assert_close(term(shown(a=student), shown(a=teacher), BATCH), expected)


def test_the_regressor_goes_from_the_students_width_to_the_teachers() -> None:
    student, teacher = shown(a=maps(8, channels=2)), shown(a=maps(9, channels=5))
    term = Vid(student, teacher, EXAMPLES, layers=["a"])
    assert term(student, teacher, BATCH).shape == (2,)
    assert term.rhos[0].shape == (5,)


@pytest.mark.parametrize("wanted", [1e-4, 0.1, 1.0, 5.0, 80.0, 1e3])
def test_the_initial_variance_is_the_one_asked_for(wanted: float) -> None:
    output = shown(a=maps(10))
    term = Vid(output, output, EXAMPLES, layers=["a"], initial_variance=wanted)
    assert variances(term) == pytest.approx([wanted, wanted], rel=1e-3)


@pytest.mark.parametrize("wanted", [1e-5, 1e-6])
def test_a_variance_that_cannot_be_is_refused_in_a_sentence(wanted: float) -> None:
    output = shown(a=maps(10))
    with pytest.raises(UserError, match="initial_variance"):
        Vid(output, output, EXAMPLES, layers=["a"], initial_variance=wanted)


def test_as_many_layers_of_the_teacher_as_of_the_student_are_asked_for_in_a_sentence() -> None:
    output = shown(a=maps(10), b=maps(11))
    with pytest.raises(UserError, match="teacher_layers"):
        Vid(output, output, EXAMPLES, layers=["a", "b"], teacher_layers=["a"])


def test_the_variance_receives_a_gradient_which_is_that_of_the_formula() -> None:
    """∂/∂σ² of ½[e²/σ² + log σ²] is ½[1/σ² − e²/σ⁴], and dσ²/dρ = sigmoid(ρ)."""
    student, teacher = maps(11), maps(12)
    term = as_is(Vid(shown(a=student), shown(a=teacher), EXAMPLES, layers=["a"]))
    term(shown(a=student), shown(a=teacher), BATCH).mean().backward()
    variance = torch.tensor(variances(term))
    error = (student - teacher).square().mean((0, 2, 3))  # (c,)
    by_hand = 0.5 * (1 / variance - error / variance**2) * torch.sigmoid(term.rhos[0].detach()) / 2  # 2 channels
    torch.testing.assert_close(term.rhos[0].grad, by_hand)


def test_training_finds_the_variance_that_the_data_has() -> None:
    """With the mean held still the best σ² of a channel is its mean squared error."""
    student, teacher = maps(13), maps(14)
    term = as_is(Vid(shown(a=student), shown(a=teacher), EXAMPLES, layers=["a"], initial_variance=0.5))
    optimizer = torch.optim.Adam(term.rhos.parameters(), lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        term(shown(a=student), shown(a=teacher), BATCH).mean().backward()
        optimizer.step()
    assert variances(term) == pytest.approx((student - teacher).square().mean((0, 2, 3)).tolist(), rel=0.02)


def test_its_parameters_are_the_objectives_and_so_train_beside_the_student() -> None:
    output = shown(a=maps(15))
    term = Vid(output, output, EXAMPLES, layers=["a"])
    mine = {id(p) for p in Objective(1.0, {"vid": Part(term, 1.0)}).parameters()}
    assert mine == {id(p) for p in term.parameters()}
    assert {id(p) for p in term.rhos} < mine


def test_mean_and_variance_have_the_derivatives_of_finite_differences() -> None:
    teacher = shown(a=maps(16).double())
    term = as_is(Vid(teacher, teacher, EXAMPLES, layers=["a"])).double()
    for parameter in term.parameters():
        parameter.data = parameter.data.double()
    student = maps(17).double().requires_grad_()

    def value(student: Tensor, rho: Tensor) -> Tensor:
        call = torch.func.functional_call
        out = Output(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 2), {"a": student})
        return call(term, {"rhos.0": rho}, (out, teacher, BATCH))

    assert torch.autograd.gradcheck(value, (student, term.rhos[0].detach().clone().requires_grad_()))
