"""Image files into pixels of one size: many at a time, in bounded memory, and never a surprise from a hostile file.

Axis letters: c channels, H W pixels.
"""

import hashlib
import os
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from kdal_cli.dataset import Preparation, Shape
from kdal_cli.errors import UserError
from kdal_cli.images.depth import Box, Kind, Ranges, blocks, extent, kind, shallow, values
from kdal_cli.images.likeness import likeness
from kdal_cli.images.listing import Entry
from kdal_cli.images.opening import LARGEST, SIZE, Unreadable, opened, quietly, regular
from kdal_cli.images.packed import encoded
from kdal_cli.images.rows import Rows
from kdal_cli.images.upright import SIDEWAYS, turn
from kdal_cli.types import Watcher

AT_ONCE = 256
"""Images decoded before they are handed on: what bounds the memory."""

FAINT = 26
"""Levels of 256: an image that uses fewer in every channel shows less than a tenth of its depth."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Reading:
    """How image files become pixels: squares of `size`, 1 or 3 channels.

    background: the colour behind what is transparent. bits: integers of more than 8 bits are from 0 to 2^bits − 1; None
    takes the range of the training images. max_pixels: larger images are not decoded. resize, side, interpolation: see
    `kdal_cli.dataset.Preparation`.
    """

    size: int
    channels: int
    background: tuple[int, int, int] = (255, 255, 255)
    bits: int | None = None
    max_pixels: int = LARGEST
    resize: Literal["stretch", "shorter"] = "stretch"
    side: int = 0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @classmethod
    def of(cls, shape: Shape, preparation: Preparation, max_pixels: int = LARGEST) -> "Reading":
        """What a network of this shape wants; the ranges of deep images are the preparation's own."""
        if shape.height != shape.width or shape.channels not in (1, 3):
            sides = f"{shape.channels}×{shape.height}×{shape.width}"
            raise UserError(f"this network takes images of {sides}", cure="files become squares of 1 or 3 channels")
        about = {key: getattr(preparation, key) for key in ("resize", "side", "interpolation", "background")}
        return cls(shape.width, shape.channels, max_pixels=max_pixels, **about)

    @property
    def longest(self) -> int:
        """Pixels of the shorter side that a file must still have when it is decoded at a part of its size."""
        return max(self.size, self.side)


@dataclass(frozen=True)
class Picture:
    """One decoded image: pixels (c, size, size) uint8, whether it was transparent somewhere, of more than 8 bits.

    sides: height and width of the picture, upright. turned: whether its EXIF says that it does not lie so in the file.
    likeness: 64 bits that pictures which look alike nearly share.
    """

    pixels: np.ndarray
    transparent: bool
    deep: bool
    sides: tuple[int, int]
    turned: bool
    likeness: int


@dataclass(frozen=True)
class Taken:
    """A picture and what is summed up over all: levels, (c, 256), how often each value occurs in a channel; digest, 64
    bits of BLAKE2 of its pixels. jpeg: the picture as that, where it is wanted."""

    picture: Picture
    levels: np.ndarray
    digest: int
    jpeg: bytes = b""


@dataclass
class Found:
    """What came to light while images were decoded.

    broken: {path of what cannot be read: why}. Counts of images: transparent somewhere, deep (more than 8 bits a
    channel), faint, which use less than a tenth of the 256 levels that they were given, and turned by their EXIF.
    sides: height and width of each image that can be read, one after the other. Of those that were decoded just now,
    likenesses and digests, in order, see `Picture` and `Taken`, a likeness of 0 saying nothing, and the sum of levels.
    """

    broken: dict[str, str] = field(default_factory=dict)
    transparent: int = 0
    deep: int = 0
    faint: int = 0
    turned: int = 0
    sides: "array[int]" = field(default_factory=lambda: array("i"))
    likenesses: "array[int]" = field(default_factory=lambda: array("Q"), compare=False)
    digests: "array[int]" = field(default_factory=lambda: array("Q"), compare=False)
    levels: np.ndarray | None = field(default=None, compare=False)

    @property
    def sizes(self) -> np.ndarray:
        """(N, 2) int32, heights and widths."""
        return np.array(self.sides, np.int32).reshape(-1, 2)

    def note(self, taken: Taken) -> None:
        picture = taken.picture
        used = taken.levels > 0
        faint = bool((255 - used[:, ::-1].argmax(1) - used.argmax(1)).max() < FAINT)
        self.transparent += picture.transparent
        self.deep += picture.deep
        self.faint += faint
        self.turned += picture.turned
        self.sides.extend(picture.sides)
        self.likenesses.append(0 if faint else picture.likeness)
        self.digests.append(taken.digest)
        self.levels = taken.levels if self.levels is None else self.levels + taken.levels

    def joined(self, other: "Found") -> "Found":
        """Of these images and, behind them, the others."""
        counts = (getattr(self, name) + getattr(other, name) for name in ("transparent", "deep", "faint", "turned"))
        return Found(self.broken | other.broken, *counts, sides=self.sides + other.sides)


def decode_all(
    root: Path | Rows,
    entries: Sequence[Entry],
    reading: Reading,
    ranges: Ranges,
    found: Found,
    watcher: Watcher,
    quality: int | None = None,
) -> Generator[Taken, None, None]:
    """Each entry, decoded, in order. What cannot be decoded is passed over; `found` is filled as they go.

    root: the folder of the files, or what holds images that are no files. quality: of the JPEG that is wanted of each.

    To be closed by whoever stops half-way.
    """
    work = partial(_taken, root, reading=reading, ranges=ranges, quality=quality)
    for entry, taken in _each(work, entries, watcher):
        if isinstance(taken, str):
            found.broken[entry.path] = taken
        else:
            found.note(taken)
            yield taken


def _taken(root: Path | Rows, entry: Entry, reading: Reading, ranges: Ranges, quality: int | None) -> Taken | str:
    picture = decode(root, entry, reading, ranges)
    if isinstance(picture, str):
        return picture
    pixels = picture.pixels
    levels = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in pixels])
    digest = int.from_bytes(hashlib.blake2b(pixels.tobytes(), digest_size=8).digest(), "big")
    return Taken(picture, levels, digest, encoded(pixels, quality) if quality is not None else b"")


def survey(root: Path | Rows, entries: Sequence[Entry], reading: Reading, watcher: Watcher) -> Ranges:
    """The ranges of the deep images among `entries`, the training set; others are opened, but not decoded."""
    ranges: dict[str, tuple[float, float]] = {}
    for _, answer in _each(partial(_extent, root, reading=reading), entries, watcher):
        if isinstance(answer, tuple):
            of, (low, high) = answer
            known = ranges.get(of, (low, high))
            ranges[of] = (min(low, known[0]), max(high, known[1]))
    return ranges if reading.bits is None else ranges | {"integer": (0.0, 2.0**reading.bits - 1)}


def decode(root: Path | Rows, entry: Entry, reading: Reading, ranges: Ranges) -> Picture | str:
    """An image file, or in words why it cannot be read.

    First frame only, flattened on the background, values of more than 8 bits brought from their range to 0 to 255,
    resized to a square with Pillow's bilinear filter, which averages over all that falls into a pixel (antialias), and
    turned upright as its EXIF says.
    """
    return _attempt(root, entry, reading, lambda image, file: _picture(image, file, reading, ranges))


def _extent(root: Path | Rows, entry: Entry, reading: Reading) -> tuple[Kind, tuple[float, float]] | str | None:
    """What kind of deep image this is, and its lowest and highest value; None for 8 bits."""

    def look(image: ImageFile, file: BinaryIO) -> tuple[Kind, tuple[float, float]] | None:
        of = kind(image)
        return None if of is None else (of, extent(image, file))

    return _attempt(root, entry, reading, look)


def _each(
    work: Callable[[Entry], Answer], entries: Sequence[Entry], watcher: Watcher
) -> Generator[tuple[Entry, Answer], None, None]:
    """Work done on each entry, in order, by a thread for each core (Pillow lets go of the GIL)."""
    with quietly(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(entries), AT_ONCE):
            chunk = entries[start : start + AT_ONCE]
            for entry, answer in zip(chunk, pool.map(work, chunk), strict=True):
                yield entry, answer
                watcher.advance(1, 1)


def _attempt(
    root: Path | Rows, entry: Entry, reading: Reading, look: Callable[[ImageFile, BinaryIO], Answer]
) -> Answer | str:
    """What `look` finds in an image file, or in words why it cannot be read."""
    if entry.size < 1:
        return "empty file" if entry.size == 0 else "not a regular file"
    try:
        held = regular(entry.file(root)) if isinstance(root, Path) else root.open(entry)
        with held as file, opened(file, reading.longest, reading.max_pixels) as image:
            return look(image, file)
    except Unreadable as reason:
        return str(reason)
    except MemoryError:
        raise
    except Exception as error:  # a decoder may fail in any way on a file made to harm it
        return f"broken: {error or type(error).__name__}"


def _picture(image: ImageFile, file: BinaryIO, reading: Reading, ranges: Ranges) -> Picture:
    of, transparent, flat = kind(image), False, image
    if of is not None or image.mode not in ("L", "RGB") or image.has_transparency_data:
        layers = _layers(image) if of is None else _deep_layers(image, file, of, ranges)
        flat, transparent = _flattened(layers, image.size, reading)
    square = _square(flat, reading)
    width, height = image.size if image.format == "TIFF" else image.info[SIZE]  # Pillow sets a TIFF upright itself
    exif = image.info.get("exif")
    upright = turn(exif) if isinstance(exif, bytes) else None
    if upright is not None:
        square = square.transpose(upright)
        height, width = (width, height) if upright in SIDEWAYS else (height, width)
    pixels = np.asarray(square.convert("L" if reading.channels == 1 else "RGB"))
    pixels = pixels.reshape(reading.size, reading.size, reading.channels).transpose(2, 0, 1)
    return Picture(pixels, transparent, of is not None, (height, width), upright is not None, likeness(square))


def _square(flat: Image.Image, reading: Reading) -> Image.Image:
    """A square of the reading's size, a copy where it has that size: of the whole image, or of its centre."""
    how = Image.Resampling[reading.interpolation.upper()]
    if reading.resize == "stretch":
        return flat.resize((reading.size, reading.size), how)
    shorter = min(flat.size) * reading.size / (reading.side or reading.size)  # what is cut out, in the image's pixels
    left, top = ((side - shorter) / 2 for side in flat.size)
    return flat.resize((reading.size, reading.size), how, box=_inside((left, top, shorter), flat.size))


def _inside(square: tuple[float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box of a square (left, top, side), no part of it outside of an image of `size`."""
    left, top, side = square
    width, height = size
    return max(0.0, left), max(0.0, top), min(width, left + side), min(height, top + side)


Layer = tuple[Box, Image.Image, Image.Image | None]
"""A block of an image: where it is, its colours in eight bits, L or RGB, and its alpha, L, where it has some."""


def _flattened(layers: Iterator[Layer], size: tuple[int, int], reading: Reading) -> tuple[Image.Image, bool]:
    """The blocks of an image side by side on the background, and whether any was transparent somewhere."""
    flat, transparent = Image.new("L" if reading.channels == 1 else "RGB", size), False
    for (left, top, _, _), colours, alpha in layers:
        if alpha is not None and np.asarray(alpha).min() < 255:
            below = Image.new("RGB", colours.size, reading.background)
            below.paste(colours.convert("RGB"), mask=alpha)
            colours, transparent = below, True
        flat.paste(colours.convert(flat.mode), (left, top))
    return flat, transparent


def _layers(image: ImageFile) -> Iterator[Layer]:
    """The blocks of an image of 8 bits, whatever its mode."""
    image.load()
    for box in blocks(image.size):
        part = image.crop(box)
        if part.has_transparency_data:
            whole = part.convert("RGBA")
            yield box, whole.convert("RGB"), whole.getchannel("A")
        else:
            yield box, part if part.mode == "L" else part.convert("RGB"), None


def _deep_layers(image: ImageFile, file: BinaryIO, of: Kind, ranges: Ranges) -> Iterator[Layer]:
    for box, colours, alpha in values(image, file):
        eight = Image.fromarray(shallow(colours, ranges, of))
        yield box, eight, None if alpha is None else Image.fromarray(alpha)
