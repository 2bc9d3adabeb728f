"""Accuracy, likelihood and per-class measures against hand-computed values, scikit-learn and laws."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support
from torch import Tensor

from kdal_cli.errors import MachineError
from kdal_cli.metrics.classification import accuracy, agreement, confusion, macro, measure, nll, per_class

laws = settings(max_examples=60, deadline=None)


@st.composite
def answers(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """logits (N, C) in one of four types, labels (N,); classes without images and ties are common."""
    images, classes = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.0, 1.0, 30.0, 1e4]))
    dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
    logits = (torch.randn(images, classes, generator=rng) * scale).to(dtype)
    return logits, torch.randint(classes, (images,), generator=rng)


def perfect(labels: Tensor, classes: int) -> Tensor:
    """Logits of ±1e4 that name the label: (N,) -> (N, C)."""
    return torch.nn.functional.one_hot(labels, classes).float() * 2e4 - 1e4


def test_by_hand() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, math.log(2)]])
    labels = torch.tensor([0, 1, 2])
    assert accuracy(logits, labels) == pytest.approx(2 / 3)  # the tie in the second row goes to class 0
    by_row = [math.log(math.e**2 + math.e + 1) - 2, math.log(3), math.log(2)]
    assert nll(logits, labels) == pytest.approx(sum(by_row) / 3, abs=1e-7)


def test_a_tie_goes_to_the_lowest_class() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0], [5.0, 5.0, 5.0]])
    assert accuracy(logits, torch.tensor([1, 0])) == 1
    assert accuracy(logits, torch.tensor([2, 1])) == 0


def test_confusion_has_the_truth_in_rows() -> None:
    found = confusion(predicted=torch.tensor([1, 1, 2]), labels=torch.tensor([0, 1, 1]), classes=4)
    assert found.dtype == torch.int64
    assert found.tolist() == [[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_classes_without_images_or_answers_count_as_zero() -> None:
    each = per_class(torch.tensor([[3, 0, 1], [0, 0, 0], [2, 0, 0]]))
    assert each.precision.tolist() == [3 / 5, 0, 0]
    assert each.recall.tolist() == [3 / 4, 0, 0]
    assert each.f1.tolist() == [6 / 9, 0, 0]
    assert each.support.tolist() == [4, 0, 2]


@pytest.mark.filterwarnings("ignore:A single label was found")  # scikit-learn, where C = 1
@laws
@given(answers())
def test_confusion_and_macro_are_those_of_scikit_learn(case: tuple[Tensor, Tensor]) -> None:
    logits, labels = case
    predicted, classes = logits.argmax(dim=1), logits.shape[1]
    found = confusion(predicted, labels, classes)
    everything = list(range(classes))
    assert (found.numpy() == confusion_matrix(labels, predicted, labels=everything)).all()

    expected = precision_recall_fscore_support(labels, predicted, labels=everything, zero_division=0)
    each = per_class(found)
    for mine, theirs in zip((each.precision, each.recall, each.f1, each.support), expected, strict=True):
        assert mine.tolist() == pytest.approx(theirs.tolist())
    means = precision_recall_fscore_support(labels, predicted, labels=everything, zero_division=0, average="macro")
    assert macro(found) == pytest.approx(means[:3])


def test_nll_is_scikit_learns_log_loss() -> None:
    rng = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(200, 7, generator=rng, dtype=torch.float64), torch.arange(200) % 7
    assert nll(logits, labels) == pytest.approx(log_loss(labels, logits.softmax(dim=1)), abs=1e-12)


@laws
@given(answers())
def test_ranges(case: tuple[Tensor, Tensor]) -> None:
    logits, labels = case
    found = measure(logits, labels, logits.shape[1])
    assert list(found) == ["accuracy", "nll", "ece", "precision", "recall", "f1"]
    assert found.pop("nll") >= 0
    assert all(0 <= value <= 1 for value in found.values())


@laws
@given(answers(), st.randoms(use_true_random=False))
def test_the_order_of_images_changes_nothing(case: tuple[Tensor, Tensor], random) -> None:
    logits, labels = case
    order = torch.tensor(random.sample(range(len(labels)), len(labels)))
    classes = logits.shape[1]
    assert measure(logits[order], labels[order], classes) == pytest.approx(measure(logits, labels, classes), abs=1e-12)


@laws
@given(st.integers(1, 6), st.integers(1, 12))
def test_perfect_logits(classes: int, images: int) -> None:
    labels = torch.arange(images) % classes
    found = measure(perfect(labels, classes), labels, classes)
    seen = min(images, classes) / classes  # the classes that no image has count as 0
    assert found == {"accuracy": 1, "nll": 0, "ece": 0, "precision": seen, "recall": seen, "f1": seen}


def test_nll_of_large_logits_is_exact() -> None:
    labels = torch.arange(3)
    assert nll(-perfect(labels, 3), labels) == pytest.approx(2e4 + math.log(2), rel=1e-15)


@laws
@given(answers())
def test_agreement(case: tuple[Tensor, Tensor]) -> None:
    logits, labels = case
    assert agreement(logits, logits) == 1
    other = logits.roll(1, dims=0)
    assert agreement(logits, other) == agreement(other, logits)
    assert agreement(logits, perfect(labels, logits.shape[1])) == accuracy(logits, labels)


def test_float16_and_bfloat16_are_read_as_they_are() -> None:
    logits, labels = torch.tensor([[1.0, 0.0], [0.25, 3.0]]), torch.tensor([0, 1])
    for dtype in (torch.bfloat16, torch.float16, torch.float64):  # all of these logits are exact in all of these types
        assert measure(logits.to(dtype), labels, 2) == measure(logits, labels, 2)


def test_a_gradient_and_a_small_label_type_are_no_obstacle() -> None:
    assert measure(torch.eye(3, requires_grad=True), torch.arange(3, dtype=torch.int8), 3)["accuracy"] == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_an_error_that_names_the_image(bad: float) -> None:
    logits = torch.zeros(4, 3)
    logits[2, 1] = bad
    with pytest.raises(MachineError, match=r"not finite \(1 of 4 images, the first is row 2\)"):
        measure(logits, torch.zeros(4).long(), 3)
    with pytest.raises(MachineError):
        agreement(torch.zeros(4, 3), logits)


def test_shapes_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        accuracy(torch.zeros(0, 3), torch.zeros(0).long())
    with pytest.raises(ValueError, match=r"\(2,\), one for each image"):
        nll(torch.zeros(2, 3), torch.zeros(3).long())
    with pytest.raises(ValueError, match="labels run from 0 to 3, which 3 classes do not hold"):
        nll(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="answers with 3 classes, the data have 4"):
        measure(torch.zeros(2, 3), torch.tensor([0, 1]), 4)
    with pytest.raises(ValueError, match="two models over the same images"):
        agreement(torch.zeros(2, 3), torch.zeros(3, 3))
