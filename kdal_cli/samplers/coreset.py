"""Ask for images that leave none far from a labelled one."""

import torch
from torch import Generator, Tensor

from kdal_cli.evidence import Evidence
from kdal_cli.samplers._select import shuffled
from kdal_cli.types import Query

CHUNK = 4096
"""Rows of a distance computed at a time; never N×N or N×M at once."""


EXACT = "donot_use_mm_for_euclid_dist"
"""Through matrix products torch loses half of the digits, and duplicates would lie apart."""


def nearest(features: Tensor, centres: Tensor) -> Tensor:
    """Squared distance of each row to its nearest centre, (N, D), (M, D) -> (N,); infinite without centres."""
    distance = features.new_full((len(features),), torch.inf)
    for part in centres.split(CHUNK) if len(centres) else ():
        for start in range(0, len(features), CHUNK):
            rows = slice(start, start + CHUNK)
            distance[rows] = torch.minimum(
                distance[rows], torch.cdist(features[rows], part, compute_mode=EXACT).square().min(1).values
            )
    return distance


def coreset(pool: Evidence, k: int, rng: Generator) -> Query:
    """k-center greedy: again and again the image farthest from everything labelled or chosen. Score: that distance².

    Sener and Savarese 2018, arXiv:1708.00489; within twice the optimal radius (Gonzalez 1985). Time (M + k)·N·D, memory
    N·D. Without labelled images it starts at a random one, of score infinity. Of equally far ones the first in a random
    order of the ids.
    """
    order = shuffled(pool.ids, rng)  # (N,) decides ties, and the start
    features = pool.features[order.to(pool.features.device)].float()  # (N, D)
    distance = nearest(features, pool.labelled_features.float())  # (N,)
    rows, scores = [], []
    for _ in range(min(k, len(pool))):
        row = int(distance.argmax())
        rows.append(row)
        scores.append(float(distance[row]))
        distance = torch.minimum(distance, (features - features[row]).square().sum(1))
        distance[rows] = -1  # chosen: farther than no one, duplicates at distance 0 included
    return Query(order[rows], torch.tensor(scores, dtype=torch.float64))
