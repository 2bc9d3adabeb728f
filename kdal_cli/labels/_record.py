"""What stands in a record of the ledger, held to what can stand there before anything is made of it.

Every function raises ValueError or TypeError for anything else: a file that was sent by others may say anything.
"""

import math
from typing import Any

import torch
from torch import Tensor

LARGEST = 1 << 53
"""What is counted is below it: ids, rounds. JSON numbers above are not whole numbers everywhere."""


def whole(value: Any, below: int = LARGEST) -> int:
    """A whole number from 0 on."""
    if type(value) is not int or not 0 <= value < below:
        raise ValueError(value)
    return value


def number(value: Any) -> float:
    """A number; null is one that was not finite."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    return float(value)


def wholes(values: Any) -> list[int]:
    """A list of whole numbers."""
    return [whole(value) for value in _listed(values)]


def numbers(values: Any) -> list[float]:
    """A list of numbers."""
    return [number(value) for value in _listed(values)]


def texts(values: Any) -> list[str]:
    """A list of texts."""
    found = _listed(values)
    if not all(isinstance(value, str) for value in found):
        raise TypeError(values)
    return found


def spread(ranges: Any, most: int) -> Tensor:
    """(n,) ids from [first, last] of each unbroken stretch, in order; counted before they are made, `most` in all."""
    pairs = [(whole(first), whole(last)) for first, last in _listed(ranges)]
    count = sum(last + 1 - first for first, last in pairs)
    if any(first > last for first, last in pairs) or count > most:
        raise ValueError(count)
    return torch.cat([torch.empty(0, dtype=torch.int64), *(torch.arange(a, b + 1) for a, b in pairs)])


def ranges(ids: Tensor) -> list[list[int]]:
    """Sorted ids as [first, last] of each unbroken stretch: a pool is few of them."""
    breaks = (ids.diff() != 1).nonzero().flatten()
    firsts, lasts = torch.cat([ids[:1], ids[breaks + 1]]), torch.cat([ids[breaks], ids[-1:]])
    return torch.stack([firsts, lasts], 1).tolist()


def _listed(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise TypeError(values)
    return values
