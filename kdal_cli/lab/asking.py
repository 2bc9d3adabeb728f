"""What is known when an oracle is asked: guesses of student and teacher, validation labels, what audits found."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from kdal_cli.inference.predict import predict
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.tutors import Tutor
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracle import Occasion
from kdal_cli.network import Network


def occasion(
    lab: Lab, ledger: Ledger, round: int, purpose: str, network: Network | None, tutor: Tutor | None
) -> Occasion:
    """The occasion of a question. network: the student of the round before; tutor: the teacher that labels, too."""

    def look(ids: Tensor) -> Tensor:
        assert network is not None
        return predict(network, lab.train, ids).logits

    guess = partial(_likeliest, look) if network is not None else None
    teacher = partial(_likeliest, tutor.scorer.logits) if tutor is not None else None
    return Occasion(round, purpose, guess, teacher, ledger.bought("validation"), ledger.audits())


def _likeliest(look: Callable[[Tensor], Tensor], ids: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest class (k,) of images (k,) by the logits (k, C) that `look` answers, and its probability (k,)."""
    probs, labels = look(ids).double().softmax(1).max(1)
    return labels, probs
