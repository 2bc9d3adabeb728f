"""MNIST: 60,000 + 10,000 grey handwritten digits of 28 × 28. LeCun, Cortes, Burges (1998)."""

from functools import partial
from pathlib import Path

from kdal_cli.dataset import ImageData
from kdal_cli.images.torchvision import Source, load, read_idx
from kdal_cli.types import Watcher

SOURCE = Source(
    dataset="MNIST",
    folder="MNIST/raw",
    files={
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    read=partial(read_idx, classes=tuple("0123456789")),
    mean=(0.1307,),
    std=(0.3081,),
)


def mnist(watcher: Watcher, *, root: str | Path = "data", download: bool = True) -> ImageData:
    """MNIST from `root`/MNIST/raw, in torchvision's layout; see `images.torchvision.load` for errors."""
    return load("mnist", SOURCE, watcher, root, download)
