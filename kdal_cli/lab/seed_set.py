"""The labels of round 0, chosen before any student has learnt anything."""

import torch
from torch import Generator

from kdal_cli.dataset import Labels
from kdal_cli.inference.evidence import Evidence, Sampler
from kdal_cli.inference.ranking import shuffled
from kdal_cli.types import Query


def class_balanced(labels: Labels) -> Sampler:
    """As many images of each class as there are of the others, by the true `labels` of the data set.

    That takes an oracle's knowledge before anything is paid for: results from such a seed set flatter every sampler
    that follows, and most where classes are rare.
    """

    def choose(pool: Evidence, k: int, rng: Generator) -> Query:
        order = shuffled(pool.ids, rng)
        truth = labels.of(pool.ids[order])  # (N,)
        turn = torch.zeros_like(truth)  # (N,) which image of its class it is, from 0
        for c in truth.unique():
            of_class = truth == c
            turn[of_class] = torch.arange(int(of_class.sum()))
        rows = order[turn.argsort(stable=True)[: min(k, len(pool))]]
        return Query(rows, torch.zeros(len(rows), dtype=torch.float64))

    return choose
