"""Fashion-MNIST: 60,000 + 10,000 grey articles of clothing of 28 × 28. Xiao, Rasul, Vollgraf, arXiv:1708.07747."""

from functools import partial
from pathlib import Path

from kdal_cli.dataset import ImageData
from kdal_cli.images.torchvision import Source, load, read_idx
from kdal_cli.types import Watcher

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

SOURCE = Source(
    dataset="FashionMNIST",
    folder="FashionMNIST/raw",
    files={
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    read=partial(read_idx, classes=CLASSES),
    mean=(0.2860,),
    std=(0.3530,),
)


def fashion_mnist(watcher: Watcher, *, root: str | Path = "data", download: bool = True) -> ImageData:
    """Fashion-MNIST from `root`/FashionMNIST/raw, in torchvision's layout; see `images.torchvision.load` for errors."""
    return load("fashion_mnist", SOURCE, watcher, root, download)
