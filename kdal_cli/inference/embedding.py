"""Vectors that the user brings: one row for each image of the data set, in the order of its ids."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from kdal_cli.errors import UserError

VECTORS = "features.npy"
"""The file of a run folder in which `kdal pretrain` leaves its features of all images."""


def vectors(path: Path) -> Path:
    """The file of vectors that a path stands for: itself, or the one in a run folder."""
    return path / VECTORS if path.is_dir() else path


def embedding(path: Path, images: int) -> Callable[[Tensor], Tensor]:
    """A function from ids (n,) to their rows (n, D), float32, of a file that stays on disk.

    path: `.npy`, or `.safetensors` with one tensor. Raises UserError for a file that does not hold one row of finite
    numbers for each of so many images.
    """
    try:
        read, shape = _npy(path) if path.suffix == ".npy" else _safetensors(path)
    except Exception as error:  # of a damaged header anything is raised, syntax errors too
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"cannot read this embedding: {reason}", where=path, cure="a .npy or .safetensors") from None
    if len(shape) != 2 or shape[0] != images or not shape[1]:
        cure = f"it needs ({images:,}, D): one row for each image of the data set"
        raise UserError(f"this embedding is {shape}", where=path, cure=cure)

    def rows(ids: Tensor) -> Tensor:
        vectors = read(ids.cpu())
        bad = ~vectors.isfinite().all(1)
        if bad.any():
            raise UserError(f"the row of image {int(ids[bad][0])} is not finite", where=path, cure="mend the file")
        return vectors

    return rows


def _npy(path: Path) -> tuple[Callable[[Tensor], Tensor], tuple[int, ...]]:
    table = np.lib.format.open_memmap(path, mode="r")
    if not np.issubdtype(table.dtype, np.number) or np.issubdtype(table.dtype, np.complexfloating):
        raise ValueError(f"its numbers are {table.dtype}")

    def read(ids: Tensor) -> Tensor:
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and told by its row
            return torch.from_numpy(np.asarray(table[ids.numpy()], dtype=np.float32))

    return read, table.shape


def _safetensors(path: Path) -> tuple[Callable[[Tensor], Tensor], tuple[int, ...]]:
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        if len(names) != 1:
            raise ValueError(f"it holds {len(names)} tensors, one is needed")
        table: Tensor = file.get_tensor(names[0])
    return lambda ids: table[ids].float(), tuple(table.shape)
