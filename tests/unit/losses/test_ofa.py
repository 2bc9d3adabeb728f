"""One for all: the enhanced target by hand, and branches from maps of any size to the teacher's classes.

z logits, q = softmax(z/T), y target, s student, t teacher, B batch, C classes, c channels, h w places of a map.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.losses.ofa import Ofa, enhanced, ofa_loss
from kdal_cli.losses.soft_ce import soft_ce_loss
from kdal_cli.training.objective import Objective, Part
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(5), torch.arange(0))
TARGET = torch.tensor([3, 0, 6, 2, 2])
BATCH = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), TARGET[:3])


def logits(seed: int, batch: int = 5, classes: int = 7) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(seed: int, channels: int, side: int) -> Tensor:
    return torch.randn(5, channels, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(z: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in z]
    return [power / math.fsum(powers) for power in powers]


def by_hand(student: list[float], teacher: list[float], y: int, gamma: float, temperature: float) -> float:
    """As in the authors' code: the label's probability is raised with its one-hot 1, which is taken away again."""
    pairs = zip(softmax(teacher, temperature), softmax(student, temperature), strict=True)
    onehot = [float(c == y) for c in range(len(teacher))]
    return -math.fsum(((t + o) ** gamma - o) * math.log(s) for (t, s), o in zip(pairs, onehot, strict=True))


@pytest.mark.parametrize("gamma", [0.8, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_value_is_the_enhanced_cross_entropy(gamma: float, temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    rows = zip(student.tolist(), teacher.tolist(), TARGET.tolist(), strict=True)
    expected = [by_hand(s, t, y, gamma, temperature) for s, t, y in rows]
    assert ofa_loss(student, teacher, TARGET, gamma, temperature).tolist() == pytest.approx(expected, abs=1e-11)


def test_without_enhancement_it_is_the_cross_entropy_of_soft_labels_for_any_target() -> None:
    student, teacher = logits(2), logits(3)
    value = ofa_loss(student, teacher, TARGET, 1.0, 1.0)
    torch.testing.assert_close(value, soft_ce_loss(student, teacher, 1.0), rtol=0, atol=1e-13)


def test_with_the_cross_entropy_of_the_label_the_target_is_one_plus_the_probability_to_the_power() -> None:
    """Hao et al. 2023: the weight of log q_s,y is (1 + q_t,y)^γ once the label's own cross-entropy is added."""
    teacher = logits(4)
    whole = enhanced(teacher, TARGET, 1.5, 1.0) + F.one_hot(TARGET, 7)
    label = (1 + F.softmax(teacher, 1)).pow(1.5).gather(1, TARGET[:, None])
    torch.testing.assert_close(whole.gather(1, TARGET[:, None]), label, rtol=0, atol=1e-14)


def test_enhancement_raises_the_label_and_lowers_every_other_class() -> None:
    teacher = logits(5)
    q, target = F.softmax(teacher, 1), enhanced(teacher, TARGET, 1.5, 1.0)
    of_label = F.one_hot(TARGET, 7) == 1
    assert (target[of_label] > q[of_label]).all()
    assert (target[~of_label] < q[~of_label]).all()
    assert (target > 0).all()


def test_the_gradient_is_the_students_share_of_the_target_less_the_target() -> None:
    student, teacher = logits(6).requires_grad_(), logits(7)
    ofa_loss(student, teacher, TARGET, 1.5, 2.0).sum().backward()
    target = enhanced(teacher, TARGET, 1.5, 2.0)
    expected = (target.sum(1, keepdim=True) * F.softmax(student.detach() / 2, 1) - target) / 2
    torch.testing.assert_close(student.grad, expected, rtol=0, atol=1e-13)


def test_the_derivative_agrees_with_finite_differences() -> None:
    student, teacher, target = logits(8, 3, 4).requires_grad_(), logits(9, 3, 4), torch.tensor([1, 3, 0])
    assert torch.autograd.gradcheck(lambda z: ofa_loss(z, teacher, target, 1.5, 1.0), student)


def test_the_log_of_a_softmax_as_the_authors_code_has_it_is_not_a_number_for_a_sure_student() -> None:
    student, teacher = torch.tensor([[200.0, 0.0]]), torch.tensor([[200.0, 0.0]])
    theirs = -(F.softmax(teacher, 1) * F.softmax(student, 1).log()).sum(1)
    assert theirs.isnan().all()
    assert ofa_loss(student, teacher, torch.tensor([0]), 1.5, 1.0).item() == pytest.approx(0, abs=1e-6)


@pytest.fixture
def answers() -> tuple[Output, Output]:
    """A student of three stages and a teacher of other widths, which shows no maps at all."""
    student = {"a": maps(10, 4, 8), "b": maps(11, 6, 5), "c": maps(12, 8, 1)}
    return Output(logits(13), torch.zeros(5, 8), student), Output(logits(14), torch.zeros(5, 12))


def made(answers: tuple[Output, Output], layers: list[str]) -> Ofa:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Ofa(*answers, EXAMPLES, layers=layers).double()


def test_it_is_the_sum_over_the_branches_and_the_students_own_logits(answers: tuple[Output, Output]) -> None:
    student, teacher = answers
    term = made(answers, ["a", "b", "c"])
    target = torch.cat([TARGET[:3], teacher.logits[3:].argmax(1)])
    heads = [branch(student.maps[path]) for path, branch in zip("abc", term.branches, strict=True)]
    expected = sum(ofa_loss(z, teacher.logits, target, 1.5, 1.0) for z in (*heads, student.logits))
    torch.testing.assert_close(term(student, teacher, BATCH), expected)


def test_a_branch_halves_its_map_once_for_every_layer_after_it_and_ends_in_the_wider_of_the_two(
    answers: tuple[Output, Output],
) -> None:
    """Sides 8 → 4 → 2, 5 → 3 and 1; channels double at each halving but the last."""
    term = made(answers, ["a", "b", "c"])
    bodies = [branch[:-3] for branch in term.branches]  # without pooling, flattening and the linear layer
    shapes = [tuple(body(answers[0].maps[path]).shape) for path, body in zip("abc", bodies, strict=True)]
    widths = [[m.out_channels for m in body if isinstance(m, nn.Conv2d)] for body in bodies]
    assert shapes == [(5, 12, 2, 2), (5, 12, 3, 3), (5, 12, 1, 1)]
    assert widths == [[4, 4, 4, 8, 8, 8, 8, 12], [6, 6, 6, 12], [12]]
    assert [branch(answers[0].maps[path]).shape for path, branch in zip("abc", term.branches, strict=True)] == [
        (5, 7)
    ] * 3


def test_every_branch_learns_and_every_map_of_the_student_feels_it(answers: tuple[Output, Output]) -> None:
    student, teacher = answers
    leaves = {path: m.clone().requires_grad_() for path, m in student.maps.items()}
    term = made(answers, ["a", "b", "c"])
    term(Output(student.logits, student.features, leaves), teacher, BATCH).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in term.branches.parameters() if p.dim() != 1)
    assert all(leaf.grad.abs().sum() > 0 for leaf in leaves.values())


def test_the_branches_are_the_objectives_and_so_train_beside_the_student(answers: tuple[Output, Output]) -> None:
    term = made(answers, ["b"])
    mine = {id(p) for p in Objective(1.0, {"ofa": Part(term, 1.0)}).parameters()}
    assert mine == {id(p) for p in term.branches.parameters()}
