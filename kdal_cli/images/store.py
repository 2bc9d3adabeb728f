"""Decoded images on disk: whole or not there, checked when opened, one writer at a time.

A store is a folder of `train.npy` and `test.npy`, pixels (N, c, H, W) uint8 to be memory-mapped, and `index.json`,
which says what was found out while they were decoded and carries their SHA-256 and its own. Which file and which label
a row has is not read from there: it follows from the listing. Links in a store are not followed, and whatever the
umask, nobody but the owner can write to it.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from io import BufferedRandom, BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from kdal_cli.errors import MachineError, UserError
from kdal_cli.images.decode import Found
from kdal_cli.images.depth import Ranges
from kdal_cli.images.statistics import Twins
from kdal_cli.records.files import sha256, sync_folder, write_json
from kdal_cli.types import Watcher

INDEX = "index.json"
COUNTS = ("transparent", "deep", "faint", "turned")
"""What is counted of the images of a part, see `images.decode.Found`."""
FOLDER_MODE, FILE_MODE = 0o755, 0o644
CAUTIOUS = os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Part:
    """One .npy of a store: its SHA-256, and what was found out about its images."""

    sha256: str
    found: Found


@dataclass(frozen=True)
class Index:
    """What a store holds. ranges: what became 0 to 255 of images of more than 8 bits. mean, std: of the training
    images, per channel, from 0 to 1."""

    train: Part
    test: Part
    ranges: Ranges
    mean: tuple[float, ...]
    std: tuple[float, ...]
    twins: Twins

    @property
    def found(self) -> Found:
        """Of both parts together."""
        one, two = self.train.found, self.test.found
        counts = (getattr(one, name) + getattr(two, name) for name in COUNTS)
        return Found(one.broken | two.broken, *counts, sides=[*one.sides, *two.sides])


@contextmanager
def locked(path: Path, watcher: Watcher) -> Iterator[None]:
    """Hold the lock file at `path`; wait, and say so, while another process holds it. It is released even by a kill."""
    _make_folder(path.parent)
    with _writing(path, 0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            watcher.say(f"another process is preparing the same data; waiting for it ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def building(home: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `home` when the block ends well, and vanishes when it does not.

    To be called under the lock of `home`: what a killed process left behind is swept first. A damaged `home` is
    replaced; whoever has it mapped keeps what they see. Raises MachineError when the disk is full or read-only.
    """
    draft = home.with_name(f"{home.name}.part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        _make_folder(home.parent)
        draft.mkdir(FOLDER_MODE)
        yield draft
        sync_folder(draft)
        shutil.rmtree(home, ignore_errors=True)
        draft.replace(home)
        sync_folder(home.parent)
    except OSError as error:
        cure = "make room there, or set data.store to another folder"
        raise MachineError(f"decoded images cannot be written, {error.strerror}", where=home, cure=cure) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_pixels(path: Path, images: Iterable[np.ndarray], shape: tuple[int, int, int]) -> str:
    """Stream `images`, each of `shape` (c, H, W) uint8, into a .npy file of (N, c, H, W); N shows at the end only.

    Returns the SHA-256 of the file. NumPy pads a header for its first axis to grow, so it is rewritten in place.
    """
    n = 0
    with _writing(path, os.O_EXCL) as file:
        _head(file, 0, shape)
        for image in images:
            file.write(image.tobytes())
            n += 1
        file.seek(0)
        _head(file, n, shape)
        file.flush()
        os.fsync(file.fileno())
    return _file_sha256(path)


def open_pixels(path: Path) -> Tensor:
    """(N, c, H, W) uint8, memory-mapped. Copy on write: the file stays as it is, and torch takes a writable array.

    Raises ValueError where the file holds anything else.
    """
    with _reading(path) as file:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.uint8 or fortran or len(shape) != 4:
            raise ValueError(path)
        pixels = np.memmap(file, np.uint8, "c", file.tell(), shape) if math.prod(shape) else np.empty(shape, np.uint8)
    return torch.from_numpy(pixels)


def write_index(home: Path, index: Index) -> None:
    body = asdict(index)
    write_json(home / INDEX, {"sha256": sha256(body), "body": body})


def read_index(
    home: Path, paths: Mapping[str, Sequence[str]], shape: tuple[int, int, int], watcher: Watcher
) -> Index | None:
    """The index of a store whose every byte is as it was written; None where there is none, with a word if damaged.

    paths: of the images that train.npy and test.npy were made from. shape: of each, (c, H, W).
    Raises UserError where the store, or a file in it, is a link.
    """
    for path in (home, *(home / name for name in (INDEX, "train.npy", "test.npy"))):
        if path.is_symlink():
            cure = "remove it, or set data.store to another folder"
            raise UserError("links in a store of images are not followed", where=path, cure=cure)
    if not home.exists():
        return None
    try:
        with _reading(home / INDEX) as file:
            sealed = json.loads(file.read())
        index = _index(sealed["body"]) if sealed["sha256"] == sha256(sealed["body"]) else None
        if index is not None and _matches(home, index, paths, shape, watcher):
            return index
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        pass  # whatever is wrong, it is not what was written
    watcher.say(f"the decoded images in {home} are damaged; decoding again")
    return None


def _matches(
    home: Path, index: Index, paths: Mapping[str, Sequence[str]], shape: tuple[int, int, int], watcher: Watcher
) -> bool:
    """Whether the pixels are those that were written, as many as the index leaves of the images at `paths`."""
    watcher.begin("checking decoded images", len(paths))
    try:
        for name, files in paths.items():
            part: Part = getattr(index, name)
            pixels = open_pixels(home / f"{name}.npy")
            rows = len(files) - len(part.found.broken)
            if not part.found.broken.keys() <= set(files) or pixels.shape != (rows, *shape):
                return False
            if len(part.found.sides) != rows:
                return False
            if _file_sha256(home / f"{name}.npy") != part.sha256:
                return False
            watcher.advance(1, rows)
        return len(index.mean) == len(index.std) == shape[0]
    finally:
        watcher.end()


def _index(body: dict[str, Any]) -> Index:
    """Raises KeyError, TypeError or ValueError where something is not what it should be."""

    def part(p: dict[str, Any]) -> Part:
        found = p["found"]
        broken = {str(path): str(reason) for path, reason in found["broken"].items()}
        sides = [(int(height), int(width)) for height, width in found["sides"]]
        if any(not 0 < side < 2**31 for pair in sides for side in pair):
            raise ValueError(sides)
        return Part(str(p["sha256"]), Found(broken, *(int(found[name]) for name in COUNTS), sides=sides))

    def figures(values: Iterable[Any]) -> tuple[float, ...]:
        numbers = tuple(map(float, values))
        if not all(map(math.isfinite, numbers)):
            raise ValueError(numbers)
        return numbers

    ends = {str(kind): figures(range) for kind, range in body["ranges"].items()}
    ranges = {kind: (low, high) for kind, (low, high) in ends.items()}
    same = Twins(*(int(body["twins"][field.name]) for field in fields(Twins)))
    return Index(part(body["train"]), part(body["test"]), ranges, figures(body["mean"]), figures(body["std"]), same)


def _make_folder(path: Path) -> None:
    """A folder and those above it, which the umask may close further, but not open."""
    if not path.is_dir():
        if path.parent != path:
            _make_folder(path.parent)
        path.mkdir(FOLDER_MODE, exist_ok=True)


def _reading(path: Path) -> BufferedReader:
    """A file that is not a link; what is no file is not waited for."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | CAUTIOUS), "rb")


def _writing(path: Path, flags: int) -> BufferedRandom:
    """A file that is not a link, new with `O_EXCL`."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | flags | CAUTIOUS, FILE_MODE), "r+b")


def _file_sha256(path: Path) -> str:
    with _reading(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _head(file: BinaryIO, n: int, shape: tuple[int, int, int]) -> None:
    entry = {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}
    np.lib.format.write_array_header_1_0(file, entry)
