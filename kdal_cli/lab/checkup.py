"""Why a network that was trained does not fit its own labels: each thing that is wrong, in a line with its reason."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from kdal_cli.devices.passes import images_a_pass
from kdal_cli.images.augment import Resident
from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.predict import BATCH, predict
from kdal_cli.lab.lab import Lab
from kdal_cli.metrics.classification import accuracy
from kdal_cli.metrics.signs import alike, one_answer, undecided
from kdal_cli.network import Network
from kdal_cli.study.doubts import FITTED
from kdal_cli.training.job import Fitted
from kdal_cli.types import Query

APART = 0.1
"""How much better it is in training mode when it is the mode that makes the difference."""

LOOKED = 1000
"""Labelled images that a network is looked at in training mode, at most."""


def examine(
    lab: Lab, network: Network, who: str, ids: Tensor, labels: Tensor, fitted: Fitted, where: str = "recipe"
) -> None:
    """Say what is wrong with a network that learnt from images `ids` (M,) with their `labels` (M,), if anything is.

    fitted: what its training was. where: the section of its recipe.
    """
    if not len(ids):
        return
    some = torch.linspace(0, len(ids) - 1, min(LOOKED, len(ids))).round().long()
    logits = predict(network, lab.train, ids[some]).logits
    for complaint in complaints(lab, network, ids[some], labels[some], logits, logits, fitted, where):
        lab.watcher.say(f"{who} {complaint}")


def complaints(
    lab: Lab,
    network: Network,
    ids: Tensor,
    labels: Tensor,
    logits: Tensor,
    others: Tensor,
    fitted: Fitted,
    where: str = "recipe",
) -> Iterator[str]:
    """What is wrong with a network that learnt from images `ids` (M,) with their `labels` (M,): what it does, and why.

    logits: its answers to these, (M, C). others: its answers to other images, (N, C), or to these. fitted: what its
    training was. where: the section of its recipe.
    """
    answer = one_answer(others)
    if answer is not None and len(lab.data.test.labels.all().unique()) > 1:
        alone = ", the one class that it has labels of" if labels.unique().tolist() == [answer] else ""
        yield f"answers every image with {lab.data.classes[answer]}{alone}"
    if fitted.fitted < FITTED:
        reason = _reason(lab, network, ids, labels, logits, f"train longer ({where}.{fitted.rule})", where)
        yield f"fits only {fitted.fitted:.1%} of its own labels; its scores say little: {reason}"


def _reason(lab: Lab, network: Network, ids: Tensor, labels: Tensor, logits: Tensor, longer: str, where: str) -> str:
    """What makes a network wrong about its own labels, and what helps."""
    if undecided(logits):
        return f"every class is as likely for it: {longer}, or raise {where}.lr"
    if alike(logits):
        return f"it answers every image alike, as one whose units are all dead: lower {where}.lr"
    some = torch.linspace(0, len(ids) - 1, min(LOOKED, len(ids))).round().long()
    with lab.streams.applied("checkup"):
        awake = accuracy(as_trained(network, lab.train, ids[some]), labels[some])
    if awake - accuracy(logits[some], labels[some]) > APART:
        return (
            f"in training mode it is right on {awake:.1%} of them: it is batch-norm's statistics or dropout that "
            "make the difference, not the length of the training"
        )
    return longer


@torch.inference_mode()
def as_trained(network: Network, images: Resident, ids: Tensor) -> Tensor:
    """The logits (N, C) of a copy in training mode: batches normalised by themselves, in a random order, dropout on.

    One image alone cannot be normalised by itself, and is looked at twice.
    """
    twin, order = copy.deepcopy(network).train(), torch.randperm(len(ids))
    if len(ids) == 1:
        return as_trained(network, images, ids.repeat(2))[:1]
    most = max(4, images_a_pass(network, images, BATCH))
    parts = order.tensor_split(-(-len(ids) // most))  # as large as each other, so that none is of one image
    logits = torch.cat([twin(images.whole(ids[part])).logits.float() for part in parts])
    return logits[order.argsort().to(logits.device)]


def tie(pool: Evidence, query: Query) -> str | None:
    """That a sampler which looked at the pool told none of the images that it chose from another, if so."""
    scores = query.scores
    if not pool.meter.views or not 1 < len(scores) < len(pool) or not (scores == scores[0]).all():
        return None
    why = ": the scorer answers every image of the pool alike" if pool.seen is not None and alike(pool.seen) else ""
    return (
        f"all {len(scores):,} images of the query have one score, {float(scores[0]):g}; which of equals is chance{why}"
    )
