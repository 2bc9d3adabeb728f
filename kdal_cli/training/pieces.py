"""Steps that are too large for memory, taken in equal pieces whose gradients are added up.

The gradient of a mean is the mean of the gradients of its parts, so that the steps stay the same up to rounding. What
compares images of a batch with each other, as batch-norm and relational terms do, sees those of a piece.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdal_cli.errors import MachineError


def smaller(pieces: int, batch: int, pool_batch: int, *, alone: bool) -> int:
    """Twice as many pieces. Raises MachineError where images of a part, or processes, would not share them evenly."""
    more = 2 * pieces
    if not alone or batch % more or pool_batch % more:
        cure = "lower recipe.batch or recipe.pool_batch"
        raise MachineError(f"out of memory with batches of {(batch + pool_batch) // pieces}", cure=cure)
    return more


def told(pieces: int, batch: int, learners: nn.Module) -> str:
    """What is done about it, in a line."""
    size = batch // pieces
    norms = any(isinstance(module, _BatchNorm) for module in learners.modules())
    apart = f"; batch-norm sees {size} images at a time" if norms else ""
    return f"out of memory with batches of {2 * size}: each in {pieces} parts of {size}, gradients added up{apart}"


def of_step(learners: nn.Module, parts: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """What a step found out about its share of the batch: gradients, and how large each part of the loss is."""
    yield from (p.grad for p in learners.parameters() if p.grad is not None)
    yield from parts.values()


def aside(value: Any) -> Any:
    """A state that goes on changing as it is now, in main memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: aside(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(aside(each) for each in value)
    return copy.copy(value)


def release() -> None:
    """Give back what a step that failed has held."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
