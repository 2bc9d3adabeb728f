"""What one process sends to another: anything that can be pickled, tensors included, and images by reference.

Tensors of a GPU arrive on the GPU of whoever opens the parcel. Images are not in it: both processes map the file that
holds them, which is the one that they come from, or one in memory that is written when they are first sent. A process
on another machine maps the same file where the machines share it, and otherwise has been given a copy before.
"""

import hashlib
import io
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdal_cli.dataset import Frame, OnDemand
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.images.packed import Packed

MAPS = Path("/proc/self/maps")

BLOCKS, BLOCK = 64, 1 << 16
"""How many blocks of how many bytes tell two files of images apart."""


@dataclass(frozen=True)
class Place:
    """Where pixels of this shape lie: in a file that processes of `host` can open, and others, perhaps, as `file`.

    digest: of samples of the pixels, by which another machine knows them.
    """

    host: str
    handle: str
    file: str
    offset: int
    shape: tuple[int, ...]
    digest: str

    def pixels(self) -> Tensor:
        """uint8, mapped. Raises OSError where they are out of reach."""
        if self in RECEIVED:
            return RECEIVED[self]
        if self.host == host():
            return self._mapped(self.handle)
        if Path(self.file).is_file() and digest(found := self._mapped(self.file)) == self.digest:
            return found
        raise FileNotFoundError(self.file)

    def _mapped(self, path: str) -> Tensor:
        return torch.from_numpy(np.memmap(path, np.uint8, "c", self.offset, self.shape))


Carry = Callable[[Place, Tensor], None]
"""Sees that processes on other machines have the pixels of a place."""

RECEIVED: dict[Place, Tensor] = {}
"""Pixels that another machine has sent."""


class Lent:
    """Files that other processes may read pixels from, as long as this one keeps them open."""

    beyond: Carry | None = None

    def __init__(self) -> None:
        self._files: dict[tuple[int, torch.Size], tuple[Tensor, int, Place]] = {}
        self._carried: set[Place] = set()

    def place(self, pixels: Tensor) -> Place:
        """Where `pixels`, uint8, are for whoever opens a parcel."""
        key = pixels.data_ptr(), pixels.shape
        if key not in self._files:
            handle, offset = _behind(pixels) or _in_memory(pixels)
            opened = f"/proc/{os.getpid()}/fd/{handle}"
            place = Place(host(), opened, os.path.realpath(opened), offset, tuple(pixels.shape), digest(pixels))
            self._files[key] = pixels, handle, place
        place = self._files[key][-1]
        if self.beyond is not None and place not in self._carried:
            self._carried.add(place)
            self.beyond(place, pixels)
        return place

    def close(self) -> None:
        for _, handle, _ in self._files.values():
            os.close(handle)
        self._files.clear()
        self._carried.clear()


@cache
def host() -> str:
    """Names the machine, and the container on it, whose processes see each other's files."""
    return f"{socket.gethostname()} {os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116


def digest(pixels: Tensor) -> str:
    """Of samples all over the pixels, and of their number."""
    flat = pixels.reshape(-1)
    found = hashlib.sha256(str(tuple(pixels.shape)).encode())
    for start in torch.linspace(0, max(0, len(flat) - BLOCK), BLOCKS, dtype=torch.float64).long().tolist():
        found.update(flat[start : start + BLOCK].numpy().data)
    return found.hexdigest()


def pack(thing: Any, lent: Lent) -> bytes:
    """`thing` in a parcel. Raises UserError for what another process could not make again, such as a lambda."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, part: Any) -> Any:
            if isinstance(part, Resident):
                how = part.augment, part.device, _frame(part.frame)
                if isinstance(part.pixels, Tensor):
                    return _images, (lent.place(part.pixels), *how)
                return _images_of_pack, (*_pack(part.pixels, lent), *how)
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
    place: Place,
    augment: Augment,
    device: torch.device,
    frame: tuple[int, float, bytes] | None,
) -> Resident:
    """The images of another process, made ready once and not for each parcel."""
    return Resident(place.pixels(), augment, device, frame=_framed(frame))


@lru_cache(maxsize=2)
def _images_of_pack(
    place: Place,
    numbers: tuple[bytes, bytes, bytes | None],
    shape: tuple[int, int, int],
    augment: Augment,
    device: torch.device,
    frame: tuple[int, float, bytes] | None,
) -> Resident:
    """The images of a pack, whose JPEGs this process decodes for itself."""
    ends, checks, chosen = (None if each is None else np.frombuffer(each, np.int64).copy() for each in numbers)
    assert ends is not None
    assert checks is not None
    pixels = Packed(place.pixels(), ends, checks, shape, None if chosen is None else torch.from_numpy(chosen))
    return Resident(pixels, augment, device, frame=_framed(frame))


def _pack(pixels: OnDemand, lent: Lent) -> tuple[Place, tuple[bytes, bytes, bytes | None], tuple[int, int, int]]:
    """What another process has a pack by: its bytes go the way of pixels."""
    if not isinstance(pixels, Packed):
        raise TypeError(type(pixels).__name__)
    chosen = None if pixels.chosen is None else pixels.chosen.numpy().tobytes()
    return lent.place(pixels.data), (pixels.ends.tobytes(), pixels.checks.tobytes(), chosen), pixels.one


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
