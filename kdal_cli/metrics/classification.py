"""How good a model's answers are.

Axis letters: N images, C classes. Logits (N, C) may have any float type; everything is computed in float64 on the CPU.
A model's answer is the class with the largest logit and, among equals, the lowest class number.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.metrics.calibration import ece
from kdal_cli.metrics.inputs import checked, checked_labels, checked_logits, top1

CLASS_COLUMNS = ("labels", "test_precision", "test_recall", "test_f1", "test_images")
"""Of `classes.csv`, beside the round and the class."""


@dataclass(frozen=True)
class PerClass:
    """One number for each class, (C,) each: precision, recall, f1 in float64; support, its images, in int64."""

    precision: Tensor
    recall: Tensor
    f1: Tensor
    support: Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of images whose answer is their label. logits (N, C), labels (N,) -> 0 to 1."""
    logits, labels = checked(logits, labels)
    return float((top1(logits) == labels).double().mean())


def nll(logits: Tensor, labels: Tensor) -> float:
    """Negative log likelihood of the labels, in nats, averaged over images: mean_n -log softmax(logits_n)[label_n]."""
    return float(F.cross_entropy(*checked(logits, labels)))


def agreement(a_logits: Tensor, b_logits: Tensor) -> float:
    """The share of images on which two models give the same answer, right or wrong. (N, C), (N, C) -> 0 to 1."""
    if a_logits.shape != b_logits.shape:
        raise ValueError(f"two models over the same images: {tuple(a_logits.shape)} against {tuple(b_logits.shape)}")
    same = top1(checked_logits(a_logits)) == top1(checked_logits(b_logits))  # (N,)
    return float(same.double().mean())


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How many images of class i (row, the truth) were taken for class j (column). (N,), (N,) -> (C, C) int64."""
    labels = checked_labels(labels, len(labels), classes)
    predicted = checked_labels(predicted, len(labels), classes)
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


def per_class(confusion: Tensor) -> PerClass:
    """Precision, recall, F1 and support of each class, from a confusion matrix (C, C) with the truth in rows.

        precision = TP / (TP + FP)    recall = TP / (TP + FN)    F1 = 2 TP / (2 TP + FP + FN)

    0 / 0 counts as 0: a class that is never predicted has precision 0, one that never occurs has recall 0.
    """
    hits = confusion.diagonal()  # (C,) TP
    support = confusion.sum(dim=1)  # (C,) TP + FN
    predicted = confusion.sum(dim=0)  # (C,) TP + FP
    return PerClass(
        precision=_share(hits, predicted),
        recall=_share(hits, support),
        f1=_share(2 * hits, predicted + support),
        support=support,
    )


def macro(confusion: Tensor) -> tuple[float, float, float]:
    """Precision, recall and F1, each the plain mean over all C classes of `per_class`.

    A class that occurs neither as truth nor as answer counts too, with zeros: scikit-learn's `average="macro"` with
    `labels=range(C)` and `zero_division=0`. Macro F1 is the mean of the F1s, not the F1 of the means.
    """
    each = per_class(confusion)
    return float(each.precision.mean()), float(each.recall.mean()), float(each.f1.mean())


def measure(logits: Tensor, labels: Tensor, classes: int) -> dict[str, float]:
    """All that a run reports of a model: accuracy, nll (nats), ece (15 bins), and macro precision, recall, f1.

    logits (N, C) with C = `classes`, labels (N,). All but nll are shares from 0 to 1.
    """
    logits, labels = checked(logits, labels)
    if logits.shape[1] != classes:
        raise ValueError(f"the model answers with {logits.shape[1]} classes, the data have {classes}")
    precision, recall, f1 = macro(confusion(top1(logits), labels, classes))
    return {
        "accuracy": accuracy(logits, labels),
        "nll": nll(logits, labels),
        "ece": ece(logits, labels),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole in float64, (C,) each, where 0 / 0 = 0."""
    return part.double() / whole.clamp(min=1)


def class_rows(round: int, answers: Tensor, truth: Tensor, bought: Tensor, classes: int) -> Iterator[dict[str, float]]:
    """A row a class: its labels bought so far, (M,), and how good the answers about test images are, (N,), (N,)."""
    scores, held = per_class(confusion(answers, truth, classes)), bought.bincount(minlength=classes)
    columns = (held, scores.precision, scores.recall, scores.f1, scores.support)
    for number, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        yield {"round": round, "class": number, **dict(zip(CLASS_COLUMNS, row, strict=True))}
