"""Every file of conf/loss through one list of laws (METHODS.md, section 1). A new file is covered when it arrives.

Where a term should not obey a law, it is named in a table here, with the reason; and the exception is tested too.
B batch, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn

import kdal_cli.losses
from kdal_cli.build.loss import plan_loss
from kdal_cli.build.registry import names
from kdal_cli.engine import Engine
from kdal_cli.infer import LiveTeacher
from kdal_cli.models.resnet import resnet
from kdal_cli.network import Network
from kdal_cli.objective import Objective
from kdal_cli.types import Batch, Examples, Output, Shape

CONF = Path(__file__).parents[2] / "conf" / "loss"
FILES = sorted(path.stem for path in CONF.glob("*.yaml") if not path.name.startswith("_"))
SHAPE = Shape(3, 8, 8, 5)
EXAMPLES = Examples(torch.arange(16), torch.arange(16) % 5)
CPU = Engine(torch.device("cpu"))

NO_TERMS = {"none"}  # labels only

NOT_ZERO_AT_EQUALITY = {
    "soft_ce": "a cross-entropy exceeds the divergence by the teacher's own entropy",
    "hard_label": "a cross-entropy against the arg max is zero only for a student that is certain",
    "vid": "a log-density, of a mean that a regressor has yet to learn",
}
MAY_BE_NEGATIVE = {
    "vid": "½ log σ² falls below zero with a variance below one",
}

with_terms = pytest.mark.parametrize("name", [name for name in FILES if name not in NO_TERMS])
with_all = pytest.mark.parametrize("name", FILES)


def section(name: str) -> dict[str, Any]:
    loaded = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=True)
    assert isinstance(loaded, dict)
    return loaded  # type: ignore[return-value]


def network(seed: int, *widths: int) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Network(resnet(SHAPE, depth=8, widths=widths), (0.5,) * 3, (0.25,) * 3)


def images(ids: Tensor, labelled: int) -> Batch:
    """The images of `ids`, of which the first have labels; the same id is the same image."""
    every = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    return Batch(ids, torch.zeros_like(ids), every[ids], ids[:labelled] % SHAPE.classes)


BATCH = images(torch.arange(8), labelled=4)


@dataclass
class Bench:
    """A loss as kdal builds it, for two networks of different widths that have stages layer1 to layer3."""

    student: Network
    teacher: Network
    live: LiveTeacher
    objective: Objective

    @property
    def terms(self) -> dict[str, Callable[..., Tensor]]:
        """Each with what is scheduled as it is half way."""
        return {
            name: lambda *outputs, part=part: part.term(*outputs, **{k: s(0.5) for k, s in part.scheduled.items()})
            for name, part in self.objective.parts.items()
        }

    def answers(self, batch: Batch = BATCH) -> tuple[Output, Output]:
        return self.student(batch.pixels), self.live(batch)

    def loss(self, student: Output, teacher: Output, batch: Batch = BATCH) -> Tensor:
        return torch.stack(list(self.objective(student, teacher, batch, 0.5).values())).sum()


def bench(name: str, **changes: Any) -> Bench:
    student, teacher = network(0, 8, 8, 16, 24), network(1, 8, 16, 24, 32)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        objective = plan_loss({**section(name), **changes}, [], SHAPE)(student, teacher, EXAMPLES)
    return Bench(student.train(), teacher, LiveTeacher(teacher, CPU, "fp32"), objective.train())


def leaf(output: Output, logits: Tensor | None = None) -> Output:
    """The same numbers, of which each tensor wants its own gradient."""
    fresh = {name: m.detach().clone().requires_grad_() for name, m in output.maps.items()}
    logits = output.logits if logits is None else logits
    return Output(logits.detach().clone().requires_grad_(), output.features.detach().clone().requires_grad_(), fresh)


def gradients(output: Output) -> list[Tensor]:
    return [t.grad for t in (output.logits, output.features, *output.maps.values()) if t.grad is not None]


def permuted(output: Output, order: Tensor) -> Output:
    return Output(output.logits[order], output.features[order], {name: m[order] for name, m in output.maps.items()})


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# What a term is.


@with_terms
def test_a_term_is_one_number_an_image_or_one_for_the_batch(name: str) -> None:
    loss = bench(name)
    for term in loss.terms.values():
        assert term(*loss.answers(), BATCH).shape in ((len(BATCH.ids),), ())


@with_terms
def test_the_student_learns_from_it(name: str) -> None:
    loss = bench(name)
    for term in loss.terms.values():
        loss.student.zero_grad()
        term(*loss.answers(), BATCH).mean().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.student.parameters())


@with_terms
def test_it_is_zero_when_the_student_equals_the_teacher(name: str) -> None:
    loss = bench(name)
    teacher = loss.live(BATCH)
    for key, term in loss.terms.items():
        if key in NOT_ZERO_AT_EQUALITY:
            continue
        torch.testing.assert_close(term(teacher, teacher, BATCH).mean(), torch.zeros(()), rtol=0, atol=1e-5)


@with_terms
def test_it_is_never_negative(name: str) -> None:
    loss = bench(name)
    student, teacher = loss.answers()
    nearly = Output(teacher.logits + 1e-4 * torch.randn_like(teacher.logits), teacher.features, teacher.maps)
    for key, term in loss.terms.items():
        if key in MAY_BE_NEGATIVE:
            continue
        assert (term(student, teacher, BATCH) >= 0).all()
        assert (term(nearly, teacher, BATCH) >= -1e-5).all()  # T² times the rounding of float32


@pytest.mark.parametrize("key", sorted(NOT_ZERO_AT_EQUALITY.keys() & set(FILES)))
def test_an_exception_to_zero_at_equality_is_one(key: str) -> None:
    teacher, student = network(1, 8, 16, 24, 32), network(1, 8, 16, 24, 32)
    objective = plan_loss(section(key), [], SHAPE)(student, teacher, EXAMPLES)
    answers = teacher.eval()(BATCH.pixels)
    assert objective.parts[key].term(answers, answers, BATCH).mean().abs() > 1e-3


@pytest.mark.parametrize("key", sorted(MAY_BE_NEGATIVE.keys() & set(FILES)))
def test_an_exception_to_non_negative_is_one(key: str) -> None:
    loss = bench(key)
    for parameter in loss.objective.parameters():
        parameter.data.fill_(-4.0 if parameter.dim() == 1 else 0.0)
    blank = Output(torch.zeros(8, 5), torch.zeros(8, 1), {k: 0 * m for k, m in loss.live(BATCH).maps.items()})
    assert (loss.terms[key](loss.answers()[0], blank, BATCH) < 0).all()


def test_every_exception_is_of_a_term_that_there_is() -> None:
    assert {*NOT_ZERO_AT_EQUALITY, *MAY_BE_NEGATIVE} <= set(names(kdal_cli.losses))
    assert set(FILES) >= NO_TERMS


# Numbers.


@with_terms
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_value_and_gradient_are_finite_at_logits_of_ten_thousand(name: str, scale: float) -> None:
    loss = bench(name)
    student, teacher = loss.answers()
    peaks = scale * F.one_hot(torch.arange(8) % 5, 5).float()
    others = scale * F.one_hot((torch.arange(8) + 2) % 5, 5).float()
    ours, theirs = leaf(student, peaks), Output(others, teacher.features, teacher.maps)
    value = loss.loss(ours, theirs)
    value.backward()
    assert value.isfinite()
    assert gradients(ours)
    assert all(gradient.isfinite().all() for gradient in gradients(ours))


@with_terms
def test_outputs_in_bf16_give_a_finite_value_in_float32_and_a_finite_gradient(name: str) -> None:
    loss = bench(name)
    with CPU.autocast("bf16"):
        output = loss.student(BATCH.pixels)
    assert output.logits.dtype == torch.bfloat16
    losses = loss.objective(output, LiveTeacher(loss.teacher, CPU, "bf16")(BATCH), BATCH, 0.5)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    torch.stack(list(losses.values())).sum().backward()
    learnt = [p.grad for p in (*loss.student.parameters(), *loss.objective.parameters()) if p.grad is not None]
    assert learnt
    assert all(gradient.isfinite().all() for gradient in learnt)


@with_terms
def test_bf16_is_near_float32(name: str) -> None:
    loss = bench(name)
    student, teacher = loss.answers()
    half = [Output(o.logits.bfloat16(), o.features.bfloat16(), {k: m.bfloat16() for k, m in o.maps.items()})
            for o in (student, teacher)]  # fmt: skip
    torch.testing.assert_close(loss.loss(*half), loss.loss(student, teacher), rtol=0.05, atol=0.05)


@with_terms
def test_permuting_the_batch_permutes_the_values_and_changes_nothing_else(name: str) -> None:
    loss = bench(name)
    student, teacher = loss.answers()
    order = torch.tensor([3, 6, 0, 7, 1, 5, 2, 4])
    for term in loss.terms.values():
        value = term(student, teacher, BATCH)
        moved = term(permuted(student, order), permuted(teacher, order), images(order, labelled=4))
        expected = value if value.dim() == 0 else value[order]
        torch.testing.assert_close(moved, expected, rtol=1e-6, atol=1e-6)


@with_all
def test_a_batch_of_two_is_enough(name: str) -> None:
    loss = bench(name)
    two = images(torch.tensor([3, 9]), labelled=1)
    value = loss.loss(*loss.answers(two), two)
    value.backward()
    assert value.isfinite()
    assert all(p.grad.isfinite().all() for p in loss.student.parameters() if p.grad is not None)


@with_all
@pytest.mark.parametrize("ids", [[0, 1, 2, 3] * 2, [4] * 8], ids=["each twice", "all the same"])
def test_an_image_may_come_more_than_once(name: str, ids: list[int]) -> None:
    loss = bench(name)
    again = images(torch.tensor(ids), labelled=4)
    value = loss.loss(*loss.answers(again), again)
    value.backward()
    gradient = torch.cat([p.grad.flatten() for p in loss.student.parameters() if p.grad is not None])
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient.norm() < 1e4


# The teacher.


@with_all
def test_no_gradient_reaches_the_teacher(name: str) -> None:
    loss = bench(name)
    loss.loss(*loss.answers()).backward()
    assert all(p.grad is None and not p.requires_grad for p in loss.teacher.parameters())
    assert not {id(p) for p in loss.teacher.parameters()} & {id(p) for p in loss.objective.parameters()}


@with_all
def test_a_training_step_leaves_every_bit_of_the_teacher(name: str) -> None:
    loss = bench(name)
    before, student = snapshot(loss.teacher), snapshot(loss.student)
    learners = nn.ModuleList([loss.student, loss.objective]).train()
    optimizer = torch.optim.SGD(learners.parameters(), lr=0.1)
    loss.loss(*loss.answers()).backward()
    optimizer.step()
    assert same(snapshot(loss.teacher), before)
    assert not same(snapshot(loss.student), student)


@with_all
def test_with_every_weight_of_the_teacher_at_zero_a_step_has_the_bits_of_plain_cross_entropy(name: str) -> None:
    silent: dict[str, Any] = {"weighting": {"form": "convex", "alpha": 0.0, "alpha_on": "soft"}}
    for key, term in section(name).items():
        if isinstance(term, dict) and not term.get("soft", True):  # those that w_soft does not multiply
            silent[key] = {**term, "weight": 0.0}
    loss, plain = bench(name, **silent), bench(name, **silent)
    value = loss.loss(*loss.answers())
    expected = F.cross_entropy(plain.student(BATCH.pixels).logits[:4], BATCH.labels)
    value.backward()
    expected.backward()
    assert torch.equal(value, expected)
    for ours, theirs in zip(loss.student.parameters(), plain.student.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    assert not loss.objective.needs_teacher


# The plan.


@with_all
def test_its_plan_says_weights_and_terms_before_anything_is_spent(name: str) -> None:
    plan = plan_loss(section(name), [], SHAPE)
    assert plan.needs_teacher == (name not in NO_TERMS)
    assert plan.sentence.startswith(f"w_hard {plan.hard:g}, w_soft {plan.soft:g}: ")
    assert all(f" {key}(" in plan.sentence for key in plan.terms)
