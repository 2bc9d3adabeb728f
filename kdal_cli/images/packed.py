"""Images in one file, as JPEGs one behind the other, decoded when they are read and a batch ahead of that.

For sets whose pixels would not fit on a disk, see decision 033. An image is read by its place in the file, so that many
processes share it, and checked by its CRC-32; what it decodes to is the same in every run and by either decoder.

Axis letters: N images, n some of them, c channels, K side.
"""

import io
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdal_cli.errors import MachineError

HAND = 16
"""Images that a worker decodes at a time."""

Decoder = Callable[[Tensor, int], Tensor]
"""(a JPEG (n,) uint8, c) -> (c, K, K) uint8."""


def encoded(pixels: np.ndarray, quality: int) -> bytes:
    """(c, K, K) uint8 as a JPEG, its colours at full resolution (4:4:4)."""
    rows = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    data = io.BytesIO()
    Image.fromarray(rows).save(data, format="JPEG", quality=quality, subsampling=0)
    return data.getvalue()


class Packed:
    """Images (N, c, K, K) uint8 that are decoded when they are read, see `kdal_cli.dataset.OnDemand`.

    data: (bytes,) uint8, their JPEGs, mapped from a file. ends: (N,) int64, where each ends in it. checks: (N,) int64,
    the CRC-32 of each. shape: (c, K, K). chosen: (n,) int64, which of them these are, in this order; None is all.
    """

    def __init__(
        self,
        data: Tensor,
        ends: np.ndarray,
        checks: np.ndarray,
        shape: tuple[int, int, int],
        chosen: Tensor | None = None,
    ) -> None:
        self.data, self.ends, self.checks, self.chosen = data, ends, checks, chosen
        self.shape = torch.Size((len(ends) if chosen is None else len(chosen), *shape))
        self._coming: tuple[Tensor, Callable[[], Tensor]] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def one(self) -> tuple[int, int, int]:
        """(c, K, K)"""
        _, channels, height, width = self.shape
        return channels, height, width

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> Tensor:
        """(c, K, K) of a row, (n, c, K, K) of several. Raises MachineError for what is not as it was written."""
        if isinstance(rows, int):
            return self[torch.tensor([rows])][0]
        wanted = torch.arange(len(self))[rows] if isinstance(rows, slice) else torch.as_tensor(rows, dtype=torch.int64)
        coming, self._coming = self._coming, None
        if coming is not None and torch.equal(coming[0], wanted):
            return coming[1]()
        return self._begun(wanted)()

    def copied(self, ids: Tensor) -> "Packed":
        """A set whose image number i is image `ids[i]` of this one; nothing is read for that."""
        chosen = ids if self.chosen is None else self.chosen[ids]
        return Packed(self.data, self.ends, self.checks, self.one, chosen)

    def expect(self, ids: Tensor) -> None:
        """Begin to decode the images that will be asked for next, (n,), in this order."""
        self._coming = ids, self._begun(ids)

    def _begun(self, rows: Tensor) -> Callable[[], Tensor]:
        """What waits for rows (n,) that workers are decoding."""
        places = (rows if self.chosen is None else self.chosen[rows]).numpy()
        found = np.empty((len(places), *self.one), np.uint8)  # no tensor: inference mode is each thread's own

        def decode(start: int) -> None:
            for place in range(start, min(start + HAND, len(places))):
                found[place] = self._image(int(places[place])).numpy()

        hands: list[Future[None]] = [_workers().submit(decode, start) for start in range(0, len(places), HAND)]

        def wait() -> Tensor:
            for hand in hands:
                hand.result()
            return torch.from_numpy(found)

        return wait

    def _image(self, row: int) -> Tensor:
        """(c, K, K)"""
        if not 0 <= row < len(self.ends):
            raise IndexError(f"there are {len(self.ends)} images, numbered from 0: not {row}")
        start = int(self.ends[row - 1]) if row else 0
        jpeg = self.data[start : int(self.ends[row])]
        if zlib.crc32(jpeg.numpy().data) == self.checks[row]:
            pixels = decoder()(jpeg, self.shape[1])
            if pixels.shape == self.shape[1:]:
                return pixels
        what = f"kept image {row} is not what was written there"
        raise MachineError(what, cure="kdal store --clear images, and start again")


@cache
def decoder() -> Decoder:
    """torchcodec's where it is installed, which lets more threads work at once, or Pillow's: the same pixels."""
    try:
        from torchcodec.decoders import decode_jpeg  # pyright: ignore[reportPrivateImportUsage]
    except (ImportError, OSError, RuntimeError):  # not there, too old, or made for another torch
        return _by_pillow

    def by_torchcodec(data: Tensor, channels: int) -> Tensor:
        found = decode_jpeg(data, mode="GRAY" if channels == 1 else "RGB")
        assert isinstance(found, Tensor)  # a list for a list
        return found

    return by_torchcodec


def _by_pillow(data: Tensor, channels: int) -> Tensor:
    with Image.open(io.BytesIO(data.numpy().data), formats=("JPEG",)) as image:
        rows = np.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(rows.reshape(*rows.shape[:2], channels)).permute(2, 0, 1)


@cache
def _workers() -> ThreadPoolExecutor:
    """Threads: decoders let go of the interpreter, and other processes would have to send pixels back."""
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), "decode")


os.register_at_fork(after_in_child=_workers.cache_clear)
