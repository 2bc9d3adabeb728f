"""Image files into pixels of one size: many at a time, in bounded memory, and never a surprise from a hostile file.

Axis letters: c channels, H W pixels.
"""

import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from kdal_cli.images.listing import Entry
from kdal_cli.types import Watcher

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
"""What is read, whatever a file is called. Pillow knows more, some of which start other programs."""

LARGEST = 64_000_000
"""Pixels. A PNG of 76 KiB can unfold to 240 MB; past this an image is refused before it is unfolded."""

AT_ONCE = 256
"""Images decoded before they are handed on: what bounds the memory."""


def decode(path: Path, entry: Entry, size: int, channels: int) -> np.ndarray | str:
    """The pixels (channels, size, size) uint8 of an image file, or in words why there are none.

    Turned upright as its EXIF says, first frame only, transparency dropped, 16 bits cut to 8, then resized to a square
    with Pillow's bilinear filter, which averages over all that falls into a pixel (antialias).
    """
    if entry.size < 1:
        return "empty file" if entry.size == 0 else "not a regular file"
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > LARGEST:
                return f"{image.width} × {image.height} pixels, more than {LARGEST // 1_000_000} million"
            if image.mode == "F":
                return "floating-point pixels"
            return _squared(image, size, channels)
    except UnidentifiedImageError:
        return f"not an image that is read ({', '.join(FORMATS)})"
    except MemoryError:
        raise
    except Exception as error:  # a decoder may fail in any way on a file made to harm it
        return f"broken: {error or type(error).__name__}"


def decode_all(
    root: Path, entries: Sequence[Entry], size: int, channels: int, broken: dict[str, str], watcher: Watcher
) -> Generator[np.ndarray, None, None]:
    """The pixels of each entry, in order, decoded by as many threads as torch may use (Pillow lets go of the GIL).

    What cannot be decoded is passed over and noted in `broken`, {path: reason}. To be closed by whoever stops half-way.
    """
    work = partial(_decode_below, root, size, channels)
    with _unguarded(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(entries), AT_ONCE):
            chunk = entries[start : start + AT_ONCE]
            for entry, pixels in zip(chunk, pool.map(work, chunk), strict=True):
                if isinstance(pixels, str):
                    broken[entry.path] = pixels
                else:
                    yield pixels
                watcher.advance(1, 1)


def _decode_below(root: Path, size: int, channels: int, entry: Entry) -> np.ndarray | str:
    return decode(root / entry.path, entry, size, channels)


def _squared(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """(channels, size, size) uint8 of an opened image; unfolds it."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 bits of grey, which some releases of Pillow clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


@contextmanager
def _unguarded() -> Iterator[None]:
    """Pillow's own bomb guard off, since `decode` is stricter, and its warnings, which would land in the display."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
