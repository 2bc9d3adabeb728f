"""New images beside those that a network knows: a sample of their features, and those most worth a label.

Axis letters: B batch, D features.
"""

import heapq
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kdal_cli.inference.answering import Answer, Classify
from kdal_cli.network import Network


class Reservoir:
    """At most `most` rows of all that come by, each of them with the same probability (Vitter's algorithm R)."""

    def __init__(self, most: int, rng: torch.Generator) -> None:
        self.most, self.seen = most, 0
        self._rows: list[Tensor] = []
        self._rng = rng

    def add(self, rows: Tensor) -> None:
        """rows (B, D)"""
        for row in rows:
            self.seen += 1
            if len(self._rows) < self.most:
                self._rows.append(row.clone())
                continue
            place = int(torch.randint(self.seen, (), generator=self._rng))
            if place < self.most:
                self._rows[place] = row.clone()

    @property
    def rows(self) -> Tensor:
        return torch.stack(self._rows)


def watched(network: Network, features: Reservoir) -> Classify:
    """A network as a function of pixels that keeps a sample of the features it sees."""

    def classify(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            output = network(torch.from_numpy(pixels).to(network.mean.device)).float()
        features.add(output.features.cpu())
        return output.logits.cpu().numpy()

    network.eval()
    return classify


@dataclass
class Worthiest:
    """The `most` answers of the highest entropy, whichever number comes by: what a label is worth most for."""

    most: int
    _held: list[tuple[float, int, Answer]] = field(default_factory=list)
    _count: int = 0

    def add(self, answer: Answer) -> None:
        self._count += 1
        entry = (answer.entropy, -self._count, answer)  # of equals, the one that came first
        (heapq.heappush if len(self._held) < self.most else heapq.heappushpop)(self._held, entry)

    @property
    def answers(self) -> list[Answer]:
        """The most uncertain first."""
        return [answer for _, _, answer in sorted(self._held, key=lambda e: (-e[0], -e[1]))]
