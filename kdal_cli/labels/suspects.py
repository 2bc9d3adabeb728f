"""Which labels are likely to be wrong: confident learning (Northcutt, Jiang, Chuang, JAIR 2021, arXiv:1911.00068).

M labelled images, C classes.
"""

import torch
from torch import Tensor


def suspects(labels: Tensor, probs: Tensor) -> Tensor:
    """(S,) rows of labels (M,) that probabilities (M, C) contradict, the worst first.

    probs: of a model that has not learnt from the image that it answers about. A class is held for true where its
    probability is at least the mean of those of the images that are labelled so; of several, the likeliest. A label is
    contradicted where that is another class, and the more so the further it is behind it.
    """
    count, classes = probs.shape
    given = probs[torch.arange(count), labels]  # (M,)
    total = torch.zeros(classes, dtype=probs.dtype).index_add_(0, labels, given)
    least = total / labels.bincount(minlength=classes)  # (C,); nan of a class without a label, which no image reaches
    held = torch.where(probs >= least, probs, -1.0)  # (M, C)
    best, believed = held.max(1)
    contradicted = ((best >= 0) & (believed != labels)).nonzero().flatten()
    margin = (given - best)[contradicted]
    return contradicted[margin.argsort(stable=True)]
