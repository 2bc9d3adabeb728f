"""CIFAR-10: 50,000 + 10,000 colour images of 32 × 32 in 10 classes. Krizhevsky (2009)."""

from functools import partial
from pathlib import Path

from kdal_cli.dataset import ImageData
from kdal_cli.images.torchvision import Source, load, read_cifar
from kdal_cli.types import Watcher

SOURCE = Source(
    dataset="CIFAR10",
    folder="cifar-10-batches-py",
    files={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    read=partial(
        read_cifar,
        train=[f"data_batch_{part}" for part in range(1, 6)],
        test=["test_batch"],
        labels="labels",
        meta="batches.meta",
        names="label_names",
    ),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)


def cifar10(watcher: Watcher, *, root: str | Path = "data", download: bool = True) -> ImageData:
    """CIFAR-10 from `root`/cifar-10-batches-py, in torchvision's layout; see `images.torchvision.load` for errors."""
    return load("cifar10", SOURCE, watcher, root, download)
