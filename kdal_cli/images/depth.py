"""Images of more than 8 bits a channel: their values as they are in the file, and the range that becomes 0 to 255.

Axis letters: h w pixels of a block, c channels.
"""

from collections.abc import Iterator, Mapping
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from kdal_cli.images.opening import FORMATS, Unreadable, high_and_low, raw_mode

Kind = Literal["integer", "float"]
"""What deep values are: integers of 16 or 32 bits, or floating-point numbers."""

Ranges = Mapping[str, tuple[float, float]]
"""{kind: (low, high)}: what becomes 0 and what becomes 255."""

BLOCK = 1 << 15
"""Pixels that are worked on at a time, so that copies of an image stay small."""

Box = tuple[int, int, int, int]
"""A part of an image: left, top, right, bottom."""

UNSIGNED = ("I;32", "I;32L", "I;32B", "I;32N")
"""How unsigned integers of 32 bits lie in a file, in Pillow's words; signed ones are I;32S."""


def kind(image: ImageFile) -> Kind | None:
    """Of an image that is not decoded yet; None for 8 bits or less."""
    if image.mode == "F":
        return "float"
    return "integer" if image.mode.startswith("I") or high_and_low(image) else None


def blocks(size: tuple[int, int]) -> Iterator[Box]:
    """An image of `size` (W, H) cut into boxes of `BLOCK` pixels at most."""
    width, height = size
    across = min(width, BLOCK)
    down = BLOCK // across
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield left, top, min(width, left + across), min(height, top + down)


def extent(image: ImageFile, file: BinaryIO) -> tuple[float, float]:
    """Lowest and highest value of a deep image, its alpha left aside. Raises Unreadable where one is not finite."""
    ends = [(colours.min(), colours.max()) for _, colours, _ in values(image, file)]
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def shallow(colours: np.ndarray, ranges: Ranges, of: Kind) -> np.ndarray:
    """Deep values as uint8, `ranges[of]` becoming 0 to 255; what is outside is cut off. Raises Unreadable without."""
    if of not in ranges:
        cure = "set data.bits" if of == "integer" else "convert it to 8 bits"
        raise Unreadable(f"{of} values of more than 8 bits, as no training image has: {cure}")
    low, high = ranges[of]
    scaled = (colours.astype(np.float64) - low) * (255 / (high - low) if high > low else 0)
    return scaled.round().clip(0, 255).astype(np.uint8)


Values = tuple[Box, np.ndarray, np.ndarray | None]
"""A block of a deep image: where it is, values (h, w) or (h, w, 3), and alpha (h, w) uint8 where there is some."""


def values(image: ImageFile, file: BinaryIO) -> Iterator[Values]:
    """The blocks of a deep image.

    Raises Unreadable where a value is not finite.
    """
    key = image.info.get("transparency")
    for box, colours, alpha in _wide(image, file) if high_and_low(image) else _grey(image):
        if not np.isfinite(colours).all():
            raise Unreadable("pixels that are not finite numbers")
        if alpha is None and key is not None:  # PNG: one value that stands for nothing
            differs = colours != np.asarray(key)
            alpha = np.where(differs.any(-1) if colours.ndim == 3 else differs, 255, 0).astype(np.uint8)
        yield box, colours, alpha


def _grey(image: ImageFile) -> Iterator[Values]:
    """Grey of 16 or 32 bits, or float32. Pillow reads unsigned integers of 32 bits as signed ones."""
    unsigned = raw_mode(image) in UNSIGNED
    image.load()
    for box in blocks(image.size):
        rows = np.asarray(image.crop(box))
        yield box, rows.view(np.uint32) if unsigned else rows, None


def _wide(image: ImageFile, file: BinaryIO) -> Iterator[Values]:
    """Channels of 16 bits, of which Pillow keeps the higher byte.

    Colours are decoded a second time in the other byte order, which leaves the lower one; grey with alpha, four bytes a
    pixel, is decoded as if it were four channels of 8 bits.
    """
    raw = raw_mode(image)
    if raw == "LA;16B":
        image.tile = [image.tile[0]._replace(args="RGBA")]
        image.load()
        for box in blocks(image.size):
            rows = np.asarray(image.crop(box)).astype(np.uint16)
            yield box, rows[..., 0] << 8 | rows[..., 1], rows[..., 2].astype(np.uint8)
        return
    image.load()
    file.seek(0)
    with Image.open(file, formats=FORMATS) as low:
        low.tile = [part._replace(args=_turned(part.args)) for part in low.tile]
        for box in blocks(image.size):
            rows = np.asarray(image.crop(box)).astype(np.uint16) << 8 | np.asarray(low.crop(box))
            yield box, rows[..., :3], (rows[..., 3] >> 8).astype(np.uint8) if rows.shape[2] == 4 else None


def _turned(arguments: object) -> tuple[object, ...] | str:
    """A decoder's arguments with the other byte order. N is the machine's own, little-endian wherever torch runs."""
    if isinstance(arguments, str):
        return arguments[:-1] + ("B" if arguments[-1] in "LN" else "L")
    if not isinstance(arguments, tuple):
        raise Unreadable("16 bits a channel in a form that is not read")
    return _turned(str(arguments[0])), *arguments[1:]
