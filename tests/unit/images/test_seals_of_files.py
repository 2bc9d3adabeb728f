"""Seals of large files: what is noticed at each start, and what by a whole check."""

import os
from pathlib import Path

import pytest

from kdal_cli.images import seals
from kdal_cli.images.seals import BLOCK, BLOCKS, Seal

SIZE = 3 * BLOCK * BLOCKS


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of which a third is sampled."""
    monkeypatch.setattr(seals, "WHOLE", SIZE - 1)
    path = tmp_path / "train.jpegs"
    path.write_bytes(os.urandom(SIZE))
    return path


def sealed(path: Path) -> Seal:
    with path.open("rb") as file:
        return Seal.of(file)


def fits(seal: Seal, path: Path, *, whole: bool = False) -> bool:
    with path.open("rb") as file:
        return seal.fits(file, whole=whole)


def turned(path: Path, place: int) -> None:
    """One bit changed, and the time of the file as it was."""
    facts, data = path.stat(), bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_the_first_and_the_last_block_are_sampled_and_a_whole_check_sees_all(file: Path) -> None:
    seal = sealed(file)
    assert fits(seal, file)
    for place, noticed in ((0, True), (SIZE - 1, True), (2 * BLOCK, False)):
        turned(file, place)
        assert fits(seal, file) is not noticed
        assert not fits(seal, file, whole=True)
        turned(file, place)
        assert fits(seal, file, whole=True)


def test_a_copy_with_another_time_is_read_whole(file: Path) -> None:
    seal = sealed(file)
    os.utime(file, ns=(0, 0))
    assert fits(seal, file)
    turned(file, 2 * BLOCK)
    assert not fits(seal, file)


def test_another_size_and_a_small_file_need_no_samples(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal = sealed(file)
    with file.open("ab") as more:
        more.write(b"x")
    assert not fits(seal, file)
    monkeypatch.setattr(seals, "WHOLE", SIZE + 1)
    small = sealed(file)
    turned(file, 2 * BLOCK)
    assert not fits(small, file)
