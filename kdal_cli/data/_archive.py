"""Arrays of an .npz archive: judged by their headers before any is read, and never unpickled."""

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdal_cli.errors import UserError

INFLATION, HARMLESS = 100, 64 << 20
"""An array of more than `HARMLESS` bytes that is so many times its compressed size was made to harm, or is empty."""


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
        """Arrays by name, each checked against the archive's CRC.

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
                version = np.lib.format.read_magic(file)
                head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = head(file)
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
                return np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError, RuntimeError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
            raise self._unreadable(name, error) from error

    def _unreadable(self, what: str, error: Exception) -> UserError:
        return UserError(f"{what} cannot be read, {error}", where=self.path, cure=self.wanted)
