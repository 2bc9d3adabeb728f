"""Who teaches, and how: several as one, a peer that learns beside the student, a first stage, images that count less.

K teachers, B batch, C classes, T temperature.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.inference.predict import predict
from kdal_cli.lab.train import confident_rows
from kdal_cli.losses.kd import kd, kd_loss
from kdal_cli.network import Network, freeze, mean_of
from kdal_cli.streams import Streams
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.training.balance import gradient_norms, ratios
from kdal_cli.training.course import Course
from kdal_cli.training.fit import fit
from kdal_cli.training.job import Peer
from kdal_cli.training.objective import Objective, Part, sample_weights
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Batch, Examples, Output

RECIPE = Recipe(steps=12, batch=8, pool_batch=4, lr=0.1, checks=3)


def pixels(count: int = 6) -> Tensor:
    return torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


# Several teachers.


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.2, 0.8)])
def test_the_mean_of_logits_is_the_weighted_sum_of_what_each_answers(weights, make_network) -> None:
    members = [make_network(seed).eval() for seed in (1, 2)]
    one, two = (member(pixels()).logits for member in members)
    expected = weights[0] * one + weights[1] * two
    torch.testing.assert_close(mean_of(members, weights, "logits", 1.0).eval()(pixels()).logits, expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_mean_of_probabilities_is_exact_at_the_temperature_of_the_loss(temperature: float, make_network) -> None:
    members, weights = [make_network(seed).eval() for seed in (1, 2, 3)], (0.5, 0.3, 0.2)
    softened = [F.softmax(member(pixels()).logits.double() / temperature, 1) for member in members]
    expected = sum(w * q for w, q in zip(weights, softened, strict=True))
    logits = mean_of(members, weights, "probabilities", temperature).eval()(pixels()).logits
    torch.testing.assert_close(F.softmax(logits.double() / temperature, 1), expected, rtol=1e-5, atol=1e-6)


def test_a_mean_of_probabilities_is_not_a_mean_of_logits(make_network) -> None:
    members = [make_network(seed).eval() for seed in (1, 2)]
    one, two = (mean_of(members, (0.5, 0.5), kind, 1.0)(pixels()).logits for kind in ("logits", "probabilities"))
    assert (one.softmax(1) - two.softmax(1)).abs().max() > 1e-3


def test_each_member_normalises_for_itself(images) -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    pale, dark = Network(body, (0.1,), (0.5,)), Network(body, (0.9,), (0.25,))
    expected = (pale(pixels()).logits + dark(pixels()).logits) / 2
    torch.testing.assert_close(mean_of([pale, dark], (0.5, 0.5), "logits", 1.0)(pixels()).logits, expected)


def test_the_gradient_of_kd_from_a_mean_of_probabilities_is_that_of_the_mean_of_the_losses(make_network) -> None:
    members = [make_network(seed).eval().requires_grad_(False) for seed in (1, 2)]
    student = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    together = mean_of(members, (0.5, 0.5), "probabilities", 4.0)(pixels()).logits
    (ours,) = torch.autograd.grad(kd_loss(student, together, 4.0).mean(), student)
    apart = sum(kd_loss(student, member(pixels()).logits, 4.0).mean() / 2 for member in members)
    (theirs,) = torch.autograd.grad(apart, student)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_frozen_mean_has_frozen_members(make_network) -> None:
    together = freeze(mean_of([make_network(1), make_network(2)], (0.5, 0.5), "logits", 1.0))
    together.train()
    assert not any(module.training for module in together.modules())
    assert not any(p.requires_grad for p in together.parameters())


# What the teacher looks at.


def test_a_clean_view_is_the_image_as_it_is_whatever_the_student_sees(resident, images, make_network, engine) -> None:
    teacher, ids = make_network(1).eval(), torch.arange(5)
    batch = Batch(ids, torch.full((5,), 3), resident.at(ids, torch.full((5,), 3)), torch.arange(0))
    clean = LiveTeacher(teacher, engine, "fp32", clean=resident)(batch).logits
    same = LiveTeacher(teacher, engine, "fp32")(batch).logits
    assert torch.equal(clean, teacher(images.train.pixels[ids]).logits)
    assert not torch.equal(clean, same)


# A peer.


def learn(student, objective, engine, images, notes, peer: Peer | None = None, **rest) -> None:
    examples = Examples(torch.arange(60), images.train.labels.all()[:40])
    plain = Resident(images.train.pixels, Augment())
    fit(student, plain, examples, objective, RECIPE, engine, Streams(1), notes, peer=peer, **rest)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def test_two_peers_of_one_make_stay_one(make_network, engine, images, notes) -> None:
    """Each learns from the other what the other learns from it: the roles are the same."""
    student, other = make_network(1), make_network(1)
    learn(student, Objective(1.0, {"kd": Part(kd, 1.0)}), engine, images, notes,
          Peer(other, Objective(1.0, {"kd": Part(kd, 1.0)})))  # fmt: skip
    assert not same(state(student), state(make_network(1)))
    for ours, theirs in zip(student.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_step_of_mutual_learning_is_one_step_of_each_against_the_detached_other(make_network, engine, images) -> None:
    student, other = make_network(1), make_network(2)
    batch = Batch(torch.arange(6), torch.zeros(6), images.train.pixels[:6], images.train.labels.all()[:4])
    term = Objective(1.0, {"kd": Part(kd, 1.0)})
    ours, theirs = student(batch.pixels), other(batch.pixels)
    parts = [*term(ours, theirs.detach(), batch, 0.0).values(), *term(theirs, ours.detach(), batch, 0.0).values()]
    torch.stack(parts).sum().backward()
    for network, against in ((student, other), (other, student)):
        with torch.no_grad():
            fixed = against(batch.pixels)
        loss = torch.stack(list(term(network(batch.pixels), fixed, batch, 0.0).values())).sum()
        expected = torch.autograd.grad(loss, list(network.parameters()))
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


def test_a_peer_from_labels_alone_learns_the_same_whoever_the_student_is(make_network, engine, images, notes) -> None:
    ends = []
    for seed in (1, 2):
        other = make_network(5)
        learn(
            make_network(seed), Objective(1.0, {"kd": Part(kd, 1.0)}), engine, images, notes, Peer(other, Objective())
        )
        ends.append(state(other))
    assert same(*ends)


# Two stages.


def test_a_first_stage_is_added_before_the_main_one_and_each_runs_through_its_schedules() -> None:
    course = Course(Recipe(steps=8, checks=2), 100, first=0.5)
    assert course.most == 12
    assert [course.at(step) for step in (0, 3, 4, 8)] == [(True, 0.0), (True, 0.75), (False, 0.0), (False, 0.5)]
    assert [course.next(done) for done in (0, 2, 4, 8, 12)] == [2, 4, 8, 12, None]


class Steps(nn.Module):
    """Says when it was called, and learns one number."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.zeros(()))
        self.calls: list[str] = []

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        self.calls.append("main")
        return student.logits.mean(1).square() + self.number

    def first_stage(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        self.calls.append("first")
        return student.logits.mean(1).square() + self.number


def test_in_the_first_stage_there_are_its_terms_alone_and_no_labels(make_network, engine, images, notes) -> None:
    early, both = Steps(), Steps()
    objective = Objective(1.0, {"early": Part(early, 1.0, when="first"), "both": Part(both, 1.0, when="both")}, 0.5)
    learn(make_network(), objective, engine, images, notes, teacher=LiveTeacher(make_network(1), engine, "fp32"))
    assert early.calls == ["first"] * 6
    assert both.calls == ["first"] * 6 + ["main"] * 12
    assert notes.steps == 18
    assert "ce" not in notes.measured[0]
    assert "ce" in notes.measured[-1]


# Who counts.


def test_an_image_counts_as_the_teacher_is_right_or_sure() -> None:
    teacher = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.1, 0.0]])
    sure, hardly = math.exp(2) / (math.exp(2) + 1), math.exp(0.1) / (math.exp(0.1) + 1)
    labels = torch.tensor([0, 0])  # the teacher is wrong on the second, and nobody knows about the others
    assert sample_weights(teacher, labels, "right").tolist() == [1.0, 0.0, 1.0, 1.0]
    assert sample_weights(teacher, labels, "confidence").tolist() == pytest.approx([sure, sure, sure, hardly])
    assert sample_weights(teacher, labels, "all", 0.8).tolist() == [1.0, 1.0, 1.0, 0.0]
    assert sample_weights(teacher, labels, "right", 0.8).tolist() == [1.0, 0.0, 1.0, 0.0]


def test_an_image_without_weight_is_one_without_loss() -> None:
    student = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    teacher = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.1, 0.0]])
    batch = Batch(torch.arange(4), torch.zeros(4), torch.zeros(4, 1, 1, 1), torch.tensor([0, 0]))
    part = Part(kd, 3.0, sample_weight="right")
    value = part(Output(student, student), Output(teacher, teacher), batch, 0.0)
    each = kd_loss(student, teacher, 4.0)
    torch.testing.assert_close(value, 3 * (each[0] + each[2] + each[3]) / 4)


# Which images of the pool.


def test_images_that_the_teacher_is_not_sure_of_are_left_out_the_surest_come_first() -> None:
    logits = torch.tensor([[1.0, 0], [4, 0], [0, 2], [0, 0.1]])
    assert confident_rows(logits, 0.7, balance=False).tolist() == [1, 2, 0]
    assert confident_rows(logits, 0.0, balance=False).tolist() == [1, 2, 0, 3]
    assert confident_rows(logits, 0.99, balance=False).tolist() == []


def test_balanced_each_class_that_is_named_has_as_many() -> None:
    logits = torch.tensor([[5.0, 0, 0], [4, 0, 0], [3, 0, 0], [2, 0, 0], [1, 0, 0], [0, 2, 0]])
    rows = confident_rows(logits, 0.0, balance=True)
    assert rows.tolist() == [0, 1, 2, 5, 5, 5]


# Balance of the parts.


def test_the_gradient_norms_are_those_of_each_weighted_part(make_network, images) -> None:
    student, teacher = make_network(1), make_network(2)
    batch = Batch(torch.arange(6), torch.zeros(6), images.train.pixels[:6], images.train.labels.all()[:4])
    parts = Objective(0.5, {"kd": Part(kd, 3.0)})(student(batch.pixels), teacher(batch.pixels), batch, 0.0)
    norms = gradient_norms(parts, student)
    for name in ("ce", "kd"):
        student.zero_grad()
        parts = Objective(0.5, {"kd": Part(kd, 3.0)})(student(batch.pixels), teacher(batch.pixels), batch, 0.0)
        parts[name].backward()
        expected = math.sqrt(sum(float(p.grad.square().sum()) for p in student.parameters()))
        assert float(norms[name]) == pytest.approx(expected, rel=1e-5)
    assert ratios(norms) == {"kd.grad_ratio": pytest.approx(float(norms["kd"] / norms["ce"]))}


def test_looking_at_the_balance_changes_no_bit(make_network, engine, images, notes) -> None:
    """More checks are more looks."""
    ends = []
    for checks in (1, 12):
        student, recipe = make_network(1), Recipe(steps=12, batch=8, pool_batch=4, lr=0.1, checks=checks)
        teacher = LiveTeacher(make_network(2), engine, "fp32")
        examples = Examples(torch.arange(60), images.train.labels.all()[:40])
        plain = Resident(images.train.pixels, Augment())
        objective = Objective(0.5, {"kd": Part(kd, 1.0)})
        fit(student, plain, examples, objective, recipe, engine, Streams(1), notes, teacher=teacher)
        ends.append(state(student))
    assert same(*ends)


@pytest.mark.parametrize("shape", [(6, 2), (5,), (1, 6)])
def test_a_term_of_another_shape_is_refused_before_it_is_averaged_away(shape: tuple[int, ...], make_network) -> None:
    batch = Batch(torch.arange(6), torch.zeros(6), pixels(), torch.arange(3))
    output = make_network()(batch.pixels)
    with pytest.raises(UserError, match=r"one number an image, \(B,\), or one for the batch"):
        Part(lambda *_: torch.zeros(shape), 1.0)(output, output, batch, 0.0)


def test_images_cannot_count_differently_in_a_term_of_the_whole_batch(make_network) -> None:
    batch = Batch(torch.arange(6), torch.zeros(6), pixels(), torch.arange(3))
    output = make_network()(batch.pixels)
    with pytest.raises(UserError, match="relational term"):
        Part(lambda *_: torch.zeros(()), 1.0, sample_weight="right")(output, output, batch, 0.0)


def test_how_sure_the_teacher_is_is_asked_of_its_own_logits_not_of_standardised_ones() -> None:
    teacher = 30 * torch.eye(6)
    student = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    batch = Batch(torch.arange(6), torch.zeros(6), torch.zeros(6, 1, 1, 1), torch.arange(3))
    ours, theirs = Output(student, student), Output(teacher, teacher)
    everyone = Part(kd, 1.0, standardize=True)(ours, theirs, batch, 0.0)
    assert everyone > 0
    assert torch.equal(Part(kd, 1.0, standardize=True, min_confidence=0.99)(ours, theirs, batch, 0.0), everyone)


def test_milestones_are_those_of_the_main_stage() -> None:
    recipe = Recipe(steps=10, schedule="step", lr=0.1, milestones=(0.5,))
    assert [recipe.rate(0.9, first=first) for first in (True, False)] == pytest.approx([0.1, 0.01])


def test_the_maps_that_a_loss_looks_at_are_not_kept_of_a_whole_pool(images, resident, make_network) -> None:
    network = make_network()
    network.tap(["layer1"])
    seen = predict(network, resident, torch.arange(20), batch=7)
    assert not seen.maps
    assert seen.model is None
