"""Which training images form the pool, and which are held out to choose by."""

from dataclasses import dataclass

from torch import Tensor, randperm

from kdal_cli.errors import UserError
from kdal_cli.streams import Streams
from kdal_cli.values import Count, Natural


@dataclass(frozen=True)
class Split:
    """How to divide a training set: `validation` images held out, the others the pool, or only `pool` of them.

    `seed` is the split's own, so that runs of other seeds share their pool.
    """

    validation: Natural
    pool: Count | None = None
    seed: Natural = 0


def split_ids(ids: Tensor, split: Split) -> tuple[Tensor, Tensor]:
    """(pool ids (P,), validation ids (V,)) of training images `ids` (N,): int64, sorted, disjoint.

    Both are cut from one permutation, keyed by SHA-256 of the split's seed and the word "split": first the validation
    images, then the pool. So a smaller pool lies within a larger one, and both have the same validation images.

    Raises UserError when the images do not suffice.
    """
    n = len(ids)
    pool = n - split.validation if split.pool is None else split.pool
    if pool < 1 or split.validation + pool > n:
        wanted = "at least 1" if split.pool is None else f"{split.pool:,}"
        raise UserError(
            f"there are {n:,} training images, not {split.validation:,} for validation and {wanted} for the pool",
            where="data.split",
            cure=f"the two must come to {n:,} at most",
        )
    order = ids[randperm(n, generator=Streams(split.seed).at("split"))]
    validation, rest = order[: split.validation], order[split.validation : split.validation + pool]
    return rest.sort().values, validation.sort().values
