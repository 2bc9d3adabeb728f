"""Terms on unlabelled images: closed forms, the references' functions written out anew, and what they remember.

z logits, p weak answers, C classes.
"""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.losses._semi import Running, aligned
from kdal_cli.losses.fixmatch import Fixmatch, fixmatch_loss
from kdal_cli.losses.freematch import Freematch, fairness_loss, thresholds
from kdal_cli.losses.mean_teacher import MeanTeacher, consistency_loss
from kdal_cli.losses.pseudo_label import PseudoLabel
from kdal_cli.losses.uda import Uda, uda_loss
from kdal_cli.network import Network
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(6), torch.zeros(0, dtype=torch.int64))
BATCH = Batch(torch.arange(6), torch.zeros(6), torch.zeros(6, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def logits(seed: int, batch: int = 6, classes: int = 5) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def output(z: Tensor) -> Output:
    return Output(z, z)


def made(kind: Callable[..., nn.Module], **settings: float) -> nn.Module:
    return kind(output(logits(0)), None, EXAMPLES, **settings).train()


# FixMatch, UDA, pseudo-labels.


def test_fixmatch_counts_who_is_sure_and_divides_by_all() -> None:
    probs = torch.tensor([[0.96, 0.04], [0.94, 0.06], [0.05, 0.95]], dtype=torch.float64)
    strong = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, math.log(3)]], dtype=torch.float64)
    loss, mask = fixmatch_loss(probs, strong, 0.95)
    assert mask.tolist() == [True, False, True]
    assert loss.tolist() == pytest.approx([math.log(2), 0.0, math.log(4 / 3)], abs=1e-12)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.95])
def test_fixmatch_is_the_authors_formula(threshold: float) -> None:
    weak, strong = logits(1, 64), logits(2, 64)
    probs = torch.softmax(weak, -1)
    confidence, target = torch.max(probs, -1)
    expected = (F.cross_entropy(strong, target, reduction="none") * confidence.ge(threshold).double()).mean()
    value = made(Fixmatch, threshold=threshold)(output(weak), None, BATCH, output(strong)).mean()
    assert value.item() == pytest.approx(expected.item(), abs=1e-9)


def test_uda_is_its_sum_written_out() -> None:
    weak, strong = logits(3, 64), logits(4, 64)
    expected = []
    for w, s in zip(weak.tolist(), strong.tolist(), strict=True):
        p, sharp, q = ([math.exp(x / t) for x in z] for z, t in ((w, 1.0), (w, 0.4), (s, 1.0)))
        p, sharp, q = ([x / sum(part) for x in part] for part in (p, sharp, q))
        apart = sum(a * math.log(a / b) for a, b in zip(sharp, q, strict=True))
        expected.append(apart if max(p) >= 0.8 else 0.0)
    loss, mask = uda_loss(weak, strong, 0.4, 0.8)
    assert 0 < mask.sum() < 64
    assert loss.tolist() == pytest.approx(expected, abs=1e-9)


def test_a_pseudo_label_is_the_students_own_first_choice() -> None:
    z = torch.tensor([[math.log(99), 0.0], [math.log(9), 0.0]], dtype=torch.float64)
    assert made(PseudoLabel)(output(z), None, BATCH).tolist() == pytest.approx([-math.log(0.99), 0.0], abs=1e-12)
    assert made(PseudoLabel, threshold=0.0)(output(z), None, BATCH)[1].item() == pytest.approx(-math.log(0.9))


@pytest.mark.parametrize("kind", [Fixmatch, Uda, Freematch])
def test_no_gradient_passes_through_the_weak_view(kind: Callable[..., nn.Module]) -> None:
    weak, strong = 4 * logits(5).requires_grad_(), logits(6).requires_grad_()
    weak.retain_grad()
    made(kind)(output(weak), None, BATCH, output(strong)).mean().backward()
    assert weak.grad is None
    assert strong.grad is not None
    assert strong.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [Fixmatch, Uda, Freematch])
def test_the_log_says_who_counted_of_late(kind: Callable[..., nn.Module]) -> None:
    term = made(kind)
    certain = 50 * F.one_hot(torch.arange(6) % 5, 5).double()
    term(output(certain), None, BATCH, output(logits(6)))
    assert term.learned()["mask"] == 1.0  # type: ignore[operator]
    term(output(torch.zeros(6, 5).double()), None, BATCH, output(logits(6)))
    assert term.learned()["mask"] == pytest.approx(0.95)  # type: ignore[operator]


# Answers that are balanced between the classes.


def test_alignment_makes_an_even_mean_change_nothing_and_lowers_what_is_said_too_often() -> None:
    probs = logits(7).softmax(1)
    even = torch.full((5,), 0.2, dtype=torch.float64)
    torch.testing.assert_close(aligned(probs, even), probs, rtol=0, atol=1e-12)
    often = torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1], dtype=torch.float64)
    turned = aligned(probs, often)
    assert (turned[:, 0] < probs[:, 0]).all()
    torch.testing.assert_close(turned.sum(1), torch.ones(6, dtype=torch.float64))


def test_fixmatch_aligns_by_the_first_mean_and_then_by_one_that_follows() -> None:
    term, mean = made(Fixmatch, align=True, threshold=0.0, momentum=0.9), None
    for seed in range(4):
        weak, strong = logits(seed), logits(seed + 10)
        probs = weak.softmax(1)
        mean = probs.mean(0) if mean is None else 0.9 * mean + 0.1 * probs.mean(0)
        ratio = probs * (0.2 + 1e-6) / (mean + 1e-6)
        choice = (ratio / ratio.sum(1, keepdim=True)).argmax(1)
        expected = F.cross_entropy(strong, choice, reduction="none")
        torch.testing.assert_close(term(output(weak), None, BATCH, output(strong)), expected, rtol=0, atol=1e-9)


def test_a_mean_stands_still_outside_training() -> None:
    running = Running(0.5, torch.tensor(1.0)).eval()
    assert float(running(torch.tensor(3.0))) == 1.0
    assert float(running.train()(torch.tensor(3.0))) == 2.0
    assert float(running.value) == 2.0


# FreeMatch.


def reference(weaks: list[Tensor], strong: Tensor, momentum: float, start: float) -> tuple[Tensor, Tensor]:
    """(masked cross-entropy, fairness) of the last batch: the hook and the entropy loss of USB, written anew."""
    c = strong.shape[1]
    time, model, hist = start, torch.full((c,), start).double(), torch.full((c,), start).double()
    for weak in weaks:
        probs = weak.softmax(-1)
        confidence, choice = probs.max(-1)
        time = time * momentum + (1 - momentum) * confidence.mean()
        model = model * momentum + (1 - momentum) * probs.mean(0)
        counts = torch.bincount(choice, minlength=c).double()
        hist = hist * momentum + (1 - momentum) * counts / counts.sum()
    mask = confidence >= time * (model / model.max())[choice]
    ce = (F.cross_entropy(strong, choice, reduction="none") * mask).mean()
    kept = strong[mask].softmax(-1)
    strong_hist = torch.bincount(kept.argmax(-1), minlength=c).double()
    strong_hist = strong_hist / strong_hist.sum()
    inverse = [torch.where(h > 0, 1 / h, torch.zeros_like(h)) for h in (hist, strong_hist)]
    goal, here = model * inverse[0], kept.mean(0) * inverse[1]
    return ce, (goal / goal.sum() * torch.log(here / here.sum() + 1e-12)).sum()


def test_freematch_is_the_authors_step_by_step() -> None:
    term = Freematch(output(logits(0, classes=4)), None, EXAMPLES, momentum=0.7).double()
    weaks, strong = [logits(seed, 32, 4) for seed in range(5)], logits(9, 32, 4)
    for step, weak in enumerate(weaks):
        value = term(output(weak), None, BATCH, output(strong)).mean()
        ce, fair = reference(weaks[: step + 1], strong, 0.7, 0.25)
        assert value.item() == pytest.approx((ce + 0.01 * fair).item(), abs=1e-9)
    sure = [weak.softmax(1).amax(1).mean().item() for weak in weaks]
    expected = 0.25 * 0.7**5 + sum(0.3 * 0.7 ** (4 - n) * each for n, each in enumerate(sure))
    assert term.learned()["threshold"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_fairness_is_the_authors_to_the_ninth_digit(seed: int) -> None:
    weak, strong = logits(seed, 32), logits(seed + 5, 32)
    probs = weak.softmax(-1)
    histogram = F.one_hot(probs.argmax(-1), 5).double().mean(0)
    mask = probs.amax(-1) >= thresholds(probs.amax(-1).mean(), probs.mean(0))[probs.argmax(-1)]
    ours = fairness_loss(strong, mask, probs.mean(0), histogram)
    assert ours.item() == pytest.approx(reference([weak], strong, 0.0, 0.2)[1].item(), abs=1e-9)


def test_fairness_is_nothing_and_has_a_finite_gradient_where_nobody_counts() -> None:
    strong, even = logits(1).requires_grad_(), torch.full((5,), 0.2, dtype=torch.float64)
    value = fairness_loss(strong, torch.zeros(6, dtype=torch.bool), even, even)
    value.backward()
    assert value.item() == 0
    assert strong.grad is not None
    assert not strong.grad.abs().sum()


def test_the_threshold_of_a_class_is_lower_where_the_class_is_rare() -> None:
    found = thresholds(torch.tensor(0.8), torch.tensor([0.5, 0.25, 0.25]))
    assert found.tolist() == pytest.approx([0.8, 0.4, 0.4])


# The mean teacher.


def test_consistency_is_the_mean_over_the_classes_of_the_squared_difference() -> None:
    one, two = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[0.0, 0.0]])
    assert consistency_loss(one, two).item() == pytest.approx(0.25**2)


def small() -> Network:
    return Network(nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)), (0.0,), (1 / 255,))


def test_the_mean_of_the_weights_is_an_equal_one_first_and_then_keeps_its_share() -> None:
    network, pixels = small(), torch.randint(0, 256, (6, 1, 2, 2), dtype=torch.uint8)
    term = MeanTeacher(network(pixels), None, EXAMPLES, decay=0.6).train()
    mean = torch.zeros(3, 4)
    for step, d in enumerate([0.0, 0.5, 0.6, 0.6]):  # 1 - 1/(t + 1), up to the decay
        network.body[1].weight.data.fill_(float(step))  # type: ignore[index, union-attr]
        term(network(pixels), None, BATCH, pixels)
        mean = d * mean + (1 - d) * step
        torch.testing.assert_close(term.average.body[1].weight, mean)  # type: ignore[index, union-attr]
    term.eval()(network(pixels), None, BATCH, pixels)
    assert int(term.steps) == 4


def test_a_mean_teacher_looks_at_the_other_view_and_does_not_learn() -> None:
    network = small()
    pixels, again = torch.randint(0, 256, (2, 6, 1, 2, 2), dtype=torch.uint8)
    term = MeanTeacher(network(pixels), None, EXAMPLES).train()
    value = term(network(pixels), None, BATCH, again)
    expected = (network(pixels).logits.softmax(1) - network(again).logits.softmax(1)).square().mean(1)
    torch.testing.assert_close(value, expected)
    assert not [p for p in term.parameters() if p.requires_grad]
