"""The files of a store of images: pixels to be memory-mapped, or JPEGs in a pack, and a table with a row an image.

Axis letters: N images, c channels, H W pixels.
"""

import hashlib
import math
import os
import zlib
from collections.abc import Iterable
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from kdal_cli.images.packed import Packed
from kdal_cli.images.seals import Seal

FOLDER_MODE, FILE_MODE = 0o755, 0o644
CAUTIOUS = os.O_NOFOLLOW | os.O_CLOEXEC

HEAD = 128
"""Bytes that NumPy writes before the values: what says how many there are, padded for that number to grow."""

SIDES, END, CHECK = slice(0, 2), 2, 3
"""Columns of a table: height and width of a picture; of a pack also where its JPEG ends, and its CRC-32."""


def write_pixels(path: Path, images: Iterable[np.ndarray], shape: tuple[int, int, int]) -> Seal:
    """Stream `images`, each of `shape` (c, H, W) uint8, into a .npy file of (N, c, H, W); N shows at the end only."""
    n, digest = 0, hashlib.sha256()
    with writing(path, os.O_EXCL) as file:
        _head(file, 0, shape)
        for image in images:
            data = image.tobytes()
            digest.update(data)
            file.write(data)
            n += 1
        file.seek(0)
        _head(file, n, shape)
        file.flush()
        os.fsync(file.fileno())
        return Seal.of(file, HEAD, digest.hexdigest())


def open_pixels(path: Path) -> Tensor:
    """(N, c, H, W) uint8, memory-mapped. Copy on write: the file stays as it is, and torch takes a writable array.

    Raises ValueError where the file holds anything else.
    """
    return torch.from_numpy(_opened(path, np.dtype(np.uint8), 4))


def write_pack(path: Path, images: Iterable[bytes]) -> tuple[Seal, np.ndarray]:
    """Stream JPEGs into one file, one behind the other. Returns its seal and (N, 2) int64, END and CHECK of each."""
    end, digest, table = 0, hashlib.sha256(), bytearray()
    with writing(path, os.O_EXCL) as file:
        for data in images:
            digest.update(data)
            file.write(data)
            end += len(data)
            table += np.array([end, zlib.crc32(data)], np.int64).tobytes()
        file.flush()
        os.fsync(file.fileno())
        return Seal.of(file, known=digest.hexdigest()), np.frombuffer(table, np.int64).reshape(-1, 2)


def open_pack(path: Path, table: np.ndarray, shape: tuple[int, int, int]) -> Packed:
    """The images of a pack, each of `shape` (c, H, W). Raises ValueError where the table does not fit the file."""
    ends = np.ascontiguousarray(table[:, END])
    with reading(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = np.memmap(file, np.uint8, "c") if size else np.empty(0, np.uint8)
    if (int(ends[-1]) if len(ends) else 0) != size or (np.diff(ends, prepend=0) <= 0).any():
        raise ValueError(path)
    return Packed(torch.from_numpy(data), ends, np.ascontiguousarray(table[:, CHECK]), shape)


def write_table(path: Path, table: np.ndarray) -> Seal:
    """(N, columns) int64 as a .npy file."""
    with writing(path, os.O_EXCL) as file:
        np.save(file, table, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
        return Seal.of(file)


def open_table(path: Path) -> np.ndarray:
    """(N, columns) int64, memory-mapped. Raises ValueError where the file holds anything else."""
    return _opened(path, np.dtype(np.int64), 2)


def make_folder(path: Path) -> None:
    """A folder and those above it, which the umask may close further, but not open."""
    if not path.is_dir():
        if path.parent != path:
            make_folder(path.parent)
        path.mkdir(FOLDER_MODE, exist_ok=True)


def reading(path: Path) -> BufferedReader:
    """A file that is not a link; what is no file is not waited for."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | CAUTIOUS), "rb")


def writing(path: Path, flags: int) -> BufferedRandom:
    """A file that is not a link, new with `O_EXCL`."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | flags | CAUTIOUS, FILE_MODE), "r+b")


def _opened(path: Path, wanted: np.dtype, axes: int) -> np.ndarray:
    with reading(path) as file:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != wanted or fortran or len(shape) != axes:
            raise ValueError(path)
        return np.memmap(file, wanted, "c", file.tell(), shape) if math.prod(shape) else np.empty(shape, wanted)


def _head(file: BinaryIO, n: int, shape: tuple[int, int, int]) -> None:
    entry = {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}
    np.lib.format.write_array_header_1_0(file, entry)
