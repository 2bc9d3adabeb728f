"""Image files that Pillow does not write, byte by byte."""

import struct
import zlib
from pathlib import Path

import numpy as np

GREY, COLOUR, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 4, 6
"""PNG's colour types."""

CHANNELS = {GREY: 1, COLOUR: 3, GREY_ALPHA: 2, COLOUR_ALPHA: 4}


def png16(path: Path, values: np.ndarray, transparent: tuple[int, ...] = ()) -> None:
    """A PNG of 16 bits a channel. values: (H, W) or (H, W, c) uint16. transparent: a colour that stands for nothing."""
    kind = {1: GREY, 2: GREY_ALPHA, 3: COLOUR, 4: COLOUR_ALPHA}[values.shape[2] if values.ndim == 3 else 1]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    extra = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    write_png(path, values.shape[1], values.shape[0], 16, kind, extra + chunk(b"IDAT", zlib.compress(rows)))


def blank_png(path: Path, width: int, height: int, bits: int = 1, kind: int = GREY) -> None:
    """A sound PNG of zeros, of a few KiB however large."""
    row = bytes(1 + (width * bits * CHANNELS[kind] + 7) // 8)
    pack = zlib.compressobj(9)
    data = b"".join(pack.compress(row) for _ in range(height)) + pack.flush()
    write_png(path, width, height, bits, kind, chunk(b"IDAT", data))


def write_png(path: Path, width: int, height: int, bits: int, kind: int, chunks: bytes) -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunks + chunk(b"IEND", b""))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(path: Path, values: np.ndarray, byte_order: str = "<") -> None:
    """An uncompressed TIFF of one strip. values: (H, W, c), of any number type."""
    high, wide, channels = values.shape
    form = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = values.astype(values.dtype.newbyteorder(byte_order)).tobytes()
    width = values.dtype.itemsize * 8
    lists = [[width] * channels, [form] * channels]
    shorts = [struct.pack(f"{byte_order}{channels}H", *numbers) for numbers in lists]
    ifd, end = 8, 8 + 2 + 10 * 12 + 4
    at = [end, end + len(shorts[0]), end + len(shorts[0]) + len(shorts[1])]

    def number(tag: int, value: int) -> bytes:
        return struct.pack(f"{byte_order}HHII", tag, 4, 1, value)

    def several(tag: int, which: int) -> bytes:
        if channels <= 2:
            return struct.pack(f"{byte_order}HHI", tag, 3, channels) + shorts[which].ljust(4, b"\0")
        return struct.pack(f"{byte_order}HHII", tag, 3, channels, at[which])

    entries = [
        number(256, wide),
        number(257, high),
        several(258, 0),
        number(259, 1),
        number(262, 2 if channels >= 3 else 1),
        number(273, at[2]),
        number(277, channels),
        number(278, high),
        number(279, len(data)),
        several(339, 1),
    ]
    magic = {"<": b"II*\0", ">": b"MM\0*"}[byte_order] + struct.pack(f"{byte_order}I", ifd)
    head = magic + struct.pack(f"{byte_order}H", len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(head + shorts[0] + shorts[1] + data)
