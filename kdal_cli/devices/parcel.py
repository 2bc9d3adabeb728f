"""What one process sends to another: anything that can be pickled, tensors included, and images by reference.

Tensors of a GPU arrive on the GPU of whoever opens the parcel. Images do not travel: both processes map the file that
holds them, which is the one that they come from, or one in memory that is written when they are first sent.
"""

import io
import os
import pickle
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.images.packed import OpenFile, Packed
from kdal_cli.types import Frame, OnDemand

MAPS = Path("/proc/self/maps")


class Lent:
    """Files that other processes may read pixels from, as long as this one keeps them open."""

    def __init__(self) -> None:
        self._files: dict[tuple[int, torch.Size], tuple[Tensor, int, int]] = {}

    def place(self, pixels: Tensor) -> tuple[str, int, tuple[int, ...]]:
        """(path, offset in bytes, shape) of `pixels`, uint8."""
        key = pixels.data_ptr(), pixels.shape
        if key not in self._files:
            self._files[key] = pixels, *(_behind(pixels) or _in_memory(pixels))
        _, handle, offset = self._files[key]
        return f"/proc/{os.getpid()}/fd/{handle}", offset, tuple(pixels.shape)

    def close(self) -> None:
        for _, handle, _ in self._files.values():
            os.close(handle)
        self._files.clear()


def pack(thing: Any, lent: Lent) -> bytes:
    """`thing` in a parcel. Raises UserError for what another process could not make again, such as a lambda."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, part: Any) -> Any:
            if isinstance(part, Resident):
                how = part.augment, part.device, _frame(part.frame)
                if isinstance(part.pixels, Tensor):
                    return _images, (*lent.place(part.pixels), *how)
                return _images_of_pack, (*_pack(part.pixels), *how)
            return NotImplemented

    parcel, by_reference = io.BytesIO(), SimpleNamespace(__name__=__name__, Pickler=Pickler)
    try:
        torch.save(thing, parcel, pickle_module=by_reference, pickle_protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        cure = "define it at the top of a module, or devices=1"
        reason = str(error).splitlines()[0]
        raise UserError(f"what is trained cannot be sent to another process: {reason}", cure=cure) from error
    return parcel.getvalue()


def unpack(parcel: bytes) -> Any:
    """What was packed, in a process of our own: a parcel can run any code."""
    return torch.load(io.BytesIO(parcel), map_location=_here, weights_only=False)


def _here(storage: Any, place: str) -> Any:
    return storage.cuda() if place.startswith("cuda") else storage


@lru_cache(maxsize=2)
def _images(
    path: str,
    offset: int,
    shape: tuple[int, ...],
    augment: Augment,
    device: torch.device,
    frame: tuple[int, float, bytes] | None,
) -> Resident:
    """The images of another process, made ready once and not for each parcel."""
    pixels = torch.from_numpy(np.memmap(path, np.uint8, "c", offset, shape))
    return Resident(pixels, augment, device, frame=_framed(frame))


@lru_cache(maxsize=2)
def _images_of_pack(
    path: str,
    numbers: tuple[bytes, bytes, bytes | None],
    shape: tuple[int, int, int],
    augment: Augment,
    device: torch.device,
    frame: tuple[int, float, bytes] | None,
) -> Resident:
    """The images of a pack that another process has open, which this one reads for itself."""
    ends, checks, chosen = (None if each is None else np.frombuffer(each, np.int64).copy() for each in numbers)
    assert ends is not None
    assert checks is not None
    file = OpenFile(Path(path), os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    pixels = Packed(file, ends, checks, shape, None if chosen is None else torch.from_numpy(chosen))
    return Resident(pixels, augment, device, frame=_framed(frame))


def _pack(pixels: OnDemand) -> tuple[str, tuple[bytes, bytes, bytes | None], tuple[int, int, int]]:
    """What another process opens a pack by."""
    if not isinstance(pixels, Packed):
        raise TypeError(f"cannot be sent to another process: {type(pixels).__name__}")
    chosen = None if pixels.chosen is None else pixels.chosen.numpy().tobytes()
    path = f"/proc/{os.getpid()}/fd/{pixels.file.handle}"
    return path, (pixels.ends.tobytes(), pixels.checks.tobytes(), chosen), pixels.one


def _frame(frame: Frame | None) -> tuple[int, float, bytes] | None:
    """A frame as a key, equal where it says the same."""
    return None if frame is None else (frame.size, frame.crop, frame.sizes.numpy().tobytes())


def _framed(key: tuple[int, float, bytes] | None) -> Frame | None:
    if key is None:
        return None
    size, crop, sizes = key
    return Frame(torch.frombuffer(bytearray(sizes), dtype=torch.int64).view(-1, 2), size, crop)


def _behind(pixels: Tensor) -> tuple[int, int] | None:
    """(handle, offset) of the file that `pixels` are mapped from; None where it is none, or was replaced since."""
    address = pixels.data_ptr()
    for low, high, offset, inode, path in _mappings() if pixels.is_contiguous() else ():
        if low <= address < high and inode:
            with suppress(OSError):
                handle = os.open(path, os.O_RDONLY)
                if os.fstat(handle).st_ino == inode:
                    return handle, offset + address - low
                os.close(handle)
    return None


def _mappings() -> Iterator[tuple[int, int, int, int, str]]:
    """(first address, last + 1, offset in the file, inode or 0, path) of everything that this process has mapped."""
    for line in MAPS.read_text(encoding="utf-8").splitlines():
        span, _, offset, _, inode, *path = line.split(maxsplit=5)
        low, high = (int(end, 16) for end in span.split("-"))
        yield low, high, int(offset, 16), int(inode), "".join(path)


def _in_memory(pixels: Tensor) -> tuple[int, int]:
    """(handle, offset) of a new file in memory, which vanishes with the last process that has it."""
    handle = os.memfd_create("kdal pixels")
    with os.fdopen(os.dup(handle), "wb") as file:
        for block in pixels.split(4096):
            file.write(block.contiguous().numpy().data)
    return handle, 0
