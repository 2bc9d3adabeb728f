"""Temperature and reject option: closed forms, and what no calibration may change."""

import math

import pytest
import torch

from kdal_cli.metrics.confidence import calibrate, conformal, reject_curve, spoken, temperature, threshold_for
from kdal_cli.types import Calibration


def made(n: int = 4000, scale: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose softmax at temperature `scale` is the true distribution of the labels."""
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, 5, generator=rng)
    labels = torch.multinomial(logits.softmax(1), 1, generator=rng).flatten()
    return scale * logits, labels


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_scale(scale) -> None:
    assert temperature(*made(scale=scale)) == pytest.approx(scale, rel=0.08)


def test_two_classes_have_a_closed_form() -> None:
    logits = torch.tensor([[2.0, 0.0]]).repeat(8, 1)
    labels = torch.tensor([0] * 6 + [1] * 2)
    right = (6 * 9 / 10 + 2 / 10) / 8  # the mean of Platt's targets for class 0
    assert temperature(logits, labels) == pytest.approx(2 / math.log(right / (1 - right)), rel=1e-3)


def test_where_every_answer_is_right_it_stays_away_from_zero() -> None:
    logits = torch.eye(4).repeat(10, 1) * 5
    assert 0.2 < temperature(logits, torch.arange(4).repeat(10)) < 2


def test_a_temperature_changes_no_answer_and_helps_the_ece() -> None:
    logits, labels = made(scale=4.0)
    found = calibrate(logits, labels)
    assert torch.equal((logits / found.temperature).argmax(1), logits.argmax(1))
    assert found.ece[1] < found.ece[0] / 4


def test_the_curve_of_four_images_is_counted_by_hand() -> None:
    logits = torch.tensor([[4.0, 0], [3.0, 0], [2.0, 0], [1.0, 0]])
    curve = reject_curve(logits, torch.tensor([0, 0, 1, 0]))
    sure = logits.double().softmax(1)[:, 0].tolist()
    assert [row[0] for row in curve] == pytest.approx([0, sure[2], sure[1], sure[0]])
    assert [row[1:] for row in curve] == [
        (1.0, 0.75),
        (0.75, pytest.approx(2 / 3)),
        (0.5, 1.0),
        (0.25, 1.0),
    ]
    assert threshold_for(curve, 0.9) == pytest.approx(sure[1])
    assert threshold_for(curve, 0.7) == 0


def test_images_that_are_equally_sure_are_answered_together() -> None:
    curve = reject_curve(torch.tensor([[1.0, 0]] * 6), torch.tensor([0, 0, 0, 1, 1, 1]))
    assert curve == ((0.0, 1.0, 0.5),)


def test_a_threshold_brings_half_of_the_errors_down() -> None:
    logits, labels = made()
    found = calibrate(logits, labels)
    confidence, answer = (logits / found.temperature).double().softmax(1).max(1)
    kept = confidence >= found.threshold
    assert (answer == labels)[kept].double().mean() >= (1 + (answer == labels).double().mean()) / 2
    assert len(found.curve) <= 50
    assert "4,000 validation images" in spoken(found)


def test_where_the_surest_answers_are_the_wrong_ones_nothing_is_withheld() -> None:
    labels = torch.arange(80) % 2
    sure = torch.where(torch.arange(80) < 20, 5.0, 1.0)  # of which every answer is wrong
    answers = torch.where(sure > 1, 1 - labels, labels)
    found = calibrate(torch.nn.functional.one_hot(answers, 2) * sure[:, None], labels)
    assert found.threshold == 0.0
    assert "answers 100% of the images at 75.0% accuracy" in spoken(found)


def test_a_set_of_four_images_is_counted_by_hand() -> None:
    logits = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]).log()
    found = conformal(logits, torch.tensor([0, 0, 0, 1]))  # of the true class: .9, .8, .7, .4
    assert [share for share, _ in found] == pytest.approx([2 / 5, 3 / 5, 4 / 5])
    assert [low for _, low in found] == pytest.approx([0.8, 0.7, 0.4])


@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_sets_hold_the_true_class_as_often_as_they_say_however_wrong_the_probabilities_are(scale: float) -> None:
    """Over many draws of validation images; and not much more often, as sets of all classes would."""
    n, draws = 60, 400
    logits, labels = made(n=(n + 50) * draws, scale=scale)
    covered = {2 / 3: [], 0.95: []}
    for z, y in zip(logits.split(n + 50), labels.split(n + 50), strict=True):
        levels = conformal(z[:n], y[:n])
        theirs = z[n:].double().softmax(1).gather(1, y[n:, None]).flatten()
        for wanted, shares in covered.items():
            share, low = next(level for level in levels if level[0] >= wanted)
            assert share < wanted + 2 / (n + 1)
            shares.append(float((theirs >= low).double().mean()))
    for wanted, shares in covered.items():
        mean = sum(shares) / draws
        assert wanted - 0.01 < mean < wanted + 2 / (n + 1) + 0.01


def test_sets_promise_no_more_than_their_images_can_and_keep_few_levels() -> None:
    found = calibrate(*made()).sets
    assert len(found) <= 100
    assert found[-1][0] == pytest.approx(4000 / 4001)
    shares, lows = zip(*found, strict=True)
    assert list(shares) == sorted(shares)
    assert list(lows) == sorted(lows, reverse=True)


ALL, SOME = "answers 100% of the images at 97.0% accuracy (of 80", "at 97.0% accuracy, the others are unsure (of 80"


@pytest.mark.parametrize(("share", "told"), [(1.0, ALL), (0.5, SOME)])
def test_nobody_is_unsure_where_all_are_answered(share: float, told: str) -> None:
    assert told in spoken(Calibration(1.2, 80, (0.02, 0.01), 0.4, ((0.4, share, 0.97),)))
