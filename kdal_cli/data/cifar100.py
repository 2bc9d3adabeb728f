"""CIFAR-100: 50,000 + 10,000 colour images of 32 × 32 in 100 classes, the fine ones. Krizhevsky (2009)."""

from functools import partial
from pathlib import Path

from kdal_cli.dataset import ImageData
from kdal_cli.images.torchvision import Source, load, read_cifar
from kdal_cli.types import Watcher

SOURCE = Source(
    dataset="CIFAR100",
    folder="cifar-100-python",
    files={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
    read=partial(
        read_cifar, train=["train"], test=["test"], labels="fine_labels", meta="meta", names="fine_label_names"
    ),
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
)


def cifar100(watcher: Watcher, *, root: str | Path = "data", download: bool = True) -> ImageData:
    """CIFAR-100 from `root`/cifar-100-python, in torchvision's layout; see `images.torchvision.load` for errors."""
    return load("cifar100", SOURCE, watcher, root, download)
