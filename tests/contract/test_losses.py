"""Every file of conf/loss through one list of laws (METHODS.md, section 1). A new file is covered when it arrives.

Where a term should not obey a law, it is named in a table here, with the reason; and the exception is tested too.
B batch, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn

import kdal_cli.losses
from kdal_cli.compose.loss import plan_loss
from kdal_cli.compose.registry import names
from kdal_cli.dataset import Shape
from kdal_cli.devices.engine import Engine
from kdal_cli.models.resnet import resnet
from kdal_cli.models.simkd import simkd
from kdal_cli.network import Network
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.sight import look
from kdal_cli.types import Batch, Examples, Output

CONF = Path(__file__).parents[2] / "conf" / "loss"
FILES = sorted(path.stem for path in CONF.glob("*.yaml") if not path.name.startswith("_"))
SHAPE = Shape(3, 8, 8, 5)
EXAMPLES = Examples(torch.arange(16), torch.arange(8) % 5)
CPU = Engine(torch.device("cpu"))

NO_TERMS = {"none"}  # labels only

NO_TEACHER = {
    "confidence_penalty": "it is the entropy of the student's own answers",
    "entropy_minimisation": "it is the entropy of the student's own answers",
    "gradient_norm": "it bounds the student's own slope",
    "fixmatch": "it compares two views that the student sees",
    "freematch": "it compares two views that the student sees",
    "comatch": "it compares three views that the student sees",
    "simmatch": "it compares two views that the student sees",
    "uda": "it compares two views that the student sees",
    "pseudo_label": "the student's own first choice is the label",
    "mean_teacher": "the mean of the student's own weights is the teacher",
}
EAGER = {  # settings with which a student learns that has not learnt yet: else it is sure of nothing
    "fixmatch": {"threshold": 0.0},
    "comatch": {"threshold": 0.0},
    "simmatch": {"threshold": 0.0},
    "uda": {"threshold": 0.0},
    "pseudo_label": {"threshold": 0.0},
}
MOVES = {
    "freematch": "its thresholds follow the answers",
    "mean_teacher": "its mean follows the weights",
    "comatch": "its memory follows the answers",
    "simmatch": "its memory follows the embeddings",
}
STUDENTS: dict[str, Callable[[nn.Module], nn.Module]] = {  # of a loss that is for one kind of student
    "simkd": lambda body: simkd(SHAPE, backbone=body, features=32),
}
NOT_ZERO_AT_EQUALITY = {
    "ab": "a neuron is to be a margin away from zero, and its connector has yet to be learned",
    "cc": "the two embeddings have yet to be learned",
    "fitnet": "the regressor has yet to be learned",
    "ft": "the translator has yet to be learned",
    "confidence_penalty": "it compares no answers",
    "entropy_minimisation": "it compares no answers",
    "barlow_twins": "the teacher's features correlate with each other",
    "byol": "the prediction is of a predictor that has yet to learn",
    "crd": "an image is told from others by embeddings that have yet to be learned",
    "nt_xent": "an image is told from others by embeddings that have yet to be learned",
    "review_kd": "what is compared with the teacher's maps is fused by convolutions that have yet to learn",
    "fixmatch": "it compares no answers of a teacher",
    "freematch": "it compares no answers of a teacher",
    "comatch": "it compares no answers of a teacher",
    "simmatch": "it compares no answers of a teacher",
    "uda": "it compares no answers of a teacher",
    "pseudo_label": "it compares no answers of a teacher",
    "mean_teacher": "the answers that it compares are not the teacher's",
    "adversarial": "the student's answer to an attacked image is compared with the teacher's to the clean one",
    "gradient_norm": "it compares no answers",
    "soft_ce": "a cross-entropy exceeds the divergence by the teacher's own entropy",
    "hard_label": "a cross-entropy against the arg max is zero only for a student that is certain",
    "label_embedding": "the teacher is compared with a layer on the features that has yet to be learned",
    "ofa": "a cross-entropy, and of branches that have yet to be learned",
    "rld": "where the label is not the teacher's first choice, the confidence in that goes to the label",
    "ttm": "the teacher is softened and the student is not",
    "wsld": "a cross-entropy exceeds the divergence by the teacher's own entropy",
    "wttm": "the teacher is softened and the student is not",
    "vid": "a log-density, of a mean that a regressor has yet to learn",
}
DRAWS = {  # random numbers, and the setting with which it draws none, if there is one
    "adversarial": {"attack": "fgsm"},
    "crd": None,
}
IN_ORDER = {
    "cc": "it multiplies the differences of neighbours in the batch",
}
MAY_BE_NEGATIVE = {
    "confidence_penalty": "an entropy that is subtracted is never above zero",
    "freematch": "the distance from the answers of late is to be large",
    "vid": "½ log σ² falls below zero with a variance below one",
}

LOWEST = {"freematch": {"fairness": 100.0}}  # settings with which a term is negative for an untrained student

with_terms = pytest.mark.parametrize("name", [name for name in FILES if name not in NO_TERMS])
with_all = pytest.mark.parametrize("name", FILES)


def section(name: str) -> dict[str, Any]:
    loaded = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=True)
    assert isinstance(loaded, dict)
    loaded.pop("defaults", None)  # what it shares with others is what the code has by default
    return loaded  # type: ignore[return-value]


def network(seed: int, *widths: int, loss: str = "") -> Network:
    """loss: the one that it is a student of."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = resnet(SHAPE, depth=8, widths=widths)
        return Network(STUDENTS[loss](body) if loss in STUDENTS else body, (0.5,) * 3, (0.25,) * 3)


def images(ids: Tensor, labelled: int) -> Batch:
    """The images of `ids`, of which the first have labels; the same id is the same image."""
    every = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    other = every.flip(3)
    return Batch(
        ids,
        torch.zeros_like(ids),
        every[ids],
        ids[:labelled] % SHAPE.classes,
        again=other[ids],
        strong=other[ids],
        second=every.flip(2)[ids],
    )


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
        """Each with what is scheduled as it is half way, and the other views that it asks for."""

        def call(part: Part, student: Output, teacher: Output, batch: Batch) -> Tensor:
            shown = {"strong": student.strong or student, "second": student.second or student, "again": batch.again}
            others = {other: shown[other] for other in part.others}
            return part.term(student, teacher, batch, **others, **{k: s(0.5) for k, s in part.scheduled.items()})

        return {name: partial(call, part) for name, part in self.objective.parts.items()}

    def answers(self, batch: Batch = BATCH) -> tuple[Output, Output]:
        seen = replace(batch, **{other: None for other in ("strong", "second") if other not in self.objective.more})
        return look(self.student, seen), self.live(batch)

    def equal(self) -> tuple[Output, Output]:
        """The teacher's answer, as the student's and as its own: what the two call their maps may differ.

        Where the teacher shows no maps, those of the student are its own.
        """
        answer, ours = self.live(BATCH), self.student._tapped
        maps = dict(zip(ours, answer.maps.values(), strict=True)) if answer.maps else self.answers()[0].maps
        return replace(answer, maps=maps), answer

    def loss(self, student: Output, teacher: Output, batch: Batch = BATCH) -> Tensor:
        """Of the same random numbers each time."""
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return torch.stack(list(self.objective(student, teacher, batch, 0.5).values())).sum()


def bench(name: str, twins: bool = False, **changes: Any) -> Bench:
    """twins: the two networks are equal."""
    changes = eager(name) | changes
    teacher = network(1, 8, 16, 24, 32)
    student = network(1, 8, 16, 24, 32, loss=name) if twins else network(0, 8, 8, 16, 24, loss=name)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        objective = plan_loss({**section(name), **changes}, [], SHAPE)(student, teacher, EXAMPLES)
    return Bench(student.train(), teacher, LiveTeacher(teacher, CPU, "fp32"), objective.train())


def eager(name: str) -> dict[str, Any]:
    """What makes a student learn by a loss before it has learnt anything."""
    return {name: {**section(name)[name], **EAGER[name]}} if name in EAGER else {}


def undrawn(name: str) -> dict[str, Any]:
    """What makes a loss draw no random numbers."""
    return {key: {**term, **DRAWS[key]} for key, term in section(name).items() if DRAWS.get(key)}


def leaf(output: Output, logits: Tensor | None = None) -> Output:
    """The same numbers, of which each tensor wants its own gradient."""
    fresh = {name: m.detach().clone().requires_grad_() for name, m in output.maps.items()}
    logits = (output.logits if logits is None else logits).detach().clone().requires_grad_()
    views = {"strong": output.strong, "second": output.second}
    others = {name: leaf(view, logits) for name, view in views.items() if view is not None}
    features = output.features.detach().clone().requires_grad_()
    return replace(output, logits=logits, features=features, maps=fresh, **others)


def gradients(output: Output) -> list[Tensor]:
    return [t.grad for t in (output.logits, output.features, *output.maps.values()) if t.grad is not None]


def permuted(output: Output, order: Tensor) -> Output:
    return output.each(lambda tensor: tensor[order])


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
    loss = bench(name, twins=True)
    for key, term in loss.terms.items():
        if key in NOT_ZERO_AT_EQUALITY:
            continue
        torch.testing.assert_close(term(*loss.equal(), BATCH).mean(), torch.zeros(()), rtol=0, atol=1e-5)


@with_terms
def test_it_is_never_negative(name: str) -> None:
    loss, twins = bench(name), bench(name, twins=True)
    student, teacher = loss.answers()
    equal, theirs = twins.equal()
    nearly = replace(equal, logits=theirs.logits + 1e-4 * torch.randn_like(theirs.logits))
    for key, term in loss.terms.items():
        if key in MAY_BE_NEGATIVE:
            continue
        assert (term(student, teacher, BATCH) >= 0).all()
        assert (twins.terms[key](nearly, theirs, BATCH) >= -1e-4).all()  # T² times the rounding of float32, T to 15.6


@pytest.mark.parametrize("key", sorted(NOT_ZERO_AT_EQUALITY.keys() & set(FILES)))
def test_an_exception_to_zero_at_equality_is_one(key: str) -> None:
    teacher, student = network(1, 8, 16, 24, 32), network(1, 8, 16, 24, 32)
    objective = plan_loss({**section(key), **eager(key)}, [], SHAPE)(student, teacher, EXAMPLES)
    loss = Bench(student.eval(), teacher.eval(), LiveTeacher(teacher, CPU, "fp32"), objective)
    assert loss.terms[key](*loss.answers(), BATCH).mean().abs() > 1e-3


@pytest.mark.parametrize("key", sorted(MAY_BE_NEGATIVE.keys() & set(FILES)))
def test_an_exception_to_non_negative_is_one(key: str) -> None:
    loss = bench(key, **{key: {**section(key)[key], **LOWEST.get(key, {})}})
    for parameter in loss.objective.parameters():
        parameter.data.fill_(-4.0 if parameter.dim() == 1 else 0.0)
    blank = Output(torch.zeros(8, 5), torch.zeros(8, 1), {k: 0 * m for k, m in loss.live(BATCH).maps.items()})
    assert (loss.terms[key](loss.answers()[0], blank, BATCH) < 0).all()


@pytest.mark.parametrize("key", sorted(DRAWS.keys() & set(FILES)))
def test_a_term_that_draws_does_so_and_its_setting_stops_that(key: str) -> None:
    for changes, draws in (({}, True), (undrawn(key), False))[: 2 if DRAWS[key] else 1]:
        loss = bench(key, **changes)
        loss.student.eval()
        student, teacher = loss.answers()
        one, two = (loss.terms[key](student, teacher, BATCH) for _ in range(2))
        assert torch.equal(one, two) is not draws


def test_every_exception_is_of_a_term_that_there_is() -> None:
    exceptions = {*EAGER, *MOVES, *NO_TEACHER, *NOT_ZERO_AT_EQUALITY, *MAY_BE_NEGATIVE, *DRAWS, *IN_ORDER}
    assert exceptions <= set(names(kdal_cli.losses))
    assert set(FILES) >= NO_TERMS


# Numbers.


@with_terms
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_value_and_gradient_are_finite_at_logits_of_ten_thousand(name: str, scale: float) -> None:
    loss = bench(name)
    student, teacher = loss.answers()
    peaks = scale * F.one_hot(torch.arange(8) % 5, 5).float()
    others = scale * F.one_hot((torch.arange(8) + 2) % 5, 5).float()

    def sharp(pixels: Tensor) -> Output:
        output = loss.student(pixels)
        return replace(output, logits=scale * output.logits / output.logits.detach().abs().max())

    ours, theirs = replace(leaf(student, peaks), model=sharp), replace(teacher, logits=others)
    value = loss.loss(ours, theirs)
    value.backward()
    learnt = [*gradients(ours), *(p.grad for p in loss.student.parameters() if p.grad is not None)]
    assert value.isfinite()
    assert learnt
    assert all(gradient.isfinite().all() for gradient in learnt)


@with_terms
def test_outputs_in_bf16_give_a_finite_value_in_float32_and_a_finite_gradient(name: str) -> None:
    loss = bench(name)
    with CPU.autocast("bf16"):
        output, _ = loss.answers()
    assert output.logits.dtype == torch.bfloat16
    losses = loss.objective(output, LiveTeacher(loss.teacher, CPU, "bf16")(BATCH), BATCH, 0.5)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    torch.stack(list(losses.values())).sum().backward()
    learnt = [p.grad for p in (*loss.student.parameters(), *loss.objective.parameters()) if p.grad is not None]
    assert learnt
    assert all(gradient.isfinite().all() for gradient in learnt)


@with_terms
def test_bf16_is_near_float32(name: str) -> None:
    loss, again = bench(name), bench(name)  # twice, for the terms that remember
    student, teacher = loss.answers()
    half = [output.each(Tensor.bfloat16) for output in (student, teacher)]
    torch.testing.assert_close(again.loss(*half), loss.loss(student, teacher), rtol=0.05, atol=0.05)


@with_terms
def test_permuting_the_batch_permutes_the_values_and_changes_nothing_else(name: str) -> None:
    loss = bench(name, **undrawn(name))
    loss.student.eval()  # its running statistics stay as they are
    student, teacher = loss.answers()
    order = torch.tensor([3, 0, 2, 1, 6, 4, 7, 5])  # the labelled part stays the first
    for key, term in loss.terms.items():
        if DRAWS.get(key, {}) is None or key in IN_ORDER:
            continue  # what is drawn for one place of the batch is not what is drawn for another
        loss.objective.train(key not in MOVES)
        value = term(student, teacher, BATCH)
        moved = term(permuted(student, order), permuted(teacher, order), images(order, labelled=4))
        expected = value if value.dim() == 0 else value[order]
        torch.testing.assert_close(moved, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("key", sorted(IN_ORDER.keys() & set(FILES)))
def test_a_term_to_which_the_order_of_the_batch_matters_is_one(key: str) -> None:
    loss, order = bench(key), torch.tensor([3, 0, 2, 1, 6, 4, 7, 5])
    student, teacher = loss.answers()
    value = loss.terms[key](student, teacher, BATCH)
    moved = loss.terms[key](permuted(student, order), permuted(teacher, order), images(order, labelled=4))
    assert (moved - value).abs().max() > 1e-3 * value.abs().max()


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
        if (
            isinstance(term, dict) and "name" in term and not term.get("soft", False)
        ):  # those that w_soft does not multiply
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
    assert plan.needs_teacher == (name not in NO_TERMS and not set(plan.terms) <= NO_TEACHER.keys())
    assert plan.sentence.startswith(f"w_hard {plan.hard:g}, w_soft {plan.soft:g}: ")
    assert all(f" {key}(" in plan.sentence for key in plan.terms)
