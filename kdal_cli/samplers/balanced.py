"""Ask for classes in turn, the poorest first."""

import heapq
from collections import Counter

import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence, Sampler
from kdal_cli.samplers._generators import fork
from kdal_cli.samplers.margin import margin
from kdal_cli.types import Query


def turns(labelled: Tensor, available: Tensor, k: int, rng: Generator) -> list[int]:
    """The class of each of min(k, Σ available) picks: again and again the one with the fewest labels, picks included.

    labelled, available: (C,) images of each class that have a label, and that can be picked. Equally poor classes take
    turns in a random order. No other quotas leave a smaller sum of squared labels, or more labels to the poorest class.
    """
    chance, left = torch.randperm(len(labelled), generator=rng).tolist(), available.tolist()
    heap = [(labels, chance[c], c) for c, labels in enumerate(labelled.tolist()) if left[c]]
    heapq.heapify(heap)
    order: list[int] = []
    while heap and len(order) < k:
        labels, turn, c = heap[0]
        order.append(c)
        left[c] -= 1
        if left[c]:
            heapq.heapreplace(heap, (labels + 1, turn, c))
        else:
            heapq.heappop(heap)
    return order


def balanced(pool: Evidence, k: int, rng: Generator, *, of: Sampler = margin) -> Query:
    """What the sampler `of` chooses within each predicted class, in numbers that make labels as equal as they can be.

    Quotas by water-filling: each pick goes to the class with the fewest labels, picks counted as what the scorer
    predicts, while images are predicted so. Bengar et al. 2022, arXiv:2110.04543, balance a batch by an optimisation
    over probabilities instead. Classes come interleaved, the poorest first; scores are those of `of`.

    Costs C queries of `of`, each on the images of one class, and time k log C besides.

    Helps where the pool is imbalanced and accuracy on rare classes counts. Hurts early: quotas are as right as the
    predictions are, and a class that is never predicted gets nothing, however poor it is. A diverse sampler is diverse
    within each class alone.
    """
    predicted = pool.logits.argmax(1).cpu()  # (N,)
    labelled, available = (x.bincount(minlength=pool.classes) for x in (pool.labels.cpu(), predicted))  # (C,), (C,)
    order = torch.tensor(turns(labelled, available, k, rng), dtype=torch.int64)  # (k,)
    generators = [fork(rng) for _ in range(pool.classes)]
    rows, scores = torch.zeros_like(order), torch.zeros(len(order), dtype=torch.float64)
    for c, quota in Counter(order.tolist()).items():
        of_class = (predicted == c).nonzero().squeeze(1)  # (n,)
        query = of(pool.take(of_class), quota, generators[c])
        rows[order == c], scores[order == c] = of_class[query.rows], query.scores.double()
    return Query(rows, scores)
