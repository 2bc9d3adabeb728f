"""Points in an order of their own, without a copy of the table that they are rows of.

N points, n of them, D features.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


class Rows:
    """Rows (N, D) of tables that lie one below the other, float32, made when they are read.

    order: (N,) which row each point is; None takes all as they come. unit: whether they are made as long as 1. A
    tensor of as many rows is read in the same way, `rows[which]` and `rows.split(n)`, and holds them twice.
    """

    def __init__(self, *tables: Tensor, order: Tensor | None = None, unit: bool = False) -> None:
        self.tables, self.unit = tables, unit
        self.order = torch.arange(sum(map(len, tables))) if order is None else order.cpu()

    @property
    def device(self) -> torch.device:
        return self.tables[0].device

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, which: Tensor) -> Tensor:
        """(n, D) of some of the points, (n,)."""
        wanted = self.order[which.cpu()].to(self.device)
        points = self.tables[0].new_empty(len(wanted), self.tables[0].shape[1], dtype=torch.float32)
        start = 0
        for table in self.tables:
            here = (wanted >= start) & (wanted < start + len(table))
            if here.all():
                points = table[wanted - start].float()
                break
            points[here] = table[wanted[here] - start].float()
            start += len(table)
        return F.normalize(points, dim=1) if self.unit else points

    def split(self, n: int) -> Iterator[Tensor]:
        """All of them, at most n at a time."""
        return (self[some] for some in torch.arange(len(self)).split(n))
