"""Which way up a photograph is. EXIF is read by hand: one number of it is wanted, and much of the rest is broken."""

import struct

from PIL import Image

ORIENTATION, SHORT = 0x0112, 3
HEADER, ENTRY = 8, 12
"""Bytes of a TIFF header and of an entry of a TIFF directory."""

Turn = Image.Transpose
TURNS = {
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_270,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_90,
}
"""What sets an image upright, by its orientation; 1 is upright. JEITA CP-3451, 4.6.4."""


SIDEWAYS = (Turn.TRANSPOSE, Turn.ROTATE_270, Turn.TRANSVERSE, Turn.ROTATE_90)
"""Those after which height and width have changed places."""


def turn(exif: bytes) -> Turn | None:
    """What sets an image with this EXIF block upright; None where it is, or where the block does not say."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < HEADER:
        return None
    (directory,) = struct.unpack(f"{order}I", tiff[4:HEADER])
    entries = tiff[directory + 2 :]
    for start in range(0, len(entries) - ENTRY + 1, ENTRY):
        tag, kind, count, value = struct.unpack(f"{order}HHIH", entries[start : start + 10])
        if (tag, kind, count) == (ORIENTATION, SHORT, 1):
            return TURNS.get(value)
    return None
