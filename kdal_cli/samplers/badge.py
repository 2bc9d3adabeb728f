"""Ask for images whose gradients are large and point different ways."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import highest, keys
from kdal_cli.types import Query

CHUNK = 1024
"""Rows whose distances are computed at a time."""

TRIES = 512
"""Images drawn between two passes over the pool, each to be taken or refused."""


def residuals(logits: Tensor) -> Tensor:
    """p − e_ŷ, the gradient of cross-entropy with respect to the logits at the predicted label, (N, C) -> (N, C).

    At ŷ it is minus the sum of the others: p − 1 has no digits left where the softmax is saturated.
    """
    likeliest = logits.argmax(1, keepdim=True)  # (N, 1)
    others = logits.softmax(1).scatter(1, likeliest, 0)  # (N, C)
    return others.scatter(1, likeliest, -others.sum(1, keepdim=True))


class Gradients:
    """N gradients g = a ⊗ z, a = p − e_ŷ, never multiplied out: ⟨g_i, g_j⟩ = (a_i·a_j)(z_i·z_j). Memory N·C.

    logits: (N, C). features: z, (N, D). sizes: ‖g‖², (N,) float64. Distances come on the CPU in float64.
    """

    def __init__(self, logits: Tensor, features: Tensor) -> None:
        self.logits, self.features = logits, features
        self.blocks = [slice(start, start + CHUNK) for start in range(0, len(logits), CHUNK)]
        self.a = torch.empty_like(logits, dtype=torch.float32)  # (N, C)
        for block in self.blocks:
            self.a[block] = residuals(logits[block].double())
        self.sizes = self._each(self._size, torch.float64)  # (N,)
        self.terms = logits.shape[1] + features.shape[1] + 16  # as many roundings at most

    def bound(self, rows: Tensor) -> Tensor:
        """No less than d² to the nearest of `rows` (P,), and a rounding of float32 more: (N,). Time N·P·(C + D)."""
        sizes = ((1 + self.terms * 2.0**-24) * self.sizes).float()  # (N,)
        a, z = self.a[rows].T, self.features[rows].float().T  # (C, P), (D, P)

        def nearest(block: slice) -> Tensor:
            inner = (self.a[block] @ a).mul_(self.features[block].float() @ z)  # (n, P)
            return torch.add(sizes[rows], inner, alpha=-2).amin(1)  # (n,)

        return (self._each(nearest, torch.float32) + sizes).double().cpu()

    def nearest(self, rows: Tensor) -> Tensor:
        """d² to the nearest of `rows` (P,): (N,). The same in float64, a few times slower."""
        return self._each(lambda block: self.distance(block, rows).amin(1), torch.float64).cpu()

    def nearer(self, before: Tensor, rows: Tensor) -> Tensor:
        """The less of `before` (N,) and d² to the nearest of `rows` (P,): (N,), in float64 where float32 cannot tell.

        `bound` lies above d² by no more than two roundings of float32, and three are taken off here.
        """
        sizes, after = self.sizes.cpu(), before.clone()
        least = self.bound(rows) - 3 * self.terms * 2.0**-24 * (sizes + sizes[rows].max())
        sure = least.isfinite() & (least >= before)  # what float32 cannot hold is neither
        for some in (~sure).nonzero()[:, 0].split(CHUNK):
            after[some] = torch.minimum(before[some], self.distance(some, rows).amin(1))
        return after

    def distance(self, some: Tensor | slice, rows: Tensor) -> Tensor:
        """d² of `some` (n,) to `rows` (P,): (n, P). 0 where rounding may be all that is left, as between copies."""
        (a, z), (b, w) = self._factors(some), self._factors(rows)
        sizes = self.sizes[some][:, None] + self.sizes[rows]  # (n, P)
        squared = sizes - 2 * (a @ b.T) * (z @ w.T)
        return squared.where(squared > self.terms * 2.0**-52 * sizes, 0).cpu()

    def _each(self, value: Callable[[slice], Tensor], dtype: torch.dtype) -> Tensor:
        """(N,), one block after the other, in place: small results kept between large temporary ones tear the heap."""
        whole = self.logits.new_empty(len(self.logits), dtype=dtype)
        for block in self.blocks:
            whole[block] = value(block)
        return whole

    def _size(self, block: slice) -> Tensor:
        """‖g‖², (n,)"""
        a, z = self._factors(block)
        return a.square().sum(1) * z.square().sum(1)

    def _factors(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """(a (n, C), z (n, D)) in float64."""
        return residuals(self.logits[rows].double()), self.features[rows].double()


def kmeans_plus_plus(gradients: Gradients, k: int, key: Tensor, rng: Generator, *, sequential: bool = False) -> Query:
    """k-means++ (Arthur and Vassilvitskii 2007): min(k, N) rows, each drawn in proportion to its D²; score: that D².

    D² is the squared distance to the nearest row before it; the first row is the one of the largest gradient, of score
    ‖g‖². D² only shrinks, so that a bound of it may propose: what is proposed is taken with probability D² ÷ bound, and
    the distribution is exact. `sequential`: one uniform number a row finds it in the running sum of D². Where every D²
    is 0, the lowest `key` (N,) comes first.
    """
    k, order = min(k, len(key)), key.argsort()  # (N,) so that nothing hangs on where an image lies
    rows = highest(gradients.sizes.cpu(), min(k, 1), key)
    scores = gradients.sizes.cpu()[rows]
    most = 1 if sequential else TRIES
    bound, fresh = torch.full((len(key),), torch.inf, dtype=torch.float64), rows  # (N,) and what it does not know of
    while len(rows) < k:
        if len(fresh):
            bound = gradients.nearer(bound, fresh) if sequential else torch.minimum(bound, gradients.bound(fresh))
        if len(fresh) == 0 or not bound.any():
            bound = gradients.nearest(rows)  # bounds so wide that nothing was taken, or all of them rounded to 0
        if not bound.any():
            break
        running, tries = bound[order].cumsum(0), min(most, 2 * (k - len(rows)))  # (N,)
        points = torch.rand(tries, generator=rng, dtype=torch.float64) * running[-1]  # (T,)
        drawn = order[torch.searchsorted(running, points, right=True).clamp(max=len(order) - 1)]
        hurdle = bound[drawn] * (0 if sequential else torch.rand(tries, generator=rng, dtype=torch.float64))
        now, apart = gradients.distance(drawn, rows).amin(1), gradients.distance(drawn, drawn)  # (T,), (T, T)
        taken, heights = _taken(now, apart, hurdle, k - len(rows))
        fresh = drawn[taken]
        rows, scores = torch.cat([rows, fresh]), torch.cat([scores, heights])
    rest = order[torch.isin(order, rows, invert=True)][: k - len(rows)]
    return Query(torch.cat([rows, rest]), torch.cat([scores, torch.zeros(len(rest), dtype=scores.dtype)]))


def _taken(now: Tensor, apart: Tensor, hurdle: Tensor, most: int) -> tuple[list[int], Tensor]:
    """Which of the tries (T,) are above their hurdle when their turn comes, at most so many, and how far each is then.

    now: squared distances to what is chosen already, (T,). apart: to each other, (T, T).
    """
    taken: list[int] = []
    heights: list[float] = []
    for i, least in enumerate(hurdle.tolist()):
        if len(taken) < most and float(now[i]) > least:
            taken.append(i)
            heights.append(float(now[i]))
            now = torch.minimum(now, apart[i])
    return taken, torch.tensor(heights, dtype=now.dtype)


def badge(pool: Evidence, k: int, rng: Generator, *, sequential: bool = False) -> Query:
    """`kmeans_plus_plus` over the gradients g = (p − e_ŷ) ⊗ z of the last layer at the predicted labels.

    Ash et al. 2020, arXiv:1906.03671. g is never multiplied out: ⟨g_i, g_j⟩ = (a_i·a_j)(z_i·z_j) with a = p − e_ŷ.
    `sequential` makes the draws as the authors' code does and gives its picks for its uniform numbers.

    Costs k·N·(C + D) time, nearly all of it in float32 matrix products, and memory N·C; `sequential` a pass over the
    pool for each of the k, in float64 where float32 cannot tell.

    Helps whatever k is, with nothing to set: gradients are large where the scorer is unsure, and those that lie far
    apart do not tell the same. Hurts where the scorer is sure and wrong: that gradient is near 0, and is hardly drawn.
    """
    features, logits = pool.features, pool.logits  # one pass over the images gives both
    return kmeans_plus_plus(Gradients(logits, features), k, keys(pool.ids, rng), rng, sequential=sequential)
