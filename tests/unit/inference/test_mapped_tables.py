"""Tables that are held in files: the same numbers, no memory of their own, no file left, and a full disk is said."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kdal_cli.dataset import ImageData
from kdal_cli.errors import MachineError
from kdal_cli.images.augment import Resident
from kdal_cli.inference import scorers
from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.scorers import Remembering, Seer
from kdal_cli.inference.tables import Tables
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.network import Network

EVERY = torch.arange(96).flip(0)


@pytest.fixture
def network(images: ImageData) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network(small_cnn(images.shape, width=4), images.mean, images.std)


@pytest.mark.parametrize("batch", [1, 7, 250])
def test_a_mapped_look_has_the_bits_of_one_in_memory(
    batch: int, network: Network, resident: Resident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorers, "BATCH", batch)
    monkeypatch.setattr("kdal_cli.inference.predict.BATCH", batch)
    monkeypatch.setattr(scorers, "BLOCK", 20)
    plain, mapped = Seer(network, resident), Seer(network, resident, tables=Tables(tmp_path))
    for ids in (EVERY, EVERY[:1], EVERY[:0]):
        for one, two in zip(plain.look(ids), mapped.look(ids), strict=True):
            assert torch.equal(one, two)
    one, two = Remembering(plain, 96), Remembering(mapped, 96, Tables(tmp_path))
    for remembering in (one, two):
        remembering.look(EVERY[:50])
    assert torch.equal(one.look(EVERY)[1], two.look(EVERY)[1])


def test_what_is_mapped_is_no_memory_of_the_process_and_leaves_no_file(tmp_path: Path) -> None:
    def own() -> float:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

    rows, part = 50_000, torch.ones(1_000, 1_000)
    before = own()
    table = Tables(tmp_path).filled(rows, (part * i for i in range(50)))  # 200 MB
    assert own() - before < 40
    assert table[::1_000, 0].tolist() == list(range(50))
    assert not any(tmp_path.iterdir())


def test_a_disk_without_room_is_said_before_a_row_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MachineError, match=r"features of 10 images.*No space left.*features=memory"):
        Tables(tmp_path).zeros(10, torch.ones(1, 3))
    Tables().zeros(10, torch.ones(1, 3))


@pytest.mark.parametrize("space", ["features", "pixels", "probabilities", "file"])
def test_a_space_is_the_same_in_blocks(
    space: str, network: Network, resident: Resident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdal_cli.inference.evidence.BLOCK", 20)
    np.save(tmp_path / "rows.npy", torch.randn(96, 3, generator=torch.Generator().manual_seed(0)).numpy())

    def seen(tables: Tables) -> tuple[Tensor, Tensor]:
        scorer = Seer(network, resident, tables=tables)
        labels = torch.zeros(16, dtype=torch.int64)
        pool = Evidence(EVERY[16:], EVERY[:16], labels, 3, scorer, images=resident.whole, known=96, tables=tables)
        return pool.in_space(str(tmp_path / "rows.npy") if space == "file" else space)

    for one, two in zip(seen(Tables()), seen(Tables(tmp_path)), strict=True):
        assert torch.equal(one, two)
        assert one.dtype == torch.float32
