"""Where tables of one row an image are held: in memory, or in files that the system reads and drops as it needs to."""

import math
import mmap
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from kdal_cli.errors import MachineError

Holding = Literal["memory", "mapped"]

BLOCK = 16_384
"""Rows that are made at a time, about."""


class Tables:
    """Makes tables (N, D).

    folder: of the files, which have no name and go with the process, however it ends; their tables are on the CPU.
    None makes tables in the memory of the device that their rows are on.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def zeros(self, rows: int, like: Tensor) -> Tensor:
        """(rows, D) for rows like those of a tensor (n, D). Raises MachineError where the disk has no room."""
        shape = (rows, *like.shape[1:])
        size = math.prod(shape) * like.element_size()
        if self.folder is None or not size:
            return self.placed(like).new_zeros(shape)
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                _reserve(file.fileno(), size)
                return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=like.dtype).view(shape)
        except OSError as error:
            what = f"features of {rows:,} images, {size / 1e9:.3g} GB, cannot be mapped: {error.strerror}"
            raise MachineError(what, where=self.folder, cure="make room, or features=memory") from error

    def filled(self, rows: int, parts: Iterable[Tensor]) -> Tensor:
        """(rows, D) from its parts in order, (n, D) each, of which there is one at least."""
        table, start = torch.empty(0), 0
        for part in parts:
            if self.folder is None and len(part) == rows:
                return part
            table = table if start else self.zeros(rows, part)
            table[start : start + len(part)] = part
            start += len(part)
        return table

    def placed(self, rows: Tensor) -> Tensor:
        """Rows where tables are."""
        return rows if self.folder is None else rows.cpu()


def _reserve(file: int, size: int) -> None:
    """Have a file take its room now: else a full disk would end the process when a row is written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # macOS
        os.truncate(file, size)
