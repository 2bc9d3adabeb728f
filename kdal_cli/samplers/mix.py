"""Ask several samplers for a share of the query each."""

from collections.abc import Sequence

import torch
from torch import Generator

from kdal_cli.errors import UserError
from kdal_cli.inference.evidence import Evidence, Sampler
from kdal_cli.samplers._generators import fork
from kdal_cli.samplers.margin import margin
from kdal_cli.samplers.random import random
from kdal_cli.types import Query
from kdal_cli.values import Share


def apportion(k: int, shares: Sequence[float]) -> list[int]:
    """k in whole parts by shares: rounded down, then one more to the largest remainders, of equal ones to the first."""
    exact = [k * share / sum(shares) for share in shares]
    parts = [int(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: k - sum(parts)]:
        parts[i] += 1
    return parts


def mix(
    pool: Evidence,
    k: int,
    rng: Generator,
    *,
    of: Sequence[Sampler] = (margin, random),
    shares: Sequence[Share] | None = None,
) -> Query:
    """A share of the query to each of several samplers, one after the other, each on what those before it left.

    shares: one of each sampler, together 1, rounded by largest remainders; null: equal ones. The query is theirs one
    after the other, not interleaved, with the scores of each, which need not compare.

    Costs the sum of what they cost; logits and features of the pool are computed once for all.

    Helps as a hedge: random images among others keep part of the labels a fair sample of the pool. Hurts in so far as
    one of the samplers is worse than the other: its share is lost.
    """
    shares = [1 / len(of)] * len(of) if of and shares is None else shares or []
    if len(shares) != len(of) or abs(sum(shares) - 1) > 1e-6:
        cure = f"{len(of)} numbers from 0 to 1 that add up to 1, one of each sampler of sampler.of, or null"
        raise UserError(f"sampler.shares={list(shares)}", cure=cure)
    left, queries = torch.arange(len(pool)), []
    for sampler, quota in zip(of, apportion(min(k, len(pool)), shares), strict=True):
        query = sampler(pool.take(left), quota, fork(rng)) if quota else Query(left[:0], torch.zeros(0))
        rows = left[query.rows]
        queries.append(Query(rows, query.scores))
        left = left[~torch.isin(left, rows)]
    return Query(torch.cat([query.rows for query in queries]), torch.cat([query.scores for query in queries]))
