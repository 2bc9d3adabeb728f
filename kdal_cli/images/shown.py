"""Pictures as people are shown them: upright, within bounds, and decoded by us before a browser sees a byte."""

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from PIL import Image
from torch import Tensor

from kdal_cli.images.depth import kind
from kdal_cli.images.opening import FORMATS, LARGEST, Unreadable, opened, quietly, regular
from kdal_cli.images.upright import turn

SIDE = 1_600
"""Pixels of the longer side, at most."""

SMALL = 320
"""Pixels to which the longer side of smaller images is brought, in whole steps, so that pixels stay squares."""

SIDEWAYS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
)
"""Turns that make the width of an image its height."""

_alone = Lock()
"""Pillow's settings are those of the process."""


@dataclass(frozen=True)
class Shown:
    """data: a PNG or a JPEG. width, height: of the image as it was before it was made to fit."""

    data: bytes
    width: int
    height: int

    @property
    def suffix(self) -> str:
        return "png" if self.data.startswith(b"\x89PNG") else "jpg"


def shown(pixels: Tensor, file: Path | None = None) -> Shown:
    """A picture from its file; from `pixels` (c, H, W) uint8, as models see it, where none can be read."""
    with _alone, quietly():
        if file is not None:
            with suppress(Exception):  # a decoder may fail in any way on a file made to harm it
                return _from_file(file)
        return _from_pixels(pixels)


def _from_file(file: Path) -> Shown:
    with regular(file) as source:
        with Image.open(source, formats=FORMATS) as header:
            size = header.size  # of a JPEG that is decoded at a part of its size, too
        source.seek(0)
        return _decoded(source, size)


def _decoded(source: BinaryIO, size: tuple[int, int]) -> Shown:
    with opened(source, SIDE, LARGEST) as image:
        if kind(image) is not None:
            raise Unreadable("more than eight bits a channel: as models see it")
        exif, photo = image.info.get("exif"), image.format == "JPEG"
        flat = _flat(image)
        flat.thumbnail((SIDE, SIDE))
    upright = turn(exif) if isinstance(exif, bytes) else None
    if upright is not None:
        flat = flat.transpose(upright)
        size = (size[1], size[0]) if upright in SIDEWAYS else size
    return Shown(_encoded(flat, photo=photo), *size)


def _flat(image: Image.Image) -> Image.Image:
    """In colours or grey; what is transparent, on white."""
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    colours = image.convert("RGBA")
    flat = Image.new("RGB", colours.size, "white")
    flat.paste(colours.convert("RGB"), mask=colours.getchannel("A"))
    return flat


def _from_pixels(pixels: Tensor) -> Shown:
    rows = pixels.permute(1, 2, 0).contiguous().numpy()  # (H, W, c)
    image = Image.fromarray(rows if rows.shape[2] == 3 else rows[:, :, 0])
    width, height = image.size
    times = max(1, SMALL // max(width, height))
    larger = image.resize((times * width, times * height), Image.Resampling.NEAREST)
    larger.thumbnail((SIDE, SIDE))
    return Shown(_encoded(larger, photo=False), width, height)


def _encoded(image: Image.Image, *, photo: bool) -> bytes:
    """Without anything that the file said beside its pixels."""
    data, image.info = io.BytesIO(), {}
    if photo:
        image.save(data, format="JPEG", quality=90)
    else:
        image.save(data, format="PNG")
    return data.getvalue()
