"""What is known when an oracle is asked: guesses of student and teacher, validation labels, what audits found."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kdal_cli.dataset import ImageData
from kdal_cli.errors import UserError
from kdal_cli.inference.predict import predict
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.tutors import Tutor
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracle import NONE, Occasion, Oracle
from kdal_cli.labels.purchase import proposed
from kdal_cli.network import Network


def occasion(
    lab: Lab,
    ledger: Ledger,
    round: int,
    purpose: str,
    network: Network | None,
    tutor: Tutor | None,
    again: Tensor = NONE,
) -> Occasion:
    """The occasion of a question. network: the student of the round before; tutor: the teacher that labels, too.

    again: ids (a,) of images that are asked about once more.
    """

    def look(ids: Tensor) -> Tensor:
        assert network is not None
        return predict(network, lab.train, ids).logits

    guess = partial(_likeliest, look) if network is not None else None
    teacher = partial(_likeliest, tutor.scorer.logits) if tutor is not None else None
    said = ledger.votes() if len(again) else {}
    before = {id: tuple(who for who, _ in said[id]) for id in again.tolist()}
    return Occasion(
        round,
        purpose,
        guess,
        teacher,
        ledger.bought("validation"),
        ledger.audits(),
        again=before,
        proposed=tuple(proposed(ledger.purchases).values()),
    )


def examined(lab: Lab, ledger: Ledger, oracle: Oracle) -> Lab:
    """The lab with a test set whose labels were bought, where the data came without one: before anything else, so that
    whoever answers has seen no guess. Raises Waiting while answers are missing; UserError where none names a class.
    """
    asked = lab.data.asked
    if not len(asked):
        return lab
    if ledger.of_round(0, "test") is None:
        ask = partial(oracle, occasion=Occasion(0, "test"))
        ledger.buy(0, asked, torch.zeros(len(asked)), ask, "test")
    return lab.measured_on(answered(lab.data, ledger))


def answered(data: ImageData, ledger: Ledger) -> ImageData:
    """The data with those test images that people named the class of, by the ledger of a run.

    Raises UserError where there are none.
    """
    ids, labels = ledger.bought("test")
    if len(data.asked) and not len(ids):
        raise UserError("no test image has a label yet", where=ledger.path, cure="kdal al-loop asks for them")
    return data.answered(ids, labels) if len(data.asked) else data


def _likeliest(look: Callable[[Tensor], Tensor], ids: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest class (k,) of images (k,) by the logits (k, C) that `look` answers, and its probability (k,)."""
    probs, labels = look(ids).double().softmax(1).max(1)
    return labels, probs
