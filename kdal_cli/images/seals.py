"""Seals of large files: that what is read is what was written, without reading all of it at each start."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

WHOLE = 1 << 28
"""Bytes of a file up to which all of it is read at each start, in about a quarter of a second."""

BLOCKS, BLOCK = 256, 4096
"""Of a larger one: so many blocks of so many bytes, evenly spaced, the first and the last among them."""

AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Seal:
    """Of a file, but for its first `skip` bytes, which are checked by what they say.

    size: bytes of the whole file. changed: when it was last written, in ns. sha256: of all that is sealed. blocks: the
    SHA-256 of the sampled blocks.
    """

    size: int
    changed: int
    sha256: str
    blocks: str

    @classmethod
    def of(cls, file: BinaryIO, skip: int = 0, known: str | None = None) -> "Seal":
        """Of a file as it is now. known: the SHA-256 of what is sealed, where it was summed while it was written."""
        facts = os.fstat(file.fileno())
        return cls(facts.st_size, facts.st_mtime_ns, known or _whole(file, skip), _sampled(file, facts.st_size, skip))

    @classmethod
    def read(cls, value: dict[str, Any]) -> "Seal":
        """As `asdict` wrote it. Raises KeyError, TypeError or ValueError where it did not."""
        return cls(int(value["size"]), int(value["changed"]), str(value["sha256"]), str(value["blocks"]))

    def fits(self, file: BinaryIO, skip: int = 0, *, whole: bool = False) -> bool:
        """Whether the file is what was sealed.

        A file of more than `WHOLE` bytes is judged by its size, its time and the sampled blocks; by every byte where
        its time is another, as that of a copy is, and with `whole`.
        """
        facts = os.fstat(file.fileno())
        if facts.st_size != self.size:
            return False
        if not whole and self.size > WHOLE and facts.st_mtime_ns == self.changed:
            return _sampled(file, self.size, skip) == self.blocks
        return _whole(file, skip) == self.sha256


def _whole(file: BinaryIO, skip: int) -> str:
    file.seek(skip)
    digest = hashlib.sha256()
    for block in _read(file):
        digest.update(block)
    return digest.hexdigest()


def _read(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(AT_ONCE):
        yield block


def _sampled(file: BinaryIO, size: int, skip: int) -> str:
    digest, last = hashlib.sha256(), max(skip, size - BLOCK)
    for number in range(BLOCKS):
        file.seek(skip + (last - skip) * number // (BLOCKS - 1))
        digest.update(file.read(BLOCK))
    return digest.hexdigest()
