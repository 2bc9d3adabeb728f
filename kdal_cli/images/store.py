"""Decoded images on disk: whole or not there, checked when opened, one writer at a time.

A store is a folder of `train.npy` and `test.npy`, pixels (N, c, H, W) uint8 to be memory-mapped, and `index.json`,
which says what their rows are and carries their SHA-256 and its own.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from kdal_cli.errors import MachineError
from kdal_cli.records.files import sha256, sync_folder, write_json
from kdal_cli.types import Watcher

INDEX = "index.json"


@dataclass(frozen=True)
class Part:
    """One split of a store: file and label of each row, {file left out: why}, and the SHA-256 of its .npy."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    broken: dict[str, str]
    sha256: str


@dataclass(frozen=True)
class Index:
    """What a store holds. `repeated`, `leaked`: see `images.statistics.twins`."""

    classes: tuple[str, ...]
    train: Part
    test: Part
    mean: tuple[float, ...]
    std: tuple[float, ...]
    repeated: int
    leaked: int

    @property
    def broken(self) -> dict[str, str]:
        return self.train.broken | self.test.broken


@contextmanager
def locked(path: Path, watcher: Watcher) -> Iterator[None]:
    """Hold the lock file at `path`; wait, and say so, while another process holds it. It is released even by a kill."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
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
        draft.mkdir(parents=True)
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
    with path.open("wb") as file:
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
    """(N, c, H, W) uint8, memory-mapped. Copy on write: the file stays as it is, and torch takes a writable array."""
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def write_index(home: Path, index: Index) -> None:
    body = asdict(index)
    write_json(home / INDEX, {"sha256": sha256(body), "body": body})


def read_index(home: Path, watcher: Watcher) -> Index | None:
    """The index of a store whose every byte is as it was written; None where there is none, with a word if damaged."""
    if not home.exists():
        return None
    try:
        sealed = json.loads((home / INDEX).read_bytes())
        sound = sealed["sha256"] == sha256(sealed["body"])
        index = _index(sealed["body"]) if sound else None
    except (OSError, ValueError, KeyError, TypeError):
        index = None
    if index is None or not _matches(home, index, watcher):
        watcher.say(f"the decoded images in {home} are damaged; decoding again")
        return None
    return index


def _matches(home: Path, index: Index, watcher: Watcher) -> bool:
    watcher.begin("checking decoded images", 2)
    try:
        for name, part in (("train", index.train), ("test", index.test)):
            path = home / f"{name}.npy"
            if not path.is_file() or _file_sha256(path) != part.sha256:
                return False
            watcher.advance(1, len(part.paths))
        return True
    finally:
        watcher.end()


def _index(body: dict[str, Any]) -> Index:
    def part(p: dict[str, Any]) -> Part:
        return Part(tuple(p["paths"]), tuple(p["labels"]), p["broken"], p["sha256"])

    lists = {name: tuple(body[name]) for name in ("classes", "mean", "std")}
    return Index(
        **lists, train=part(body["train"]), test=part(body["test"]), repeated=body["repeated"], leaked=body["leaked"]
    )


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _head(file: BinaryIO, n: int, shape: tuple[int, int, int]) -> None:
    entry = {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}
    np.lib.format.write_array_header_1_0(file, entry)
