"""A file of `torch.save`: what it says (`kdal_cli.records.pickled`), and the numbers of its tensors.

What is declared is counted before a single number is read.
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from kdal_cli.records.pickled import Storage, Stored, Unreadable, look

ALIASES = 2
"""Tensors may be views of one storage, as tied weights are, but together hold no more than so many times the file."""

LEGACY = (0x1950A86A20F9469CFC6C, 1001)
"""The first two pickles of a file that torch wrote before 1.6, or was asked to write like that."""


@dataclass(frozen=True)
class Saved:
    """A file of `torch.save` that is open. content: what was saved, with `Stored` where tensors were."""

    content: Any
    size: int
    fetch: Callable[[Storage], bytes]

    def load(self, wanted: Mapping[str, Stored]) -> dict[str, Tensor]:
        """The numbers of these tensors. Raises Unreadable, before any is read, when they are more than the file has."""
        for tensor in wanted.values():
            tensor.refuse_unsound()
        declared = sum(tensor.bytes for tensor in wanted.values())
        if declared > ALIASES * self.size:
            raise Unreadable(f"{declared:,} bytes of tensors are declared in a file of {self.size:,}")
        storages = {tensor.storage.key: tensor.storage for tensor in wanted.values()}
        data = {key: bytearray(self.fetch(storage)) for key, storage in storages.items()}
        return {name: _tensor(tensor, data[tensor.storage.key]) for name, tensor in wanted.items()}


@contextmanager
def opened(path: Path) -> Iterator[Saved]:
    """A file of `torch.save`, zip archive or older. Raises Unreadable, and whatever a damaged archive raises."""
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                yield _archive(archive, path.stat().st_size)
        else:
            file.seek(0)
            yield _legacy(file, path.stat().st_size)


def _archive(archive: zipfile.ZipFile, size: int) -> Saved:
    entries = {entry.filename: entry for entry in archive.infolist()}
    found = [name for name in entries if name.endswith("/data.pkl")]
    if len(found) != 1:
        raise Unreadable("it is an archive of something else")
    root = found[0].removesuffix("data.pkl")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise Unreadable("its contents are compressed, which torch.save never does")
    if sum(entry.file_size for entry in entries.values()) > size:
        raise Unreadable("its contents are declared larger than the file")
    if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
        raise Unreadable("its numbers are big-endian")

    def fetch(storage: Storage) -> bytes:
        return _whole(storage, archive.read(f"{root}data/{storage.key}"))

    return Saved(look(BytesIO(archive.read(found[0]))), size, fetch)


def _legacy(file: IO[bytes], size: int) -> Saved:
    """Magic number, protocol, machine, content and the list of storages, a pickle each; then storage after storage."""
    if (look(file), look(file)) != LEGACY:
        raise Unreadable("it is a pickle of something else")
    look(file)
    storages: dict[str, Storage] = {}
    content = look(file, storages)
    places: dict[str, int] = {}
    keys = look(file)
    position = file.tell()
    for key in keys:
        places[key] = position
        position += 8 + storages[key].numel * storages[key].dtype.itemsize  # the number of elements comes first

    def fetch(storage: Storage) -> bytes:
        length = storage.numel * storage.dtype.itemsize
        file.seek(places[storage.key])
        if length > size or int.from_bytes(file.read(8), "little") != storage.numel:
            raise Unreadable("a storage is not of its declared size")
        return _whole(storage, file.read(length))

    return Saved(content, size, fetch)


def _whole(storage: Storage, data: bytes) -> bytes:
    if len(data) != storage.numel * storage.dtype.itemsize:
        raise Unreadable("a storage is not of its declared size")
    return data


def _tensor(stored: Stored, data: bytearray) -> Tensor:
    if not data or not prod(stored.shape):
        return torch.empty(stored.shape, dtype=stored.dtype)
    flat = torch.frombuffer(data, dtype=stored.dtype, count=len(data) // stored.dtype.itemsize)
    return flat.as_strided(stored.shape, stored.strides, stored.offset)
