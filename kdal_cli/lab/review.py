"""What a student makes of labels that it is not told: which it contradicts, and what it and annotators come to."""

from torch import Tensor

from kdal_cli.inference.held_out import held_out
from kdal_cli.inference.predict import predict
from kdal_cli.lab.lab import Lab
from kdal_cli.labels.crowd import crowdlab
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.opinions import matrix
from kdal_cli.labels.suspects import suspects
from kdal_cli.network import Network


def contradicted(lab: Lab, network: Network, ids: Tensor, labels: Tensor) -> Tensor:
    """(S,) ids of labelled images (M,) whose label is likely to be wrong, the worst first.

    The student has learnt these labels, the wrong ones too; so classifiers on its features answer about each image,
    learnt from four fifths of the labels that are not its own.
    """
    return ids[suspects(labels, _untold(lab, network, ids, labels, "review"))]


def settle(lab: Lab, network: Network, ledger: Ledger, round: int) -> None:
    """Write down what annotators and the student of the round before come to, where that is not the majority."""
    ids, labels = ledger.bought()
    answers, _ = matrix(ledger.votes(), ids.tolist())
    crowd = crowdlab(answers, _untold(lab, network, ids, labels, "consensus", round), calibrate=True)
    other = crowd.labels != labels
    ledger.settle(round, dict(zip(ids[other].tolist(), crowd.labels[other].tolist(), strict=True)))


def _untold(lab: Lab, network: Network, ids: Tensor, labels: Tensor, *address: str | int) -> Tensor:
    """(M, C) probabilities of classifiers on the student's features that have not learnt the label of the image."""
    features = predict(network, lab.train, ids).features  # (M, D)
    return held_out(features, labels, len(lab.data.classes), lab.streams.at(*address))[0]
