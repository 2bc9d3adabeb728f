"""The answers of a teacher about the classes that it has learnt: kd over these, and not a word about the others.

B batch, C classes, K those that the teacher has learnt.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.losses.kd import kd
from kdal_cli.losses.lwf import Lwf
from kdal_cli.network import Network
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(4), torch.arange(0))
BATCH = Batch(torch.arange(4), torch.zeros(4), torch.zeros(4, 1, 1, 1), torch.tensor([0, 1]))


def answers(known: dict[int, int] | None, theirs: int = 4) -> tuple[Output, Output]:
    """Of a student of four classes and a teacher of `theirs` outputs, float64."""
    draw = torch.Generator().manual_seed(0)
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(1, theirs)), (0.5,), (0.5,))
    network.known = known
    ours, others = (3 * torch.randn(4, many, generator=draw, dtype=torch.float64) for many in (4, theirs))
    return Output(ours, ours), Output(others, others, model=network)


def made(student: Output, teacher: Output, temperature: float = 2.0) -> Lwf:
    return Lwf(student, teacher, EXAMPLES, temperature=temperature)


def softmax(z: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in z]
    return [power / math.fsum(powers) for power in powers]


@pytest.mark.parametrize("known", [{0: 0, 1: 1, 3: 3}, {0: 2, 2: 0}, {1: 3}])
def test_it_is_the_divergence_over_the_classes_that_the_teacher_has_learnt(known: dict[int, int]) -> None:
    student, teacher = answers(known)
    expected = []
    for ours, theirs in zip(student.logits.tolist(), teacher.logits.tolist(), strict=True):
        q, p = softmax([ours[c] for c in known.values()], 2.0), softmax([theirs[c] for c in known], 2.0)
        expected.append(4 * math.fsum(t * math.log(t / s) for t, s in zip(p, q, strict=True)))
    assert made(student, teacher)(student, teacher, BATCH).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("known", [None, {c: c for c in range(4)}])
def test_of_a_teacher_that_has_learnt_all_classes_it_is_kd(known: dict[int, int] | None) -> None:
    student, teacher = answers(known)
    found = made(student, teacher, 4.0)(student, teacher, BATCH)
    torch.testing.assert_close(found, kd(student, teacher, BATCH, temperature=4.0), rtol=0, atol=1e-12)


def test_a_class_that_the_teacher_never_saw_is_left_alone() -> None:
    """Neither has it a gradient, nor does what the teacher's untrained output says matter."""
    student, teacher = answers({0: 0, 2: 2})
    term, logits = made(student, teacher), student.logits.requires_grad_()
    value = term(Output(logits, logits), teacher, BATCH)
    (slope,) = torch.autograd.grad(value.sum(), logits)
    assert (slope[:, [1, 3]] == 0).all()
    assert (slope[:, [0, 2]] != 0).all()
    other = teacher.logits + torch.tensor([0.0, 1e3, 0.0, -1e3])
    assert torch.equal(term(student, Output(other, other), BATCH), value)


def test_a_teacher_with_fewer_outputs_is_compared_by_name() -> None:
    student, teacher = answers({0: 3, 1: 1}, theirs=2)
    assert made(student, teacher)(student, teacher, BATCH).shape == (4,)


def test_a_teacher_that_knows_none_of_the_classes_is_refused() -> None:
    with pytest.raises(UserError, match="has learnt none of the student's classes"):
        made(*answers({}))


def test_the_paper_s_gradient_is_that_of_a_weight_of_one_by_temperature_squared() -> None:
    """Cross-entropy of the softened answers, without T², equation 2 of Li and Hoiem."""
    student, teacher = answers({0: 0, 1: 1, 3: 3})
    some = [0, 1, 3]

    def slope(loss: Tensor, logits: Tensor) -> Tensor:
        return torch.autograd.grad(loss.sum(), logits)[0]

    logits = student.logits.requires_grad_()
    soft = (teacher.logits[:, some] / 2).softmax(1)
    paper = slope(-(soft * (logits[:, some] / 2).log_softmax(1)).sum(1), logits)
    ours = slope(0.25 * made(student, teacher)(Output(logits, logits), teacher, BATCH), logits)
    torch.testing.assert_close(ours, paper, rtol=0, atol=1e-12)
