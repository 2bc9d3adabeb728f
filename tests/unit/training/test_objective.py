"""The weighted sum: who is compared with whom, at what weight, and what is left out altogether."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.losses.kd import kd, kd_loss
from kdal_cli.training.objective import Objective, Part, Weighting, class_weights
from kdal_cli.training.schedules import Schedule
from kdal_cli.types import Batch, Output

LABELLED, POOL, CLASSES = 3, 5, 4


def outputs(seed: int = 0) -> tuple[Output, Output]:
    rng = torch.Generator().manual_seed(seed)
    student, teacher = (2 * torch.randn(LABELLED + POOL, CLASSES, generator=rng) for _ in range(2))
    return Output(student, student), Output(teacher, teacher)


def batch(labels: int = LABELLED, size: int = LABELLED + POOL) -> Batch:
    return Batch(torch.arange(size), torch.zeros(size), torch.zeros(size, 1, 1, 1), torch.arange(labels) % CLASSES)


def per_image(student: Output, teacher: Output, batch: Batch) -> Tensor:
    """A term whose value is easy to follow: the mean squared difference of the logits, one number an image."""
    return (student.logits - teacher.logits).square().mean(1)


def never(*args: object) -> Tensor:
    raise AssertionError("a term of weight zero was computed")


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def cross_entropy_by_hand(logits: list[list[float]], labels: list[int]) -> float:
    rows = [math.log(math.fsum(map(math.exp, row))) - row[y] for row, y in zip(logits, labels, strict=True)]
    return math.fsum(rows) / len(rows)


@pytest.mark.parametrize(
    ("form", "alpha_on", "hard", "soft"),
    [
        ("convex", "soft", 0.7, 0.3),
        ("convex", "hard", 0.3, 0.7),
        ("additive", "soft", 1.0, 0.3),
        ("additive", "hard", 0.3, 1.0),
    ],
)
def test_alpha_is_shared_as_the_form_says(form: str, alpha_on: str, hard: float, soft: float) -> None:
    assert Weighting(form, 0.3, alpha_on).resolve() == pytest.approx((hard, soft))  # type: ignore[arg-type]


def test_an_additive_alpha_may_exceed_one_and_a_convex_one_may_not() -> None:
    assert Weighting("additive", 9.0).resolve() == (1.0, 9.0)
    with pytest.raises(UserError, match=r"loss\.weighting\.alpha=1\.5: a convex alpha is from 0 to 1"):
        Weighting("convex", 1.5).resolve()


def test_cross_entropy_is_the_mean_over_the_labelled_images_and_sees_no_other() -> None:
    student, teacher = outputs()
    expected = cross_entropy_by_hand(student.logits[:LABELLED].tolist(), batch().labels.tolist())
    losses = Objective(0.5)(student, teacher, batch(), 0.0)
    assert losses["ce"].item() == pytest.approx(0.5 * expected, rel=1e-6)
    student.logits[LABELLED:] = 1e6
    assert torch.equal(Objective(0.5)(student, teacher, batch(), 0.0)["ce"], losses["ce"])


@pytest.mark.parametrize(
    ("on", "rows"), [("labelled", range(3)), ("pool", range(3, 8)), ("both", range(8))], ids=lambda value: str(value)
)
def test_a_term_is_the_mean_over_the_part_of_the_batch_that_it_is_on(on: str, rows: range) -> None:
    student, teacher = outputs(1)
    losses = Objective(0.0, {"gap": Part(per_image, 2.0, on)})(student, teacher, batch(), 0.0)  # type: ignore[arg-type]
    gaps = [math.fsum((s - t) ** 2 for s, t in zip(student.logits[i].tolist(), teacher.logits[i].tolist(), strict=True))
            for i in rows]  # fmt: skip
    assert losses["gap"].item() == pytest.approx(2 * math.fsum(gaps) / CLASSES / len(gaps), rel=1e-6)


@pytest.mark.parametrize(("on", "labels"), [("labelled", LABELLED), ("pool", 0), ("both", LABELLED)])
def test_a_term_is_shown_no_label_of_a_pool_image(on: str, labels: int) -> None:
    seen: list[Batch] = []

    def look(student: Output, teacher: Output, batch: Batch) -> Tensor:
        seen.append(batch)
        return per_image(student, teacher, batch)

    Objective(1.0, {"look": Part(look, 1.0, on)})(*outputs(), batch(), 0.0)  # type: ignore[arg-type]
    assert len(seen[0].labels) == labels
    assert torch.equal(seen[0].labels, batch().labels[:labels])


def test_a_part_of_the_batch_that_is_empty_is_left_out() -> None:
    student, teacher = outputs()
    only_pool = Objective(1.0, {"gap": Part(per_image, 1.0, "labelled")})(student, teacher, batch(labels=0), 0.0)
    assert only_pool == {}
    only_labels = Objective(1.0, {"gap": Part(per_image, 1.0, "pool")})(student[:3], teacher[:3], batch(size=3), 0.0)
    assert list(only_labels) == ["ce"]


def test_the_mean_is_over_the_batch_and_not_over_the_classes() -> None:
    """`reduction="mean"` of a divergence divides by the classes as well: the commonest bug of the field."""
    student, teacher = outputs(2)
    losses = Objective(0.0, {"kd": Part(kd, 1.0)})(student, teacher, batch(), 0.0)
    log_s, log_t = (F.log_softmax(x.logits.double() / 4, 1) for x in (student, teacher))
    whole = 16 * float((log_t.exp() * (log_t - log_s)).sum())
    assert losses["kd"].item() == pytest.approx(whole / (LABELLED + POOL), rel=1e-5)


def test_a_relational_term_counts_as_it_is() -> None:
    relation = Part(lambda s, t, b: s.features.sum() - t.features.sum(), 3.0)
    student, teacher = outputs(3)
    expected = 3 * (student.features.double().sum() - teacher.features.double().sum())
    assert Objective(1.0, {"r": relation})(student, teacher, batch(), 0.0)["r"].item() == pytest.approx(float(expected))


def test_the_loss_is_named_part_by_part_each_with_its_weight() -> None:
    parts = {"one": Part(per_image, 0.5), "two": Part(per_image, 2.0)}
    losses = Objective(1.0, parts)(*outputs(), batch(), 0.0)
    assert list(losses) == ["ce", "one", "two"]
    assert losses["two"].item() == pytest.approx(4 * losses["one"].item())
    assert all(value.shape == () for value in losses.values())


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.75, 1.0])
def test_a_scheduled_weight_and_a_scheduled_temperature_follow_the_progress(progress: float) -> None:
    student, teacher = outputs(4)
    weight, temperature = Schedule("linear", start=0.0, end=2.0), Schedule("linear", start=8.0, end=4.0)
    objective = Objective(1.0, {"kd": Part(kd, weight, scheduled={"temperature": temperature})})
    value = objective(student, teacher, batch(), progress)["kd"]
    expected = 2 * progress * kd_loss(student.logits, teacher.logits, 8 - 4 * progress).mean()
    torch.testing.assert_close(value, expected)
    now = {"kd.weight": 2 * progress, "kd.temperature": 8 - 4 * progress}
    assert objective.settings(progress) == pytest.approx(now)


def test_what_is_constant_is_no_setting_that_a_log_has_to_show() -> None:
    assert Objective(1.0, {"kd": Part(kd, 0.5)}).settings(0.5) == {}


class Learnt(nn.Module):
    """A term with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return (self.scale * student.logits - teacher.logits).square().mean(1)


def test_a_term_of_weight_zero_is_neither_computed_nor_trained() -> None:
    objective = Objective(1.0, {"never": Part(never, 0.0), "learnt": Part(Learnt(), 0.0)})
    assert list(objective(*outputs(), batch(), 0.0)) == ["ce"]
    assert list(objective.parameters()) == []
    assert not objective.needs_teacher


@pytest.mark.parametrize(("on", "needed"), [("labelled", False), ("pool", True), ("both", True)])
def test_a_pool_is_needed_where_a_term_looks_at_it(on: str, needed: bool) -> None:
    assert Objective(1.0, {"kd": Part(kd, 1.0, on)}).needs_pool is needed  # type: ignore[arg-type]
    assert not Objective(1.0, {"kd": Part(kd, 0.0, on)}).needs_pool  # type: ignore[arg-type]


def test_a_term_that_learns_trains_with_the_objective_and_moves_with_it() -> None:
    term = Learnt()
    objective = Objective(1.0, {"learnt": Part(term, 1.0)}).double()
    total(objective(*outputs(), batch(), 0.0)).backward()
    assert [p is term.scale for p in objective.parameters()] == [True]
    assert term.scale.dtype == torch.float64
    assert term.scale.grad != 0


@pytest.mark.parametrize("weighting", [Weighting("convex", 0.0), Weighting("additive", 0.0)], ids=lambda w: w.form)
def test_with_w_soft_zero_value_and_gradient_have_the_bits_of_plain_cross_entropy(weighting: Weighting) -> None:
    hard, soft = weighting.resolve()
    student, teacher = outputs(5)
    logits = student.logits.requires_grad_()
    value = total(Objective(hard, {"kd": Part(kd, soft)})(student, teacher, batch(), 0.0))
    plain = F.cross_entropy(logits[:LABELLED], batch().labels)
    (gradient,), (of_plain,) = torch.autograd.grad(value, logits), torch.autograd.grad(plain, logits)
    assert torch.equal(value, plain)
    assert torch.equal(gradient, of_plain)


def test_a_loss_in_which_every_weight_is_zero_is_refused() -> None:
    with pytest.raises(UserError, match="every weight of the loss is zero"):
        Objective(0.0, {"kd": Part(kd, 0.0)})


def test_without_a_teacher_only_the_labels_count() -> None:
    student, _ = outputs()
    assert list(Objective(1.0, {"kd": Part(kd, 1.0)})(student, None, batch(), 0.0)) == ["ce"]


@pytest.mark.parametrize("make", [lambda: Part(kd, 1.0), lambda: Part(Learnt(), 1.0)], ids=["function", "module"])
def test_what_autocast_left_in_bf16_is_compared_in_float32(make: Callable[[], Part]) -> None:
    student, teacher = outputs(6)
    half = [Output(o.logits.bfloat16(), o.features.bfloat16()) for o in (student, teacher)]
    objective = Objective(1.0, {"term": make()})
    losses = objective(*half, batch(), 0.0)
    exact = objective(*[o.float() for o in half], batch(), 0.0)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert all(torch.equal(losses[name], exact[name]) for name in exact)


def test_float64_stays_float64() -> None:
    student, teacher = outputs(7)
    double = [Output(o.logits.double(), o.features.double()) for o in (student, teacher)]
    losses = Objective(1.0, {"kd": Part(kd, 1.0)})(*double, batch(), 0.0)
    assert {value.dtype for value in losses.values()} == {torch.float64}


# Classes that count differently, and labels that are not believed wholly.


def test_weights_fall_with_the_images_of_a_class_and_are_one_on_the_mean() -> None:
    """8, 2 and no images: balanced 5/8 and 5/2; by the root 10 / (√8 + √2) over √8 and √2."""
    labels = torch.tensor([0] * 8 + [1] * 2)
    assert class_weights(labels, 3, "balanced").tolist() == pytest.approx([0.625, 2.5, 1.0])
    root = [10 / (8**0.5 + 2**0.5) / count**0.5 for count in (8, 2)]
    assert class_weights(labels, 3, "sqrt").tolist() == pytest.approx([*root, 1.0])
    for kind in ("balanced", "sqrt"):
        assert float(class_weights(labels, 3, kind)[labels].mean()) == pytest.approx(1.0)  # type: ignore[index]
    assert class_weights(labels, 3, "none") is None


def test_cross_entropy_with_class_weights_is_the_weighted_sum_over_the_number_of_images() -> None:
    student, weights = outputs()[0], torch.tensor([0.5, 2.0, 1.0, 3.0, 1.0])[: outputs()[0].logits.shape[1]]
    data = batch()
    each = F.cross_entropy(student.logits[:LABELLED], data.labels, reduction="none")
    got = Objective(class_weights=weights)(student, None, data, 0.0)["ce"]
    assert float(got) == pytest.approx(float((weights[data.labels] * each).sum() / LABELLED))


def test_a_smoothed_label_is_shared_among_all_classes() -> None:
    student, data = outputs()[0], batch()
    classes = student.logits.shape[1]
    target = 0.9 * F.one_hot(data.labels, classes) + 0.1 / classes
    got = Objective()(student, None, data, 0.0, smoothing=0.1)["ce"]
    assert float(got) == pytest.approx(float(F.cross_entropy(student.logits[:LABELLED], target)))
