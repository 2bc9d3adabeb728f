"""Augmentation as numbered views: an augmented image is a function of (id, view), and of nothing else.

Of padded crops there are as many as there are offsets. View v of an image padded by p zeros on each side, with
s = 2p + 1 offsets along an axis, is

    flip = v // s²      0: as it is, 1: mirrored left to right, after the crop
    dy   = v % s² // s  the crop's first row in the padded image
    dx   = v % s        the crop's first column

so that pad 4 with flip has 9 · 9 · 2 = 162 views, and dy = dx = p without flip is the image itself. Of views that are
drawn there are as many as are wanted: what view v of image i is follows from (seed, i, v), see `images.draws`.

Axis letters: N images, B batch, c channels, H W pixels.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.dataset import Frame, ImageSet, OnDemand
from kdal_cli.errors import UserError
from kdal_cli.images import colours, crops, draws, strong
from kdal_cli.values import Count, Natural, Share

CPU_LIMIT = 2 << 30
"""Bytes that a copy of the data set may take in main memory."""

ENDLESS = 2**31
"""Views where nobody limits them: no training of an image comes to so many."""

Kind = Literal["none", "crop_flip", "photo", "photo_strong"]

Place = Literal["whole", "centre"] | tuple[int, int]
"""What is looked at of an image without augmentation: all that is usual, its centre, or a corner (down, across)."""

MIDDLE = 0.875
"""The share of a side that a centre and corners have where the data say none: 224 of 256 pixels."""

LIVELY = {"photo": 0.2, "photo_strong": 0.4}
"""How much brightness, contrast and saturation change at most."""


@dataclass(frozen=True)
class Augment:
    """Which views there are.

    kind: `none`, the image as it is; `crop_flip`, crops from it padded by `pad` zeros, and their mirror images with
    `flip`; `photo`, parts of at least `least` of its area, mirrored or not, in changed brightness, contrast and
    saturation; `photo_strong`, more of that, then an operation of TrivialAugment. views: how many an image has;
    None: all there are, of drawn ones a new one each time. seed: of those that are drawn.
    """

    pad: Natural = 0
    flip: bool = False
    kind: Kind = "crop_flip"
    least: Share = 0.35
    views: Count | None = None
    seed: Natural = 0

    @property
    def drawn(self) -> bool:
        """Whether a view is drawn, rather than counted."""
        return self.kind in LIVELY or (self.kind == "crop_flip" and self.views is not None)

    @property
    def offsets(self) -> int:
        """Along one axis."""
        return 2 * self.pad + 1

    @property
    def crops(self) -> int:
        """Padded crops and their mirror images."""
        return self.offsets**2 * (2 if self.flip else 1)

    @property
    def count(self) -> int:
        """How many views an image has."""
        if self.kind == "none":
            return 1
        return (self.views or ENDLESS) if self.drawn else self.crops

    @property
    def spelt(self) -> str:
        """A name for these views that no others share."""
        crops = f"pad{self.pad}{'_flip' * self.flip}"
        if not self.drawn:
            return crops if self.kind == "crop_flip" else self.kind
        what = crops if self.kind == "crop_flip" else f"{self.kind}_least{self.least:g}"
        return f"{what}_views{self.count}_seed{self.seed}"

    @property
    def identity(self) -> int:
        """The padded crop that is the image itself."""
        return self.pad * self.offsets + self.pad

    @property
    def margin(self) -> int:
        """Zeros on each side of an image."""
        return self.pad if self.kind == "crop_flip" else 0


def unaugmented(part: ImageSet, ids: Tensor) -> Tensor:
    """What a network looks at of images `ids` (B,) that are not augmented: (B, c, H, W) uint8 in main memory."""
    return part.pixels[ids] if part.frame is None else Resident.of(part, Augment()).whole(ids)


class Resident:
    """A data set's pixels, ready to be looked at from any view, on `device`.

    pixels: (N, c, H, W) uint8 on the CPU. Where they fit they are padded once and stay on the device; where not, each
    batch is gathered from them, memory-mapped or decoded, moved and padded on the fly: the same bits, more slowly.
    `limit_bytes` overrides what fits: 2 GiB in main memory, half of the free memory of a GPU. Without padding nothing
    is copied in main memory, and so everything fits. frame: pictures of any proportions are looked at through it.
    """

    def __init__(
        self,
        pixels: Tensor | OnDemand,
        augment: Augment,
        device: torch.device | str = "cpu",
        limit_bytes: int | None = None,
        frame: Frame | None = None,
    ) -> None:
        self.augment, self.device, self.frame = augment, torch.device(device), frame
        self.pixels = pixels
        self.place: Place = "whole"
        self.mirrored = False
        n, c, h, w = pixels.shape
        pad = 0 if frame is not None else augment.margin
        grown = n * c * (h + 2 * pad) * (w + 2 * pad)
        free = pad == 0 and self.device.type == "cpu"
        self._padded = None
        if isinstance(pixels, Tensor):
            fits = free or grown <= (_limit(self.device) if limit_bytes is None else limit_bytes)
            self._padded = _pad(pixels.to(self.device), pad) if fits else None

    @classmethod
    def of(cls, part: ImageSet, augment: Augment, device: torch.device | str = "cpu") -> "Resident":
        """The images of a split, through its frame where it has one."""
        return cls(part.pixels, augment, device, frame=part.frame)

    @property
    def resident(self) -> bool:
        """Whether the data set stays on the device."""
        return self._padded is not None

    def __len__(self) -> int:
        return len(self.pixels)

    def expect(self, ids: Tensor) -> None:
        """Begin to read images `ids` (B,), of which views are asked for next."""
        if not isinstance(self.pixels, Tensor):
            self.pixels.expect(ids.cpu())

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, H, W) of what a network is shown."""
        _, channels, height, width = self.pixels.shape
        return (channels, height, width) if self.frame is None else (channels, self.frame.size, self.frame.size)

    def at(self, ids: Tensor, views: Tensor) -> Tensor:
        """View `views` (B,) of images `ids` (B,), both on the CPU: (B, c, H, W) uint8 on the device, contiguous.

        Raises IndexError for an id or a view that does not exist.
        """
        _check(ids, len(self), "image")
        _check(views, self.augment.count, "view")
        augment = self.augment
        if augment.kind == "none":
            return self._whole(ids)
        if augment.kind != "crop_flip":
            return self._photo(ids, views)
        if augment.drawn:
            views = (draws.uniform(augment.seed, ids, views, 1)[:, 0] * augment.crops).long()
        return self._crop_flip(ids, views)

    def again(self, ids: Tensor, numbers: Tensor) -> Tensor:
        """A view of images `ids` (B,) that is drawn by `numbers` (B,) from 0 on: (B, c, H, W) uint8 on the device."""
        return self.at(ids, self._drawn(ids, numbers, 1)[0])

    def strong(self, ids: Tensor, numbers: Tensor) -> Tensor:
        """As `again`, then changed strongly by what is drawn as well: RandAugment and a hole, see `images.strong`."""
        views, drawn = self._drawn(ids, numbers, 1 + strong.DRAWS)
        return strong.changed(self.at(ids, views), drawn)

    def _drawn(self, ids: Tensor, numbers: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """(views (B,), draws (B, n - 1)) that follow from (seed, image, number), away from the views themselves."""
        drawn = draws.uniform(self.augment.seed, ids.cpu(), -1 - numbers.cpu(), n)
        return (drawn[:, 0] * self.augment.count).long(), drawn[:, 1:]

    def whole(self, ids: Tensor) -> Tensor:
        """Images `ids` (B,) as they are, the identity view: (B, c, H, W) uint8 on the device, contiguous."""
        _check(ids, len(self), "image")
        if self.place == "whole" and not self.mirrored:
            return self._whole(ids)
        return self._placed(ids)

    def looked_at(self, place: Place, *, mirrored: bool) -> "Resident":
        """The same images, of which `whole` shows another part, or its mirror image."""
        other = copy.copy(self)
        other.place, other.mirrored = place, mirrored
        return other

    def _placed(self, ids: Tensor) -> Tensor:
        """The centre or a corner of images, in their usual size. Raises UserError for images that are no squares."""
        ids, frame = ids.cpu(), self.frame
        if self.place == "whole" and frame is None:
            return self._whole(ids).flip(3)
        _, height, width = self.shape
        if height != width:
            raise UserError(f"tta=ten_crop of images of {height} × {width}", cure="tta=flip: corners are squares")
        sizes = frame.sizes[ids] if frame is not None else torch.tensor([[height, width]]).expand(len(ids), 2)
        share = frame.crop if frame is not None else MIDDLE
        middle = self.place in ("whole", "centre")
        parts = crops.centre(sizes, share) if middle else crops.corner(sizes, share, *self.place)  # type: ignore[misc]
        flip = torch.full((len(ids),), self.mirrored)
        if frame is None:
            return crops.resampled(self._whole(ids), torch.arange(len(ids)), parts, flip, height)
        return self._parts(ids, parts, flip, height)

    def _whole(self, ids: Tensor) -> Tensor:
        if self.frame is not None:
            parts = crops.centre(self.frame.sizes[ids.cpu()], self.frame.crop)
            return self._parts(ids, parts, torch.zeros(len(ids), dtype=torch.bool), self.frame.size)
        if self._padded is None:
            return self._gather(ids)
        _, _, h, w = self.pixels.shape
        p = self.augment.margin
        return self._padded.index_select(0, ids.to(self.device))[:, :, p : p + h, p : p + w].contiguous()

    def _crop_flip(self, ids: Tensor, views: Tensor) -> Tensor:
        views, offsets, p = views.to(self.device), self.augment.offsets, self.augment.pad
        flip, dy, dx = views // offsets**2, views // offsets % offsets, views % offsets
        if self._padded is None or self.frame is not None:
            padded, rows = _pad(self._whole(ids), p), torch.arange(len(ids), device=self.device)
        else:
            padded, rows = self._padded, ids.to(self.device)
        return _crop(padded, rows, flip.bool(), dy, dx, padded.shape[2] - 2 * p, padded.shape[3] - 2 * p)

    def _photo(self, ids: Tensor, views: Tensor) -> Tensor:
        """Random parts of pictures, in colours that are random as well."""
        ids, kind = ids.cpu(), self.augment.kind
        drawn = draws.uniform(self.augment.seed, ids, views.cpu(), crops.DRAWS + 7)
        place, side, tone, trivial = drawn.split([crops.DRAWS, 1, 3, 3], 1)
        h, w = self.pixels.shape[2:]
        sizes = torch.tensor([[h, w]]).expand(len(ids), 2) if self.frame is None else self.frame.sizes[ids]
        parts = crops.random(sizes, place, self.augment.least)
        seen = self._parts(ids, parts, side[:, 0] < 0.5, h if self.frame is None else self.frame.size).float()
        seen = colours.jittered(seen, tone.to(self.device), LIVELY[kind])
        if kind == "photo_strong":
            seen = colours.trivially_augmented(seen, trivial)
        return seen.round_().clamp_(0, 255).to(torch.uint8)

    def _parts(self, ids: Tensor, parts: Tensor, flip: Tensor, size: int) -> Tensor:
        """Parts (B, 4) of images `ids` (B,) in squares of `size`, mirrored where `flip`."""
        ids = ids.cpu()
        if self._padded is None:
            return crops.resampled(self._gather(ids), torch.arange(len(ids)), parts, flip, size)
        return crops.resampled(self._padded, ids, parts, flip, size)

    def _gather(self, ids: Tensor) -> Tensor:
        pixels, ids = self.pixels, ids.cpu()
        return (pixels.index_select(0, ids) if isinstance(pixels, Tensor) else pixels[ids]).to(self.device)


def _pad(pixels: Tensor, p: int) -> Tensor:
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
