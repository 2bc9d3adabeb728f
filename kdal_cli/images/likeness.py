"""Pictures that look alike: 64 bits each, few of which change when a picture is resized or saved again.

Axis letters: N M pictures.
"""

import numpy as np
from PIL import Image

DIFFERENT = 4
"""Of 64 bits: pictures that differ in more are taken for different ones."""

BANDS = np.array([sum(1 << bit for bit in range(64) if bit % (DIFFERENT + 1) == part) for part in range(DIFFERENT + 1)])
"""Each bit is in one of them: of two words that differ in so few bits, one band at least is the same."""

BLOCK = 1 << 22
"""Comparisons at a time."""


def likeness(image: Image.Image) -> int:
    """Whether it gets brighter from left to right, in 8 × 8 places of the picture shrunk to 9 × 8 in grey.

    The difference hash: N. Krawetz, "Kind of Like That", 2013.
    """
    small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which of `one` (N,) uint64 are like any of `other` (M,): (N,) bool. 0 is like nothing.

    Only words that have a band in common are compared: about N·M ÷ 1,400 where the bits are random.
    """
    other, found = np.sort(other[other != 0]), np.zeros(len(one), bool)
    other = other[np.diff(other, prepend=np.uint64(0)) != 0]  # each once, however often there is the same picture
    for band in BANDS.astype(np.uint64):
        known = other[np.argsort(other & band)]
        rows = np.flatnonzero(~found & (one != 0))
        first, last = (np.searchsorted(known & band, one[rows] & band, side) for side in ("left", "right"))
        ends = np.cumsum(last - first)
        for some in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(ends // BLOCK)) + 1):
            count = (last - first)[some]
            row = np.repeat(rows[some], count)
            place = np.arange(len(row)) + np.repeat(first[some] - (np.cumsum(count) - count), count)
            found[row[np.bitwise_count(one[row] ^ known[place]) <= DIFFERENT]] = True
    return found
