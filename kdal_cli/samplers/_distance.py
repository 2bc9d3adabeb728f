"""How far points are from the nearest of some centres: a bound for all of them, the exact number for a few.

N points, n of them, P centres, D features.
"""

import torch
from torch import Tensor

CHUNK = 1024
"""Rows, and columns, of a block of distances: never N×P at once."""


class Cloud:
    """N points (N, D), float32, and their squared distances to others. Memory beside the points: one number a point.

    Matrix products are fast and lose digits: copies would lie apart. Differences in float64 keep them and are slow. So
    products tell which centres may be the nearest, and differences decide between those. The mean is taken away first,
    because what products lose grows with the distance from the origin.
    """

    def __init__(self, points: Tensor) -> None:
        self.points = points
        self.mean = points.mean(0)  # (D,)
        self.sizes = torch.cat([self._centred(some)[1] for some in points.split(CHUNK)])  # (N,)
        self.rounding = (2 * points.shape[1] + 16) * 2.0**-24  # of d² from products, over the sum of the two sizes

    def bound(self, centres: Tensor) -> Tensor:
        """No less than d² to the nearest of `centres` (P, D), and a rounding more: (N,) float64, CPU. Time N·P·D."""
        bound, wide = self.points.new_full((len(self.points),), torch.inf), 1 + self.rounding
        for some in centres.split(CHUNK) if len(centres) else ():
            c, sizes = self._centred(some)
            for start in range(0, len(bound), CHUNK):
                rows = slice(start, start + CHUNK)
                x = self.points[rows] - self.mean  # (n, D)
                nearest = torch.addmm(wide * sizes, x, c.T, alpha=-2).amin(1) + wide * self.sizes[rows]  # (n,)
                bound[rows] = torch.minimum(bound[rows], nearest)
        return bound.double().cpu()

    def distance(self, rows: Tensor, centres: Tensor) -> Tensor:
        """d² of some `rows` (n,) to the nearest of `centres` (P, D), exactly; infinite without: (n,) float64, CPU."""
        return torch.cat([self._nearest(self.points[some], centres) for some in rows.split(CHUNK)]).cpu()

    def _nearest(self, points: Tensor, centres: Tensor) -> Tensor:
        nearest = points.new_full((len(points),), torch.inf, dtype=torch.float64)
        x, own = self._centred(points)
        for some in centres.split(CHUNK) if len(centres) else ():
            c, others = self._centred(some)
            sizes = own[:, None] + others  # (n, P)
            squared = torch.addmm(sizes, x, c.T, alpha=-2)
            likeliest = squared.argmin(1, keepdim=True)  # (n, 1)
            nearest = torch.minimum(nearest, difference(points, some[likeliest[:, 0]]))
            nearer = squared - self.rounding * sizes < nearest[:, None]  # perhaps
            for pairs in nearer.scatter(1, likeliest, False).nonzero().split(CHUNK):
                i, j = pairs.unbind(1)
                nearest.scatter_reduce_(0, i, difference(points[i], some[j]), "amin")
        return nearest

    def _centred(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Points (n, D) less the mean, and their squared lengths (n,)."""
        x = points - self.mean
        return x, x.square().sum(1)


def difference(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_i‖² in float64: (n, D), (n, D) -> (n,)."""
    return (x.double() - y.double()).square().sum(1)
