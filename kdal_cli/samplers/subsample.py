"""Ask another sampler about a random part of the pool."""

from dataclasses import replace

from torch import Generator

from kdal_cli.inference.evidence import Evidence, Sampler
from kdal_cli.inference.ranking import shuffled
from kdal_cli.samplers.margin import margin
from kdal_cli.types import Query
from kdal_cli.values import Count


def subsample(pool: Evidence, k: int, rng: Generator, *, of: Sampler = margin, candidates: Count = 10_000) -> Query:
    """What the sampler `of` chooses from `candidates` images, or from k if that is more, drawn at random each round.

    So Yoo and Kweon 2019, arXiv:1905.03677, rank a random 10,000 of the pool of CIFAR-10. The query records which
    images were candidates; within another sampler that record is lost.

    Costs what `of` costs on so many images: no other is looked at, be the pool of millions.

    Helps where looking at the whole pool takes longer than it is worth, and against near-duplicates in it: few of each
    are candidates. Hurts where the informative are rare: an image that is no candidate cannot be asked for.
    """
    most = max(candidates, k)
    rows = shuffled(pool.ids, rng)[:most]  # (S,)
    query = of(replace(pool, ids=pool.ids[rows], whole=None, stands_for=min(pool.stands_for, most)), k, rng)
    return Query(rows[query.rows], query.scores, rows if len(rows) < len(pool) else None)
