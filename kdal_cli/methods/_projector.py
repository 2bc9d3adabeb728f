"""The layers between the features and the loss; they are dropped afterwards."""

from itertools import pairwise

from torch import nn


def projector(features: int, hidden: int, outputs: int, *, layers: int = 2) -> nn.Sequential:
    """`layers` linear layers, (B, D) -> (B, outputs), batch-norm and ReLU after each but the last."""
    widths = [features, *[hidden] * (layers - 1)]
    inner = [
        part
        for before, after in pairwise(widths)
        for part in (nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU())
    ]
    return nn.Sequential(*inner, nn.Linear(widths[-1], outputs))
