"""`kdal evaluate`: everything that is measured of a network, on one split."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.inference.predict import predict
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.teacher import Teacher
from kdal_cli.metrics.calibration import reliability
from kdal_cli.metrics.classification import accuracy, agreement, confusion, measure
from kdal_cli.network import Network


@dataclass(frozen=True)
class Evaluation:
    """metrics by name; confusion (C, C), rows are the truth; reliability: confidence, accuracy, count, each (bins,)."""

    metrics: dict[str, float]
    confusion: Tensor
    reliability: tuple[Tensor, Tensor, Tensor]


def evaluate(lab: Lab, network: Network, teacher: Teacher | None, split: str) -> Evaluation:
    """Measure `network` on `test`, `validation` or `pool`, of which those images count whose labels are known.

    With a teacher, also how far and how often they differ.
    """
    parts = {
        "test": (lab.test, lab.data.test, torch.arange(len(lab.data.test))),
        "validation": (lab.train, lab.data.train, lab.validation),
        "pool": (lab.train, lab.data.train, lab.labelled),
    }
    images, truth, ids = parts[split]
    if not len(ids):
        raise UserError(f"split={split} has no labelled image", cure="choose another, or set data.split.validation")
    labels = truth.labels.of(ids)
    logits, classes = predict(network, images, ids).logits, len(lab.data.classes)
    metrics = {"images": len(ids)} | measure(logits, labels, classes)
    if teacher is not None:
        theirs = predict(teacher.network, images, ids).logits
        metrics["teacher_accuracy"] = accuracy(theirs, labels)
        metrics["teacher_gap"] = metrics["teacher_accuracy"] - metrics["accuracy"]
        metrics["teacher_agreement"] = agreement(logits, theirs)
    return Evaluation(metrics, confusion(logits.argmax(1).cpu(), labels, classes), reliability(logits, labels))
