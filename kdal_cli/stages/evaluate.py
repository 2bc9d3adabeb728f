"""`kdal evaluate`: everything that is measured of a network, on one split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.inference.tta import Tta, averaged_logits
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.teacher import Teacher
from kdal_cli.metrics.calibration import reliability
from kdal_cli.metrics.classification import accuracy, agreement, confusion, measure
from kdal_cli.network import Network


@dataclass(frozen=True)
class Evaluation:
    """metrics by name; confusion (C, C), rows are the truth; reliability: confidence, accuracy, count, each (bins,).

    paths: the file of each image (N,), or empty. ids (N,), labels (N,), probs (N, C): what is answered, image by image.
    """

    metrics: dict[str, float]
    confusion: Tensor
    reliability: tuple[Tensor, Tensor, Tensor]
    paths: tuple[str, ...]
    ids: Tensor
    labels: Tensor
    probs: Tensor

    def lines(self, classes: Sequence[str]) -> Iterator[list[str]]:
        """A table with one line an image: what it is, what is answered, how surely, and every class's probability."""
        yield ["id", "path", "label", "answer", "confidence", *classes]
        rows = zip(self.ids.tolist(), self.labels.tolist(), self.probs.tolist(), strict=True)
        for id, label, probs in rows:
            answer = max(range(len(probs)), key=probs.__getitem__)
            told = [str(id), self.paths[id] if self.paths else "", classes[label], classes[answer]]
            yield [*told, f"{probs[answer]:.6f}", *(f"{prob:.6f}" for prob in probs)]


def evaluate(lab: Lab, network: Network, teacher: Teacher | None, split: str, tta: Tta = "none") -> Evaluation:
    """Measure `network` on `test`, `validation` or `pool`, of which those images count whose labels are known.

    With a teacher of these classes, also how far and how often they differ. tta: how both look at an image, see
    `inference.tta`.
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
    logits, classes = averaged_logits(network, images, ids, tta), len(lab.data.classes)
    metrics = {"images": len(ids)} | measure(logits, labels, classes)
    if teacher is not None and teacher.metrics:
        theirs = averaged_logits(teacher.network, images, ids, tta)
        metrics["teacher_accuracy"] = accuracy(theirs, labels)
        metrics["teacher_gap"] = metrics["teacher_accuracy"] - metrics["accuracy"]
        metrics["teacher_agreement"] = agreement(logits, theirs)
    return Evaluation(
        metrics,
        confusion(logits.argmax(1).cpu(), labels, classes),
        reliability(logits, labels),
        truth.paths,
        ids,
        labels,
        logits.cpu().double().softmax(1),
    )
