"""Ask where students of consecutive rounds change their mind."""

from collections.abc import Iterable
from itertools import chain

import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import top
from kdal_cli.types import Query
from kdal_cli.values import Count


def changes(predictions: Iterable[Tensor]) -> Tensor:
    """How often consecutive predictions differ, one or more x (N,) -> (N,), from 0 to one less than there are."""
    predictions = iter(predictions)
    before = next(predictions)
    count = torch.zeros_like(before)
    for now in predictions:
        count += now != before
        before = now
    return count


def forgetting(pool: Evidence, k: int, rng: Generator, *, rounds: Count = 5) -> Query:
    """The k images whose predicted class changed most often over the students of the last `rounds` rounds and this one.

    After the forgetting events of Toneva et al. 2019, arXiv:1812.05159, which count how often a labelled image turns
    wrong during training: a pool has no labels, so every change counts. Predictions of earlier rounds were first used
    to select by Davy and Luz 2007 (ECIR); Bengar et al. 2021, arXiv:2107.14707, use those of the epochs of one
    training, by the share of the commonest. score: the number of changes, whole, its many ties broken at random.

    Costs a pass over the pool for each earlier student. Time rounds·N·C, memory N·C.

    Helps where confidence misleads: it asks for no probability. Hurts early, when there is no history, so that it is
    random, and where rounds start from new weights: some changes are then of the weights and not of what was learnt.
    """
    logits = chain(pool.history(rounds), [pool.logits])
    return top(changes(answer.argmax(1) for answer in logits), k, pool.ids, rng)
