"""Decoupled distillation against sums by hand, against KD, and against what a softmax and a mask make of it.

z logits, q = softmax(z/T), y the label, s student, t teacher, B batch, C classes.
"""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor

from kdal_cli.compose.loss import plan_loss
from kdal_cli.dataset import Shape
from kdal_cli.losses.dkd import dkd, dkd_loss, others, others_loss, target_loss
from kdal_cli.losses.kd import kd_loss
from kdal_cli.training.schedules import at
from kdal_cli.types import Batch, Output

every_label = pytest.mark.parametrize("label", range(4))
temperatures = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])


def random_logits(seed: int, batch: int = 5, classes: int = 4) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same_label(label: int, batch: int = 5) -> Tensor:
    return torch.full((batch,), label)


def softmax(logits: list[float], temperature: float) -> list[float]:
    """By hand, with nothing of torch."""
    highest = max(logits)
    powers = [math.exp((z - highest) / temperature) for z in logits]
    return [power / math.fsum(powers) for power in powers]


def divergence(p: list[float], q: list[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def by_hand(student: list[float], teacher: list[float], label: int, temperature: float) -> tuple[float, float]:
    """(TCKD, NCKD) of one image: the softmax over all classes, and the softmax over all but the label."""
    q_s, q_t = softmax(student, temperature)[label], softmax(teacher, temperature)[label]
    rest = [softmax(z[:label] + z[label + 1 :], temperature) for z in (teacher, student)]
    return (
        temperature**2 * divergence([q_t, 1 - q_t], [q_s, 1 - q_s]),
        temperature**2 * divergence(*rest),
    )


@every_label
@temperatures
def test_both_parts_are_their_sums_written_out(label: int, temperature: float) -> None:
    student, teacher = random_logits(0), random_logits(1)
    expected = [by_hand(s, t, label, temperature) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
    arguments = student, teacher, same_label(label), temperature
    assert target_loss(*arguments).tolist() == pytest.approx([t for t, _ in expected], rel=1e-9, abs=1e-11)
    assert others_loss(*arguments).tolist() == pytest.approx([n for _, n in expected], rel=1e-9, abs=1e-11)


@every_label
@temperatures
def test_kd_is_the_target_part_and_the_share_of_the_others_of_their_part(label: int, temperature: float) -> None:
    student, teacher, target = random_logits(2), random_logits(3), same_label(label)
    share = 1 - F.softmax(teacher / temperature, 1)[:, label]
    parts = target_loss(student, teacher, target, temperature)
    parts = parts + share * others_loss(student, teacher, target, temperature)
    torch.testing.assert_close(parts, kd_loss(student, teacher, temperature), rtol=1e-10, atol=1e-11)


def test_alpha_weighs_the_target_part_and_beta_the_part_of_the_others() -> None:
    student, teacher, target = random_logits(4), random_logits(5), torch.tensor([0, 1, 2, 3, 0])
    total = dkd_loss(student, teacher, target, 0.7, 3.0, 4.0)
    parts = [part(student, teacher, target, 4.0) for part in (target_loss, others_loss)]
    torch.testing.assert_close(total, 0.7 * parts[0] + 3 * parts[1])
    assert torch.equal(dkd_loss(student, teacher, target, 1.0, 0.0, 4.0), parts[0])


def test_the_others_are_all_logits_but_the_targets_in_their_order() -> None:
    logits, target = random_logits(6, 3, 5), torch.tensor([0, 2, 4])
    rows = [[z for c, z in enumerate(row) if c != y] for row, y in zip(logits.tolist(), target.tolist(), strict=True)]
    assert others(logits, target).tolist() == rows


def test_the_part_of_the_others_does_not_see_how_sure_anyone_is_of_the_label() -> None:
    student, teacher, target = random_logits(7), random_logits(8), same_label(2)
    sure = F.one_hot(target, 4) * 50.0
    value = others_loss(student, teacher, target, 4.0)
    assert torch.equal(others_loss(student + sure, teacher - sure, target, 4.0), value)


def test_with_two_classes_the_part_of_the_others_is_nothing_and_the_rest_is_kd() -> None:
    student, teacher = random_logits(9, classes=2).requires_grad_(), random_logits(10, classes=2)
    target = torch.tensor([0, 1, 0, 1, 0])
    nothing = others_loss(student, teacher, target, 4.0)
    (gradient,) = torch.autograd.grad(nothing.sum(), student)
    assert torch.equal(nothing, torch.zeros(5, dtype=torch.float64))
    assert torch.equal(gradient, torch.zeros_like(gradient))
    torch.testing.assert_close(dkd_loss(student, teacher, target, 1.0, 8.0, 4.0), kd_loss(student, teacher, 4.0))


@pytest.mark.parametrize("label", range(3))
def test_the_derivative_agrees_with_finite_differences(label: int) -> None:
    student, teacher = random_logits(11, 3).requires_grad_(), random_logits(12, 3)
    target = torch.tensor([label, 0, 3])
    assert torch.autograd.gradcheck(lambda z: dkd_loss(z, teacher, target, 1.0, 8.0, 2.5), student)


@pytest.mark.parametrize(
    ("label", "target_part", "others_part"),
    [
        (0, 1e4 - math.log(2), math.log(2)),  # s gives the rest 2 · e^−1e4; among 1 and 2, t says 1 and s does not know
        (1, 1e4, 5e3 - math.log(2)),  # among 0 and 2, t does not know and s says 0
        (2, 0.0, 1e4),  # both exclude 2
    ],
)
def test_opposite_certainties_in_float32_have_the_value_of_the_limit_and_a_finite_gradient(
    label: int, target_part: float, others_part: float
) -> None:
    student = torch.tensor([[1e4, 0.0, 0.0]], requires_grad=True)
    teacher, target = torch.tensor([[0.0, 1e4, 0.0]]), torch.tensor([label])
    parts = [part(student, teacher, target, 1.0) for part in (target_loss, others_loss)]
    torch.cat(parts).sum().backward()
    assert [part.item() for part in parts] == pytest.approx([target_part, others_part], rel=1e-6, abs=1e-6)
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_a_log_of_the_softmax_as_in_mdistiller_is_infinite_for_a_student_that_is_certain() -> None:
    """Its TCKD takes log of softmax(z_s/T): at z_s/T = (250, 0, 0) in float32 that of the rest is log 0."""
    student, teacher = torch.tensor([[1e3, 0.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]])
    q_s, q_t = F.softmax(student / 4, 1), F.softmax(teacher / 4, 1)
    pair_s, pair_t = (torch.stack([q[:, 0], q[:, 1:].sum(1)], 1) for q in (q_s, q_t))
    theirs = F.kl_div(pair_s.log(), pair_t, reduction="sum")
    assert theirs.isinf()
    p = softmax([2.0, 1.0, 0.0], 4.0)
    expected = 16 * (p[0] * math.log(p[0]) + (1 - p[0]) * (math.log(1 - p[0]) - math.log(2) + 250))
    assert target_loss(student, teacher, torch.tensor([0]), 4.0).item() == pytest.approx(expected, rel=1e-6)


def test_subtracting_a_thousand_as_in_mdistiller_does_not_leave_the_label_out_where_it_leads_by_more() -> None:
    """Its NCKD lowers z_y/T by 1000: at z_t/T = (2000, 1, 0) the label keeps all of the teacher's distribution."""
    student, teacher = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[8000.0, 4.0, 0.0]])
    lowered = torch.tensor([[1000.0, 0.0, 0.0]])
    log_s, q_t = F.log_softmax(student / 4 - lowered, 1), F.softmax(teacher / 4 - lowered, 1)
    theirs = 16 * F.kl_div(log_s, q_t, reduction="sum")
    rest = softmax([1.0, 0.0], 1.0)
    expected = 16 * divergence(rest, [0.5, 0.5])
    assert others_loss(student, teacher, torch.tensor([0]), 4.0).item() == pytest.approx(expected, rel=1e-6)
    assert theirs.item() > 1000 * expected


def test_the_label_of_a_labelled_image_is_its_own_and_of_another_the_teachers_first_choice() -> None:
    z_s, z_t = random_logits(13), random_logits(14)
    labels = torch.tensor([1, 0])
    batch = Batch(torch.arange(5), torch.zeros(5), torch.zeros(5, 1, 1, 1), labels)
    value = dkd(Output(z_s, z_s), Output(z_t, z_t), batch, alpha=1.5, beta=2.0, temperature=3.0)
    target = torch.tensor([1, 0, *(max(range(4), key=row.__getitem__) for row in z_t[2:].tolist())])
    assert torch.equal(value, dkd_loss(z_s, z_t, target, 1.5, 2.0, 3.0))
    assert not torch.equal(target[:2], z_t[:2].argmax(1))
    usual = dkd(Output(z_s, z_s), Output(z_t, z_t), batch)
    assert torch.equal(usual, dkd_loss(z_s, z_t, target, 1.0, 8.0, 4.0))


def test_the_file_has_the_papers_weights_and_rises_over_its_first_twenty_of_240_epochs() -> None:
    section = OmegaConf.to_container(OmegaConf.load(Path(__file__).parents[3] / "conf" / "loss" / "dkd.yaml"))
    section.pop("defaults")  # type: ignore[union-attr, call-arg]
    plan = plan_loss(section, [], Shape(3, 8, 8, 4))  # type: ignore[arg-type]
    term = plan.terms["dkd"]
    assert plan.hard == 1
    assert term.arguments == {"alpha": 1.0, "beta": 8.0, "temperature": 4.0}
    for epoch in (0, 5, 10, 15, 20, 100, 240):
        assert at(term.part.weight, epoch / 240) == pytest.approx(min(epoch / 20, 1), abs=1e-3)
