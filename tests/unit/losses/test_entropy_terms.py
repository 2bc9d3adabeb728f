"""The entropy of the student's own answers, with either sign: which way each of the two pushes.

z logits, q = softmax(z), C classes.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdal_cli.losses.confidence_penalty import confidence_penalty
from kdal_cli.losses.entropy_minimisation import entropy, entropy_minimisation
from kdal_cli.types import Batch, Output

BATCH = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def random_logits(seed: int, batch: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(logits=st.lists(st.floats(-30, 30), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_entropy_is_its_sum_written_out(logits: list[float]) -> None:
    powers = [math.exp(z - max(logits)) for z in logits]
    q = [power / math.fsum(powers) for power in powers]
    expected = -math.fsum(p * math.log(p) for p in q)
    value = entropy(torch.tensor([logits], dtype=torch.float64)).item()
    assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 7, 1000])
def test_entropy_is_log_c_for_an_even_answer_and_nothing_for_a_certain_one(classes: int) -> None:
    even = torch.full((1, classes), -3.0, dtype=torch.float64)
    certain = 1e4 * F.one_hot(torch.tensor([1]), classes).double()
    assert entropy(even).item() == pytest.approx(math.log(classes), abs=1e-12)
    assert entropy(certain).item() == 0


def test_the_two_terms_are_the_same_number_with_opposite_signs_and_ask_for_no_teacher() -> None:
    z = random_logits(0)
    minimised, penalised = (t(Output(z, z), None, BATCH) for t in (entropy_minimisation, confidence_penalty))
    assert torch.equal(minimised, entropy(z))
    assert torch.equal(penalised, -entropy(z))
    assert (minimised > 0).all()


@pytest.mark.parametrize(("term", "wanted"), [(entropy_minimisation, -1), (confidence_penalty, 1)])
def test_a_step_down_the_gradient_moves_the_entropy_the_way_that_the_name_says(term, wanted: int) -> None:
    z = random_logits(1).requires_grad_()
    term(Output(z, z), None, BATCH).sum().backward()
    moved = entropy(z - 1e-3 * z.grad) - entropy(z)
    assert (wanted * moved > 0).all()


def test_the_penalty_is_the_divergence_from_an_even_answer_less_log_c() -> None:
    z = random_logits(2)
    even = torch.full((5, 7), 1 / 7, dtype=torch.float64)
    divergence = F.kl_div(even.log(), F.log_softmax(z, 1), reduction="none", log_target=True).sum(1)
    torch.testing.assert_close(confidence_penalty(Output(z, z), None, BATCH), divergence - math.log(7))


def test_the_gradient_is_minus_q_times_log_q_above_its_mean() -> None:
    z = random_logits(3).requires_grad_()
    entropy(z).sum().backward()
    q = F.softmax(z.detach(), 1)
    by_hand = -q * (q.log() - (q * q.log()).sum(1, keepdim=True))
    torch.testing.assert_close(z.grad, by_hand)


def test_the_derivative_agrees_with_finite_differences() -> None:
    assert torch.autograd.gradcheck(entropy, random_logits(4, 3, 4).requires_grad_())


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_a_class_of_probability_zero_has_a_finite_gradient(scale: float) -> None:
    z = torch.tensor([[scale, 0.0, 0.0]], requires_grad=True)
    value = entropy(z)
    value.backward()
    assert value.item() == pytest.approx(0 if scale > 0 else math.log(2), abs=1e-6)
    assert z.grad is not None
    assert z.grad.abs().max() < 1e-6
