"""Pictures that look alike: 64 bits each, few of which change when a picture is resized or saved again.

Axis letters: N M pictures.
"""

import numpy as np
from PIL import Image

DIFFERENT = 4
"""Of 64 bits: pictures that differ in more are taken for different ones."""

PAIRS = 1 << 32
"""Comparisons that are made at most; of larger sets, only pictures with the same bits are found."""

BLOCK = 1 << 24
"""Comparisons at a time."""


def likeness(image: Image.Image) -> int:
    """Whether it gets brighter from left to right, in 8 × 8 places of the picture shrunk to 9 × 8 in grey.

    The difference hash: N. Krawetz, "Kind of Like That", 2013.
    """
    small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which of `one` (N,) uint64 are like any of `other` (M,): (N,) bool. 0 is like nothing."""
    found = np.isin(one, other)
    if len(one) * len(other) <= PAIRS and len(other):
        step = max(1, BLOCK // len(other))
        for start in range(0, len(one), step):
            apart = np.bitwise_count(one[start : start + step, None] ^ other[None])  # (n, M)
            found[start : start + step] |= ((apart <= DIFFERENT) & (other != 0)[None]).any(1)
    return found & (one != 0)
