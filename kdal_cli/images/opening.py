"""Image files opened within bounds: regular files and known formats alone, and nothing that takes much memory to read.

Everything that opens an image goes through here. The header says what decoding will cost before it starts.
"""

import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
"""What is read, whatever a file is called. Pillow knows more, some of which start other programs."""

LARGEST = 64_000_000
"""Pixels. A PNG of 76 KiB can unfold to 240 MB; past this an image is refused before it is unfolded."""

ROOM = 285_000_000
"""Bytes that one image may take while it is decoded and shrunk; up to 15 MB more go into copies of parts of it."""

STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes of a pixel in Pillow's memory, by mode; all others take 4."""

WHOLE = {"WEBP": 16, "GIF": 8}
"""Bytes of a pixel where a decoder keeps several copies of the picture: measured with Pillow 13."""

FOREIGN = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF"}
"""Brands of photos that are not read, by bytes 8 to 12 of the file."""


SIZE = "size in the file"
"""Where `opened` leaves (width, height) of the whole picture, among what Pillow tells of it."""

ORIENTATION, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH = 274, 278, 322, 323
"""Tags of a TIFF."""

SIXTEEN = re.compile("(RGB|RGBA|LA);16[BLN]")
"""How 16 bits a channel lie in a file, in Pillow's words; BGR;16 are 16 bits a pixel."""


TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF begins."""


class Unreadable(Exception):
    """An image that is not read, and in words why."""


@contextmanager
def regular(path: Path) -> Iterator[BinaryIO]:
    """A file to read, at most `ROOM` bytes long. Links are not followed; pipes and devices are not waited for.

    Raises Unreadable.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable("a link" if path.is_symlink() else f"cannot be opened, {error.strerror}") from error
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode):
        os.close(handle)
        raise Unreadable("not a regular file")
    with os.fdopen(handle, "rb") as file:
        if facts.st_size > ROOM:
            raise Unreadable(f"a file of {_megabytes(facts.st_size)}")
        yield file


@contextmanager
def opened(file: BinaryIO, side: int, max_pixels: int = LARGEST) -> Iterator[ImageFile]:
    """The image in a file, of which only the header has been read: it may be decoded, and shrunk to `side` pixels.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where at least twice `side` is left: a photo of 200 million pixels
    then takes a few megabytes. Raises Unreadable for other formats, for more than `max_pixels` pixels, and for what
    would take more memory than `ROOM`.
    """
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise Unreadable(_stranger(file)) from error
    with image:
        size = f"{image.width:,} × {image.height:,} pixels"
        if image.width * image.height > max_pixels:
            raise Unreadable(f"{size}, more than data.max_pixels={max_pixels}")
        kept = _coefficients(image, file)
        image.info[SIZE] = image.size
        if isinstance(image, JpegImageFile):
            image.draft(None, (2 * side, 2 * side))
        needed = kept + _decoded(image, side) + (_length(file) if _whole_file(image) else 0)
        if needed > ROOM:
            what = f"{size} of {image.format} take {_megabytes(needed)} to decode"
            raise Unreadable(f"{what}, more than {_megabytes(ROOM)}")
        yield image


@contextmanager
def quietly() -> Iterator[None]:
    """Pillow's own bomb guard off, since ours is stricter, and its warnings, which would land in the display.

    For whoever opens images; not to be entered by several threads.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def high_and_low(image: ImageFile) -> bool:
    """Whether these are colours, or grey with alpha, of 16 bits a channel, of which Pillow keeps the higher 8."""
    return image.mode in ("RGB", "RGBA") and bool(SIXTEEN.fullmatch(raw_mode(image)))


def raw_mode(image: ImageFile) -> str:
    """How pixels lie in the file, in Pillow's words; empty once they are decoded."""
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments if isinstance(arguments, str) or not arguments else arguments[0])


def _decoded(image: ImageFile, side: int) -> int:
    """Bytes for the pixels, for a flat copy of them in eight bits where they are not that, and for shrinking."""
    pixels, mode = image.width * image.height, image.mode
    each = max(STORED.get(mode, 4), WHOLE.get(image.format or "", 0))
    if high_and_low(image):
        each *= 2
    copied = mode not in ("L", "RGB") or image.has_transparency_data or high_and_low(image)
    turned = getattr(image, "tag_v2", {}).get(ORIENTATION, 1) != 1  # Pillow sets a TIFF upright itself
    each += 4 * (copied + turned)
    held = sum(len(fact) for fact in image.info.values() if isinstance(fact, bytes | str))  # EXIF, profiles, comments
    shrinking = 4 * side * image.height + 24 * (image.width + image.height)  # lines of one width; weights of a filter
    return each * pixels + held + 2 * each * _block(image) + shrinking


def _block(image: ImageFile) -> int:
    """Pixels of the strip or tile in which a TIFF is unpacked, which its header may make as large as it likes."""
    if not _by_libtiff(image):
        return 0
    tags = getattr(image, "tag_v2", {})
    wide, high, rows = (_whole(tags.get(tag)) for tag in (TILE_WIDTH, TILE_LENGTH, ROWS_PER_STRIP))
    return wide * high or min(rows or image.height, image.height) * image.width


def _by_libtiff(image: ImageFile) -> bool:
    return bool(image.tile) and image.tile[0].codec_name == "libtiff"


def _whole_file(image: ImageFile) -> bool:
    """Whether a decoder has the whole file in memory."""
    return image.format == "WEBP" or _by_libtiff(image)


def _length(file: BinaryIO) -> int:
    before = file.tell()
    length = file.seek(0, os.SEEK_END)
    file.seek(before)
    return length


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _coefficients(image: ImageFile, file: BinaryIO) -> int:
    """Bytes of the coefficients of a JPEG, all of which are kept where it comes in several scans, reduced or not."""
    if not isinstance(image, JpegImageFile) or _one_scan(file, len(image.layer)):
        return 0
    most = max((across * down for _, across, down, _ in image.layer), default=1) or 1
    share = sum(across * down for _, across, down, _ in image.layer) / most
    return int(2 * share * image.width * image.height)


def _one_scan(file: BinaryIO, components: int) -> bool:
    """Whether the first scan of a JPEG has all its components at full precision; False where that cannot be told."""
    before = file.tell()
    file.seek(2)
    try:
        while True:
            marker, length = file.read(2), int.from_bytes(file.read(2), "big")
            if marker[:1] != b"\xff" or marker == b"\xff\xc2" or length < 2:  # junk, or progressive
                return False
            if marker == b"\xff\xda":
                return file.read(1) == bytes([components])
            file.seek(length - 2, os.SEEK_CUR)
    finally:
        file.seek(before)


def _stranger(file: BinaryIO) -> str:
    """What to say of a file that is none of `FORMATS`, or one of them in a form that is not read."""
    file.seek(0)
    head = file.read(12)
    if head[:4] in TIFF:
        return "a TIFF of a kind that is not read: convert it to 8 or 16 bits"
    brand = FOREIGN.get(head[8:])
    return f"{brand}, which is not read: convert it" if brand else f"not an image that is read ({', '.join(FORMATS)})"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
