"""Parquet files as Hugging Face's `datasets` writes them: images in rows or in files, labels known or not."""

import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from kdal_cli.data.parquet import parquet
from kdal_cli.data.photos import photos
from kdal_cli.dataset import ImageData
from kdal_cli.errors import UserError
from kdal_cli.images.links import Links
from kdal_cli.images.parquet import listed

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def written(
    path: Path, images: list[Any], labels: list[Any], names: list[str] | None = None, kind: Any = IMAGE
) -> Path:
    """A file with the columns image and label, two rows a group, and with `names` what `datasets` says of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": pa.array(images, kind), "label": pa.array(labels)})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=2)
    return path


def inside(*seeds: int) -> list[dict[str, Any]]:
    return [{"bytes": png(seed), "path": f"{seed}.png"} for seed in seeds]


@pytest.fixture
def load(tmp_path: Path, ear) -> Callable[..., ImageData]:
    def load(path: Path, **how: Any) -> ImageData:
        return parquet(ear, path=path, store=tmp_path / "store", **({"size": 8} | how))

    return load


def test_a_folder_as_the_hub_has_it(tmp_path: Path, load, ear) -> None:
    """data/<split>-00000-of-00001.parquet, names of classes in the schema, −1 and null for labels nobody knows."""
    hub = tmp_path / "pets" / "data"
    written(hub / "train-00000-of-00002.parquet", inside(0, 1, 2), [1, 0, -1], ["cat", "dog"])
    written(hub / "train-00001-of-00002.parquet", inside(3, 4), [1, None], ["cat", "dog"])
    written(hub / "validation-00000-of-00001.parquet", inside(5, 6), [0, 1], ["cat", "dog"])
    written(hub / "test-00000-of-00001.parquet", inside(7, 8), [0, 1], ["cat", "dog"])
    data = load(hub.parent)
    assert data.classes == ("cat", "dog")
    first = "data/train-00000-of-00002.parquet"
    assert data.train.paths[:4] == (f"{first}:1", f"{first}:2", "data/train-00001-of-00002.parquet:1", f"{first}:3")
    assert data.train.labels.known.tolist() == [0, 1, 2, 5, 6]
    assert data.train.labels.of(torch.tensor([0, 1, 2, 5, 6])).tolist() == [1, 0, 1, 0, 1]
    assert data.validation.tolist() == [5, 6]
    assert data.test.labels.all().tolist() == [0, 1]
    assert data.train.frame is not None
    assert data.train.frame.sizes.tolist() == [[20, 30]] * 7
    assert "2 of 5 training images have no label" in ear.said


def test_rows_are_decoded_as_the_same_files_in_folders_are(tmp_path: Path, load, ear) -> None:
    for split, seeds in (("train", (0, 1)), ("test", (2, 3))):
        for kind, seed in zip(("cat", "dog"), seeds, strict=True):
            (tmp_path / "folder" / split / kind).mkdir(parents=True)
            (tmp_path / "folder" / split / kind / "a.png").write_bytes(png(seed))
        written(tmp_path / "rows" / f"{split}.parquet", inside(*seeds), ["cat", "dog"])
    ours = load(tmp_path / "rows")
    theirs = photos(ear, root=tmp_path / "folder", size=8, store=tmp_path / "store")
    assert torch.equal(ours.train.pixels, theirs.train.pixels)
    assert torch.equal(ours.test.pixels, theirs.test.pixels)


@pytest.mark.parametrize("kind", [pa.string(), IMAGE])
def test_a_row_without_bytes_is_the_file_that_it_names(tmp_path: Path, load, kind) -> None:
    for n in range(4):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{n}.png").write_bytes(png(n))
    paths = [f"images/{n}.png" for n in range(4)]
    images = paths if kind == pa.string() else [{"bytes": None, "path": path} for path in paths]
    if kind == IMAGE:
        images[1] = inside(1)[0]
    data = load(written(tmp_path / "pets.parquet", images, ["cat", "dog", "cat", "dog"], kind=kind), test_share=0.5)
    assert len(data.train) == len(data.test) == 2
    assert {path.rpartition("/")[2] for path in (*data.train.paths, *data.test.paths)} >= {"0.png", "2.png", "3.png"}


def test_a_file_alone_is_the_training_images_and_a_share_of_it_the_test_set(tmp_path: Path, load) -> None:
    data = load(written(tmp_path / "pets.parquet", inside(*range(10)), ["a", "b"] * 5), test_share=0.4)
    assert (len(data.train), len(data.test), data.classes) == (6, 4, ("a", "b"))


def test_an_image_that_cannot_be_read_is_named_by_its_row(tmp_path: Path, load) -> None:
    images = [*inside(0, 1, 2), {"bytes": b"\x89PNG nothing", "path": "x.png"}, {"bytes": b"", "path": None}]
    path = written(tmp_path / "pets.parquet", images, ["a", "b", "a", "b", "a"])
    with pytest.raises(
        UserError, match=r"2 images, 'pets\.parquet:4' \[.*\], 'pets\.parquet:5' \[empty\], cannot be read"
    ):
        load(path)


@pytest.mark.parametrize(
    ("labels", "how", "told"),
    [
        ([0, 5], {"classes": ["a", "b"]}, r"label 5 \(x\.parquet:2\): labels are from 0 to 1"),
        (["a", "c"], {"classes": ["a", "b"]}, r"'c' not in data\.classes"),
        ([0.5, 1.0], {}, r"a label is 0\.5 .*: either texts, or whole numbers"),
        ([0, 0], {}, r"fewer than 2 classes .*data\.classes"),
        ([0, 1], {"label": "kind"}, r"data\.label=kind \(no such column"),
        ([0, 1], {"image": "label"}, r"column label holds int64"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path, load, labels, how, told: str) -> None:
    with pytest.raises(UserError, match=told):
        load(written(tmp_path / "x.parquet", inside(0, 1), labels), **how)


def test_files_of_which_nobody_knows_the_split_and_other_columns_are_refused(tmp_path: Path, load) -> None:
    written(tmp_path / "a" / "train.parquet", inside(0, 1), [0, 1])
    written(tmp_path / "a" / "extra.parquet", inside(2, 3), [0, 1])
    with pytest.raises(UserError, match=r"of which split is extra\.parquet"):
        load(tmp_path / "a")
    written(tmp_path / "b" / "train.parquet", inside(0, 1), [0, 1], ["cat", "dog"])
    written(tmp_path / "b" / "test.parquet", inside(2, 3), [0, 1], ["dog", "cat"])
    with pytest.raises(UserError, match=r"other columns or classes than in the files before"):
        load(tmp_path / "b")
    written(tmp_path / "c" / "train.parquet", inside(0, 1), [0, 1])
    written(tmp_path / "c" / "test.parquet", inside(2, 3), [-1, -1])
    with pytest.raises(UserError, match=r"test or validation images without a label: test\.parquet:1, test\.parquet:2"):
        load(tmp_path / "c")


def test_links_and_paths_that_lead_out_of_the_folder_are_refused(tmp_path: Path, load) -> None:
    written(tmp_path / "blobs" / "0a1b", inside(0, 1), [0, 1])
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.parquet").symlink_to(tmp_path / "blobs" / "0a1b")
    with pytest.raises(UserError, match=r"'train\.parquet' is a link, .*data\.links=follow"):
        load(tmp_path / "hub")
    (tmp_path / "secret.png").write_bytes(png(0))
    path = written(tmp_path / "in" / "x.parquet", ["../secret.png", "../secret.png"], ["a", "b"], kind=pa.string())
    with pytest.raises(UserError, match=r"row 1: '\.\./secret\.png' leads out of"):
        load(path)


def test_another_file_and_a_row_group_that_is_too_large_are_refused(tmp_path: Path, load, monkeypatch) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(UserError, match="no Parquet file: "):
        load(tmp_path / "x.parquet")
    monkeypatch.setattr("kdal_cli.images.parquet.LARGEST_GROUP", 100)
    with pytest.raises(UserError, match=r"a row group of [\d,]+ bytes .*row_group_size"):
        load(written(tmp_path / "y.parquet", inside(0, 1), [0, 1]))


def test_a_damaged_file_is_refused_or_read_and_nothing_else_happens(tmp_path: Path) -> None:
    whole = written(tmp_path / "x.parquet", inside(0, 1, 2, 3), [0, 1, 0, 1], ["cat", "dog"]).read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for cut in (*rng.integers(0, len(whole), 10), *[None] * 60):
        damaged = bytearray(whole[:cut])
        if cut is None:
            for place in rng.integers(len(whole) * 2 // 3, len(whole), 3):
                damaged[place] = int(rng.integers(256))
        (tmp_path / "x.parquet").write_bytes(damaged)
        try:
            listed(tmp_path / "x.parquet", tmp_path, Links(tmp_path), 0.5, [], None, None)
        except UserError:
            refused += 1
    assert refused > 20


def test_without_pyarrow_one_line_says_what_to_install(tmp_path: Path, load, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pyarrow" else find(name, *rest)
    )
    with pytest.raises(UserError, match=r"data=parquet needs the package pyarrow: pip install 'kdal\[parquet\]'"):
        load(tmp_path / "x.parquet")
