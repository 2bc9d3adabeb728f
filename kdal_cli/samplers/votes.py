"""Ask where the members of a committee disagree."""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.special import entr

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import top
from kdal_cli.samplers.bald import Draws, bald_score
from kdal_cli.types import Query


def vote_shares(draws: Iterable[Tensor]) -> Tensor:
    """The share of draws that predict each class, K x (N, C) -> (N, C) in float64; a row sums to 1. Memory N·C."""
    cast = torch.zeros((), dtype=torch.int64)
    for logits in draws:
        cast = cast + F.one_hot(logits.argmax(1), logits.shape[1])  # (N, C)
    return cast.double() / cast.sum(1, keepdim=True)


def vote_entropy_score(draws: Iterable[Tensor]) -> Tensor:
    """−Σ_c v_c log v_c in nats of the shares v, K x (N, C) -> (N,) in float64, from 0 to log of the fewer of C and K.

    Summed in the order of their size, so that the same shares of other classes are equal to the last digit.
    """
    return entr(vote_shares(draws).sort(1).values).sum(1)


def votes(
    pool: Evidence,
    k: int,
    rng: Generator,
    *,
    draws: Draws = 10,
    measure: Literal["vote_entropy", "consensus_kl"] = "vote_entropy",
) -> Query:
    """Query by committee (Seung et al. 1992): the k images on which K members disagree most.

    vote_entropy: H(v), v_c the share of members that predict class c (Dagan and Engelson 1995, who divide by log K: the
    same order). consensus_kl: mean over members of KL(p ‖ mean p) (McCallum and Nigam 1998); that is H(mean p) − mean
    H(p), the score of `bald` by another name. The members are K dropout masks of one model, or with scorer=seeds,
    rounds or both those of a committee, however many `draws` are asked for.

    K passes over the pool, time K·N·C and memory N·C besides.

    Helps when members differ for want of data: a label where they disagree rules some of them out. Hurts with few
    members: votes take few values, ties between them are broken at random, and a vote says nothing of how sure it was.
    """
    score = {"vote_entropy": vote_entropy_score, "consensus_kl": bald_score}[measure]
    return top(score(pool.draws(draws, rng)), k, pool.ids, rng)
