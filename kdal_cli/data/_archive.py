"""Arrays of an .npz archive: judged by their headers before any is read, and never unpickled."""

import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from kdal_cli.errors import UserError

INFLATION, HARMLESS = 100, 64 << 20
"""An array of more than `HARMLESS` bytes that is so many times its compressed size was made to harm, or is empty."""

LARGE = 1 << 28
"""Bytes of an array from which on it is not copied into memory: whoever then writes over the archive changes it."""

NAME_AND_EXTRA = 26
"""Where a local header of a zip file says how long the two are that lie between it and the data (APPNOTE 4.3.7)."""


class Archive:
    """An open .npz archive. Every method raises UserError naming the file where it cannot be read.

    wanted: what an archive holds, in words. max_bytes: what its arrays may come to together.
    """

    def __init__(self, path: Path, wanted: str, max_bytes: int) -> None:
        if not path.is_file():
            raise UserError("there is no such file", where=path, cure=wanted)
        if not zipfile.is_zipfile(path):
            raise UserError("not an .npz archive, or a truncated one", where=path, cure=wanted)
        self.path, self.wanted, self.max_bytes = path, wanted, max_bytes
        try:
            with zipfile.ZipFile(path) as archive:
                self.names = [name.removesuffix(".npy") for name in archive.namelist()]
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise self._unreadable("the archive", error) from error

    def read(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Arrays by name, each checked against the archive's CRC; `LARGE` ones that are not compressed are mapped.

        Raises UserError for Python objects, for headers that promise another size than the archive does, and for
        arrays that are too large or inflate like a bomb, before the first of them is read.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = {name: archive.getinfo(f"{name}.npy") for name in names}
                for name, member in members.items():
                    self._judge(archive, name, member)
                total = sum(member.file_size for member in members.values())
                if total > self.max_bytes:
                    what = f"its arrays come to {total / 1e9:.1f} GB, more than data.max_bytes={self.max_bytes}"
                    raise UserError(what, where=self.path, cure="raise it, or save fewer or smaller images")
                return {name: self._array(archive, name, member) for name, member in members.items()}
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise self._unreadable("the archive", error) from error

    def _judge(self, archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> None:
        """Refuse an array by its header."""
        try:
            with archive.open(member) as file:
                shape, _, dtype = _head(file)
                size = file.tell() + math.prod(shape) * dtype.itemsize
        except (ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
            raise self._unreadable(name, error) from error
        if dtype.hasobject:
            cure = "nothing is unpickled; save plain arrays: numbers, or text as y.astype(str)"
            raise UserError(f"{name} cannot be read, it holds Python objects", where=self.path, cure=cure)
        if size != member.file_size:
            what = f"{name} is {shape} of {dtype}, {size:,} bytes, but the archive says {member.file_size:,}"
            raise UserError(what, where=self.path, cure=self.wanted)
        if size > max(HARMLESS, INFLATION * member.compress_size):
            what = f"{name} would inflate from {member.compress_size:,} to {size:,} bytes"
            raise UserError(what, where=self.path, cure="if it is sound, save it with numpy.savez, uncompressed")

    def _array(self, archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> np.ndarray:
        try:
            with archive.open(member) as file:
                shape, fortran, dtype = _head(file)
                large = dtype == np.uint8 and not fortran and math.prod(shape) >= LARGE
                if large and member.compress_type == zipfile.ZIP_STORED:
                    return self._mapped(member)[file.tell() :].reshape(shape)
                file.seek(0)
                return np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError, RuntimeError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
            raise self._unreadable(name, error) from error

    def _mapped(self, member: zipfile.ZipInfo) -> np.ndarray:
        """The bytes of a member that is not compressed, where they lie in the archive. Copy on write."""
        with self.path.open("rb") as file:
            file.seek(member.header_offset + NAME_AND_EXTRA)
            before = sum(struct.unpack("<HH", file.read(4)))
            found = np.memmap(file, np.uint8, "c", file.tell() + before, (member.file_size,))
        if zlib.crc32(found.data) != member.CRC:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {member.filename!r}")
        return found

    def _unreadable(self, what: str, error: Exception) -> UserError:
        return UserError(f"{what} cannot be read, {error}", where=self.path, cure=self.wanted)


def _head(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in the order of Fortran, and dtype of the array that begins here."""
    version = np.lib.format.read_magic(file)
    head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return head(file)
