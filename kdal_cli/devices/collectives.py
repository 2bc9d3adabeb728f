"""What several processes compute together, through torch.distributed: gloo between CPUs, NCCL between GPUs.

Every process must make the same calls in the same order. A call that fails, because another process is gone, raises
Deserted.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

PATIENCE = timedelta(days=1)
"""How long a process waits for the others: they may wait for a validation. One that has died is noticed at once."""


class Deserted(RuntimeError):
    """Another process is gone; why is known to that one alone."""


def meet(
    store: dist.Store,  # pyright: ignore[reportPrivateImportUsage]
    kind: str,
    size: int,
    rank: int,
    *,
    messages: bool = False,
) -> None:
    """Meet the others in a store, each with its current GPU where kind is cuda.

    messages: the CPU's tensors travel too, by gloo, beside those of a GPU.
    """
    device = torch.device("cuda", torch.cuda.current_device()) if kind == "cuda" else None
    on_gpu = "cpu:gloo,cuda:nccl" if messages else "nccl"
    dist.init_process_group(
        on_gpu if device else "gloo",
        store=store,
        world_size=size,
        rank=rank,
        timeout=PATIENCE,
        device_id=device,
    )
    average([torch.zeros(1, device=device)], size)


def average(tensors: Iterable[Tensor], size: int) -> None:
    """Replace each tensor by its mean over `size` processes, in place."""
    _together(lambda flat: (dist.all_reduce(flat), flat.div_(size)), tensors)


def follow(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by that of number 0, in place."""
    _together(lambda flat: dist.broadcast(flat, 0), tensors)


def leave() -> None:
    """Part from the others, if they were met."""
    if dist.is_initialized():
        dist.destroy_process_group()


def abort() -> None:
    """Break off what this process waits for, from another thread."""
    dist.distributed_c10d._abort_process_group()


def _together(collective: Callable[[Tensor], Any], tensors: Iterable[Tensor]) -> None:
    """One collective for all tensors of a type, whatever their number and layout."""
    several = list(tensors)
    for dtype in dict.fromkeys(tensor.dtype for tensor in several):
        some = [tensor for tensor in several if tensor.dtype == dtype]
        flat = _flatten_dense_tensors(some)
        try:
            collective(flat)
        except RuntimeError as error:
            raise Deserted from error
        for tensor, changed in zip(some, _unflatten_dense_tensors(flat, some), strict=True):
            tensor.copy_(changed)
