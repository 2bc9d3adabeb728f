"""Data sets in the folders that torchvision downloads them into.

torchvision fetches what is absent, and is imported only then (its import takes seconds); reading is ours. Every file is
held against its published MD5 first, so a truncated or altered one is named, and only genuine pickles are opened.
"""

import hashlib
import pickle
import socket
import tarfile
import warnings
import zlib
from collections.abc import Callable, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from http.client import HTTPException
from io import StringIO
from pathlib import Path

import numpy as np
import torch

from kdal_cli.dataset import ImageData, ImageSet, Labels
from kdal_cli.errors import UserError
from kdal_cli.images.store import locked
from kdal_cli.types import Watcher

PATIENCE = 30.0
"""Seconds without a byte after which a download is given up."""


@dataclass(frozen=True)
class Source:
    """A data set as published: the torchvision class that downloads it, its folder, {file: MD5}, and how to read it.

    `read(folder)` returns (train, test, class names). mean, std: per channel, from 0 to 1, as the literature uses them.
    """

    dataset: str
    folder: str
    files: Mapping[str, str]
    read: Callable[[Path], tuple[ImageSet, ImageSet, tuple[str, ...]]]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load(name: str, source: Source, watcher: Watcher, root: str | Path, download: bool) -> ImageData:
    """The data set below `root`, downloaded first when it is absent and `download` allows.

    Raises UserError naming the folder when the files are neither there nor to be had, or the file that is not genuine.
    """
    folder = Path(root).expanduser().absolute() / source.folder
    if _absent(folder, source):
        if not download:
            raise _unavailable(source, folder, "may not be downloaded")
        _fetch(source, watcher, Path(root).expanduser().absolute())
    for file, md5 in source.files.items():
        if _md5(folder / file) != md5:
            raise UserError(
                f"{file} is truncated or altered", where=folder, cure="delete that folder and let it download again"
            )
    train, test, classes = source.read(folder)
    return ImageData(name, train, test, classes, source.mean, source.std)


def read_idx(folder: Path, classes: tuple[str, ...]) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
    """MNIST's layout: a header of 16 bytes and images of 28 × 28, a header of 8 bytes and labels."""

    def part(word: str) -> ImageSet:
        pixels = np.fromfile(folder / f"{word}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 1, 28, 28)
        labels = np.fromfile(folder / f"{word}-labels-idx1-ubyte", np.uint8, offset=8)
        return ImageSet(torch.from_numpy(pixels), Labels.complete(torch.from_numpy(labels).long()))

    return part("train"), part("t10k"), classes


def read_cifar(
    folder: Path, train: list[str], test: list[str], labels: str, meta: str, names: str
) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
    """CIFAR's layout: pickles of {"data": (n, 3072) uint8, `labels`: a list}, and the class names at meta[`names`]."""

    def part(files: list[str]) -> ImageSet:
        batches = [_unpickle(folder / file) for file in files]
        pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
        answers = torch.tensor([label for batch in batches for label in batch[labels]])
        return ImageSet(torch.from_numpy(pixels), Labels.complete(answers))

    return part(train), part(test), tuple(_unpickle(folder / meta)[names])


def _unpickle(path: Path) -> dict:
    """One CIFAR file, whose MD5 has been checked. NumPy warns of `align=0` in pickles as old as these."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pickle.load(file, encoding="latin1")


def _absent(folder: Path, source: Source) -> list[str]:
    return [file for file in source.files if not (folder / file).is_file()]


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch(source: Source, watcher: Watcher, root: Path) -> None:
    """Let torchvision download into `root`; two processes take turns. Its own progress bar stays out of our display."""
    folder = root / source.folder
    try:
        with locked(root / f".{source.dataset}.lock", watcher):
            if not _absent(folder, source):
                return
            watcher.say(f"downloading {source.dataset} into {folder}, once")
            from torchvision import datasets

            with _patience(), redirect_stderr(StringIO()):
                getattr(datasets, source.dataset)(root, download=True)
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError, zlib.error) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise _unavailable(source, folder, f"could not be downloaded, {reason[0]}") from error


def _unavailable(source: Source, folder: Path, why: str) -> UserError:
    return UserError(
        f"{source.dataset} is not on this machine and {why}",
        where=folder,
        cure=f"put {', '.join(source.files)} there, or set data.root to a folder that holds {source.folder}",
    )


@contextmanager
def _patience():
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
