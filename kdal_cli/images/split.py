"""Which training images form the pool, which are held out to choose by or to test, and which are the teacher's own."""

from dataclasses import dataclass

from torch import Tensor, cat, isin, randperm

from kdal_cli.dataset import Labels
from kdal_cli.errors import UserError
from kdal_cli.streams import Streams
from kdal_cli.values import Count, Natural, Share


@dataclass(frozen=True)
class Split:
    """How to divide a training set: `validation` images held out, the others the pool, or only `pool` of them.

    validation: a number of images or, below 1, a share of them. A data set that has validation images of its own keeps
    them, and none are held out.

    test: images that are the test set of data without one. They are drawn from all, and so are like the pool; in
    `al-loop` their labels are asked for before anything else.

    teacher: images that a teacher is trained on and that are not in the pool; without, it is trained on the pool, and
    has read the labels that the student is to save. `seed` is the split's own: runs of other seeds share their pool.
    """

    validation: Natural | Share
    pool: Count | None = None
    teacher: Count | None = None
    seed: Natural = 0
    test: Count | None = None

    def held(self, images: int) -> int:
        """Validation images of so many, at least one where a share is asked for and there are any."""
        if isinstance(self.validation, int):
            return self.validation
        return min(images, max(1, round(self.validation * images))) if self.validation else 0


@dataclass(frozen=True)
class Ids:
    """int64 and sorted: pool (P,) and validation (V,), disjoint; teacher (T,), what a teacher is trained on, the
    labelled part of the pool or images that are in neither. Of images without a label there are some in the pool alone.
    """

    pool: Tensor
    validation: Tensor
    teacher: Tensor


def split_ids(ids: Tensor, labels: Labels, split: Split, own_validation: Tensor | None = None) -> Ids:
    """Divide training images, `ids` (N,). own_validation: (V,) ids of validation images that are not among them.

    All are cut from one permutation, keyed by SHA-256 of the split's seed and the word "split": validation and then the
    pool from its start, the teacher's from its end. So a smaller pool lies within a larger one, and both have the same
    validation images. Where labels are unknown, images for validation and for the teacher are of those that have one;
    where all are, the label of an image for validation is bought as well.
    Raises UserError when the images do not suffice.
    """
    order = ids[randperm(len(ids), generator=Streams(split.seed).at("split"))]
    labelled = labels.among(order)
    n, m, taught = len(order), len(labelled), split.teacher or 0
    held = 0 if own_validation is not None and len(own_validation) else split.held(m)
    if not m and not taught:
        labelled, m = order, n
    if held + taught > m and m < n:
        what = (
            f"{m:,} of {n:,} training images have a label, not {held:,} for validation and {taught:,} for the teacher"
        )
        raise UserError(what, where="data.split", cure=f"together they must come to {m:,} at most")
    pool = n - held - taught if split.pool is None else split.pool
    if pool < 1 or held + pool + taught > n:
        wanted = "at least 1" if split.pool is None else f"{split.pool:,}"
        own = f", {taught:,} for the teacher" if taught else ""
        raise UserError(
            f"there are {n:,} training images, not {held:,} for validation{own} and {wanted} for the pool",
            where="data.split",
            cure=f"together they must come to {n:,} at most",
        )
    validation, own = labelled[:held], labelled[m - taught :]
    rest = order[~isin(order, cat([validation, own]))][:pool]
    validation = validation if held or own_validation is None else own_validation
    own = own if taught else labels.among(rest)
    return Ids(rest.sort().values, validation.sort().values, own.sort().values)


def test_ids(ids: Tensor, split: Split) -> Tensor:
    """(T,) int64 and sorted: the test images among training images `ids` (N,), drawn as the others are.

    Raises UserError where they would leave nothing else.
    """
    tested = split.test or 0
    if tested >= len(ids):
        cure = f"at most {len(ids) - 1:,}"
        raise UserError(f"data.split.test={tested}", where=f"there are {len(ids):,} images", cure=cure)
    return ids[randperm(len(ids), generator=Streams(split.seed).at("test"))[:tested]].sort().values
