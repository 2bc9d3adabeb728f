"""Vectors that the user brings: a row for each image, read by id; and one line for each way a file can be wrong."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kdal_cli.errors import UserError
from kdal_cli.inference.embedding import embedding

IMAGES, D = 20, 3
TABLE = torch.randn(IMAGES, D, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([7, 0, 19, 7])

Save = Callable[[str, torch.Tensor], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """save(suffix, table) -> the file."""

    def save(suffix: str, table: torch.Tensor) -> Path:
        path = tmp_path / f"vectors{suffix}"
        np.save(path, table.numpy()) if suffix == ".npy" else save_file({"any name": table.contiguous()}, path)
        return path

    return save


def refusal(path: Path, ids: torch.Tensor = IDS) -> str:
    """The one line that names the file."""
    with pytest.raises(UserError) as refused:
        embedding(path, IMAGES)(ids)
    line = str(refused.value)
    assert f"({path})" in line
    assert "\n" not in line
    return line.replace(f" ({path})", "")


both = pytest.mark.parametrize("suffix", [".npy", ".safetensors"])


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8])
def test_rows_are_read_by_id_as_float32(save: Save, suffix: str, dtype: torch.dtype) -> None:
    table = (10 * TABLE.abs()).to(dtype)
    rows = embedding(save(suffix, table), IMAGES)(IDS)
    assert rows.dtype == torch.float32
    assert torch.equal(rows, table.float()[IDS])


def test_bf16_and_other_orders_of_bytes_and_of_rows_are_read_too(save: Save, tmp_path: Path) -> None:
    assert torch.equal(embedding(save(".safetensors", TABLE.bfloat16()), IMAGES)(IDS), TABLE.bfloat16().float()[IDS])
    for table in (TABLE.numpy().astype(">f4"), np.asfortranarray(TABLE.numpy())):
        np.save(tmp_path / "other.npy", table)
        assert torch.equal(embedding(tmp_path / "other.npy", IMAGES)(IDS), TABLE[IDS])


@both
def test_no_ids_have_no_rows_and_writing_to_rows_changes_no_file(save: Save, suffix: str) -> None:
    path = save(suffix, TABLE)
    before, rows = path.read_bytes(), embedding(path, IMAGES)
    assert rows(IDS[:0]).shape == (0, D)
    rows(IDS).zero_()
    assert torch.equal(rows(IDS), TABLE[IDS])
    assert path.read_bytes() == before


@both
@pytest.mark.parametrize(
    ("table", "shape"),
    [
        (TABLE[:-1], "(19, 3)"),
        (torch.cat([TABLE, TABLE[:1]]), "(21, 3)"),
        (TABLE[:0], "(0, 3)"),
        (TABLE[:, :0], "(20, 0)"),
        (TABLE[:, 0], "(20,)"),
        (TABLE[:, :, None], "(20, 3, 1)"),
        (TABLE[0, 0], "()"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_of_another_shape_is_told_and_what_is_needed(save: Save, suffix: str, table, shape: str) -> None:
    line = refusal(save(suffix, table))
    assert line == f"this embedding is {shape}: it needs (20, D): one row for each image of the data set"


@both
@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf, 1e300])
def test_a_row_that_float32_cannot_hold_is_refused_by_its_image_when_it_is_read(save, suffix, number: float) -> None:
    table = TABLE.double()
    table[19, 1] = number
    path = save(suffix, table)
    assert refusal(path) == "the row of image 19 is not finite: mend the file"
    assert torch.equal(embedding(path, IMAGES)(IDS[:2]), TABLE[IDS[:2]])


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (TABLE.numpy() > 0, "its numbers are bool"),
        (TABLE.numpy() * 1j, "its numbers are complex64"),
        (TABLE.numpy().astype(str), "its numbers are <U32"),
        (TABLE.numpy().astype(object), "Python objects"),
    ],
    ids=["bool", "complex", "text", "objects"],
)
def test_what_are_no_numbers_is_refused(tmp_path: Path, table: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "vectors.npy", table)
    assert reason in refusal(tmp_path / "vectors.npy")


@pytest.mark.parametrize("count", [0, 2])
def test_a_file_of_none_or_of_two_tensors_does_not_say_which(tmp_path: Path, count: int) -> None:
    save_file({f"table {n}": TABLE.clone() for n in range(count)}, tmp_path / "vectors.safetensors")
    assert f"it holds {count} tensors, one is needed" in refusal(tmp_path / "vectors.safetensors")


def test_an_archive_is_not_one_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "vectors.npz", a=TABLE.numpy())
    path = (tmp_path / "vectors.npz").rename(tmp_path / "vectors.npy")
    assert "the magic string is not correct" in refusal(path)


@both
def test_a_file_that_is_not_there_or_is_a_folder_is_told(tmp_path: Path, suffix: str) -> None:
    assert "cannot read this embedding: No such file or directory" in refusal(tmp_path / f"none{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    assert refusal(tmp_path / f"folder{suffix}").startswith("cannot read this embedding: ")


@both
@pytest.mark.parametrize(
    "harm",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: bytes(len(data)),
        lambda data: b"garbage" * 100,
        lambda data: pickle.dumps([1, 2, 3]),
    ],
    ids=["empty", "head", "cut", "zeros", "garbage", "pickle"],
)
def test_a_damaged_file_is_told(save: Save, suffix: str, harm: Callable[[bytes], bytes]) -> None:
    path = save(suffix, TABLE)
    path.write_bytes(harm(path.read_bytes()))
    assert refusal(path).startswith("cannot read this embedding: ")


@both
def test_a_flipped_bit_of_the_header_is_never_a_traceback(save: Save, suffix: str) -> None:
    """A header is Python in one and JSON in the other, and what is wrong in it can be anything."""
    path = save(suffix, TABLE)
    whole = path.read_bytes()
    for place in range(len(whole) - TABLE.nbytes):
        for bit in (0x01, 0x55, 0x80):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            try:
                rows = embedding(path, IMAGES)(IDS)
            except UserError:
                continue
            assert len(rows) == 4
