"""Flips and padded crops as numbered views: an augmented image is a function of (id, view), and of nothing else.

View v of an image padded by p zeros on each side, with s = 2p + 1 offsets along an axis:

    flip = v // s²      0: as it is, 1: mirrored left to right, after the crop
    dy   = v % s² // s  the crop's first row in the padded image
    dx   = v % s        the crop's first column

so that pad 4 with flip has 9 · 9 · 2 = 162 views, and dy = dx = p without flip is the image itself.

Axis letters: N images, B batch, c channels, H W pixels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.values import Natural

CPU_LIMIT = 2 << 30
"""Bytes that a copy of the data set may take in main memory."""


@dataclass(frozen=True)
class Augment:
    """Which views there are: crops from an image padded by `pad` zeros, and their mirror images with `flip`."""

    pad: Natural = 0
    flip: bool = False

    @property
    def offsets(self) -> int:
        """Along one axis."""
        return 2 * self.pad + 1

    @property
    def views(self) -> int:
        return self.offsets**2 * (2 if self.flip else 1)

    @property
    def identity(self) -> int:
        """The view that is the image itself."""
        return self.pad * self.offsets + self.pad


class Resident:
    """A data set's pixels, ready to be looked at from any view, on `device`.

    pixels: (N, c, H, W) uint8 on the CPU. Where they fit they are padded once and stay on the device; where not, each
    batch is gathered from them, memory-mapped or not, moved and padded on the fly: the same bits, more slowly.
    `limit_bytes` overrides what fits: 2 GiB in main memory, half of the free memory of a GPU. Without padding nothing
    is copied in main memory, and so everything fits.
    """

    def __init__(
        self, pixels: Tensor, augment: Augment, device: torch.device | str = "cpu", limit_bytes: int | None = None
    ) -> None:
        self.augment, self.device = augment, torch.device(device)
        self.pixels = pixels
        n, c, h, w = pixels.shape
        grown = n * c * (h + 2 * augment.pad) * (w + 2 * augment.pad)
        free = augment.pad == 0 and self.device.type == "cpu"
        fits = free or grown <= (_limit(self.device) if limit_bytes is None else limit_bytes)
        self._padded = self._pad(pixels.to(self.device)) if fits else None

    @property
    def resident(self) -> bool:
        """Whether the data set stays on the device."""
        return self._padded is not None

    def __len__(self) -> int:
        return len(self.pixels)

    def at(self, ids: Tensor, views: Tensor) -> Tensor:
        """View `views` (B,) of images `ids` (B,): (B, c, H, W) uint8 on the device, contiguous.

        Raises IndexError for an id or a view that does not exist, where they are given on the CPU.
        """
        _check(ids, len(self), "image")
        _check(views, self.augment.views, "view")
        views, offsets = views.to(self.device), self.augment.offsets
        flip, dy, dx = views // offsets**2, views // offsets % offsets, views % offsets
        if self._padded is None:
            padded, rows = self._pad(self._gather(ids)), torch.arange(len(ids), device=self.device)
        else:
            padded, rows = self._padded, ids.to(self.device)
        return _crop(padded, rows, flip.bool(), dy, dx, self.pixels.shape[2], self.pixels.shape[3])

    def whole(self, ids: Tensor) -> Tensor:
        """Images `ids` (B,) as they are, the identity view: (B, c, H, W) uint8 on the device, contiguous."""
        _check(ids, len(self), "image")
        if self._padded is None:
            return self._gather(ids)
        _, _, h, w = self.pixels.shape
        p = self.augment.pad
        return self._padded.index_select(0, ids.to(self.device))[:, :, p : p + h, p : p + w].contiguous()

    def _gather(self, ids: Tensor) -> Tensor:
        return self.pixels.index_select(0, ids.cpu()).to(self.device)

    def _pad(self, pixels: Tensor) -> Tensor:
        p = self.augment.pad
        return F.pad(pixels, (p, p, p, p)) if p else pixels.contiguous()


def _crop(padded: Tensor, rows: Tensor, flip: Tensor, dy: Tensor, dx: Tensor, h: int, w: int) -> Tensor:
    """Windows (B, c, h, w) from (dy, dx) on of images `rows` (B,) of `padded` (N, c, y, x), mirrored where `flip`.

    Whole lines are copied first, then columns picked, from the right where mirrored: on a CPU half the time of windows
    indexed through `unfold` and flipped.
    """
    _, c, high, wide = padded.shape
    channel, down, across = (torch.arange(n, device=padded.device) for n in (c, h, w))
    top = (rows[:, None] * c + channel) * high + dy[:, None]  # (B, c) first line of each window, among all lines
    lines = (top[:, :, None] + down).flatten()  # (B·c·h,)
    band = padded.view(-1, wide).index_select(0, lines).view(len(rows), c * h, wide)
    columns = torch.where(flip[:, None], w - 1 - across, across) + dx[:, None]  # (B, w)
    return band.gather(2, columns[:, None].expand(-1, c * h, -1)).view(-1, c, h, w)


def _limit(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else CPU_LIMIT


def _check(numbers: Tensor, count: int, what: str) -> None:
    """A view too large would be taken for a flip, and a negative id for an image counted from the end."""
    if numbers.device.type == "cpu" and len(numbers):
        low, high = torch.aminmax(numbers)
        if low < 0 or high >= count:
            raise IndexError(f"there are {count} {what}s, numbered from 0: not {int(low if low < 0 else high)}")
