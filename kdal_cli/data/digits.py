"""scikit-learn's handwritten digits: 1,797 real grey images of 8 × 8, bundled with that package, nothing to download.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), its test part.
"""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from kdal_cli.dataset import ImageData, ImageSet, Labels
from kdal_cli.errors import UserError
from kdal_cli.images.statistics import mean_std
from kdal_cli.streams import Streams
from kdal_cli.types import Watcher

TEST = 360
"""Images of the test set, a fifth of all."""

FULL_SCALE = 255 / 16
"""The file counts black dots in a square of 4 × 4: 0 to 16."""


def digits(watcher: Watcher) -> ImageData:
    """1,437 training and 360 test images (1, 8, 8); classes "0" to "9".

    The split is a fact of this data set, not of a run: rows are ordered by a SHA-256 of their number and the first 360
    are the test set. No seed and no library's generator has a part in it; classes are not balanced.
    """
    table = torch.from_numpy(_table())  # (1797, 65): 64 pixels, then the label
    pixels = (table[:, :64] * FULL_SCALE).round().to(torch.uint8).view(-1, 1, 8, 8)
    labels = table[:, 64].long()
    order = torch.tensor(sorted(range(len(table)), key=lambda row: Streams(0).key("digits", row)))
    test, train = order[:TEST].sort().values, order[TEST:].sort().values
    return ImageData(
        name="digits",
        train=ImageSet(pixels[train], Labels.complete(labels[train])),
        test=ImageSet(pixels[test], Labels.complete(labels[test])),
        classes=tuple("0123456789"),
        **dict(zip(("mean", "std"), mean_std(pixels[train]), strict=True)),
    )


def _table() -> np.ndarray:
    """The file itself: `sklearn.datasets.load_digits` reads the same, after three seconds of imports."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise UserError("the digits come with scikit-learn, which is not installed", cure="pip install scikit-learn")
    with gzip.open(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt", encoding="utf-8") as file:
        return np.loadtxt(file, delimiter=",")
