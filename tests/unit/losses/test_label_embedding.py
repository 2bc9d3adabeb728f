"""Soft labels of a teacher that knows other classes than the student.

B batch, D features of the student, C_s and C_t classes of the two. W, b of the layer.
"""

import math

import pytest
import torch
from torch import Tensor

from kdal_cli.losses.label_embedding import LabelEmbedding
from kdal_cli.training.objective import Objective, Part
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(5), torch.arange(0))
BATCH = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), torch.tensor([1, 2]))


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def answers(features: Tensor, classes: int = 3) -> tuple[Output, Output]:
    """A student of `classes` classes and a teacher of six."""
    return Output(normal(1, 5, classes), features), Output(3 * normal(2, 5, 6), normal(3, 5, 9))


def made(student: Output, teacher: Output) -> LabelEmbedding:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LabelEmbedding(student, teacher, EXAMPLES, temperature=2.0).double()


def softmax(z: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in z]
    return [power / math.fsum(powers) for power in powers]


def test_the_value_is_kd_of_the_teacher_and_a_linear_layer_on_the_features() -> None:
    student, teacher = answers(normal(0, 5, 4))
    term = made(student, teacher)
    weight, bias = term.head.weight.tolist(), term.head.bias.tolist()
    expected = []
    for features, theirs in zip(student.features.tolist(), teacher.logits.tolist(), strict=True):
        ours = [math.fsum(w * f for w, f in zip(row, features, strict=True)) + b
                for row, b in zip(weight, bias, strict=True)]  # fmt: skip
        pairs = zip(softmax(theirs, 2.0), softmax(ours, 2.0), strict=True)
        expected.append(4 * math.fsum(t * math.log(t / s) for t, s in pairs))
    assert term(student, teacher, BATCH).tolist() == pytest.approx(expected, abs=1e-11)


def test_the_number_and_the_logits_of_the_students_own_classes_do_not_matter() -> None:
    features = normal(0, 5, 4)
    term = made(*answers(features))
    values = [term(*answers(features, classes), BATCH) for classes in (2, 6, 40)]
    assert all(torch.equal(value, values[0]) for value in values)


def test_it_is_zero_once_the_layer_answers_as_the_teacher() -> None:
    features = normal(0, 5, 4)
    student, teacher = answers(features)
    term = made(student, teacher)
    theirs = Output(term.head(features).detach(), teacher.features)
    torch.testing.assert_close(term(student, theirs, BATCH), torch.zeros(5).double(), rtol=0, atol=1e-15)
    assert (term(student, teacher, BATCH) > 0.01).all()


def test_training_the_layer_alone_finds_a_teacher_that_is_linear_in_the_features() -> None:
    features = normal(0, 5, 4)
    student, _ = answers(features)
    teacher = Output(features @ normal(4, 4, 6), features)
    term = made(student, teacher)
    before = term(student, teacher, BATCH).detach()
    optimizer = torch.optim.Adam(term.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        term(student, teacher, BATCH).mean().backward()
        optimizer.step()
    assert (term(student, teacher, BATCH) < 0.01 * before).all()


def test_features_and_layer_have_the_derivatives_of_finite_differences() -> None:
    student, teacher = answers(normal(0, 5, 4))
    term = made(student, teacher)

    def value(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        parameters = {"head.weight": weight, "head.bias": bias}
        return torch.func.functional_call(term, parameters, (Output(student.logits, features), teacher, BATCH))

    inputs = [x.detach().clone().requires_grad_() for x in (student.features, term.head.weight, term.head.bias)]
    assert torch.autograd.gradcheck(value, inputs)


def test_the_layer_is_the_objectives_and_so_trains_beside_the_student() -> None:
    term = made(*answers(normal(0, 5, 4)))
    mine = {id(p) for p in Objective(1.0, {"label_embedding": Part(term, 1.0)}).parameters()}
    assert mine == {id(term.head.weight), id(term.head.bias)}
