"""Photographs as people have them: divided or not, labelled or not, in folders or in a table, of any proportions."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kdal_cli.data.csv import csv
from kdal_cli.data.photos import photos
from kdal_cli.dataset import ImageData, Shape
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.images.packed import Packed
from kdal_cli.images.store import damaged
from kdal_cli.records.kept import kept as stored

Png = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path, png: Png) -> Callable[..., Path]:
    """folder("train/cat", "test/cat"): three pictures, 30 high and 20 wide, in each."""
    seeds = iter(range(1000))

    def make(*names: str, size: tuple[int, int] = (30, 20)) -> Path:
        for name in names:
            for n in range(3):
                path = tmp_path / "photos" / name / f"{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                png(path, next(seeds), size)
        return tmp_path / "photos"

    return make


@pytest.fixture
def load(tmp_path: Path, ear) -> Callable[..., ImageData]:
    def load(root: Path, **how) -> ImageData:
        return photos(ear, root=root, store=tmp_path / "store", **({"size": 8} | how))

    return load


def test_pictures_keep_their_proportions_beside_more_samples_than_are_seen(folder, load) -> None:
    data = load(folder("train/cat", "train/dog", "test/cat", "test/dog"), crop=0.5)
    assert data.shape == Shape(3, 8, 8, 2)
    assert data.train.pixels.shape == (6, 3, 12, 12)
    frame = data.train.frame
    assert frame is not None
    assert (frame.size, frame.crop, frame.sizes.tolist()) == (8, 0.5, [[30, 20]] * 6)
    again = load(folder(), crop=0.5)  # opened, not decoded
    assert torch.equal(again.train.frame.sizes, frame.sizes)
    images = Resident(data.train.pixels, Augment(kind="photo", views=4), frame=frame)
    assert images.at(torch.arange(6), torch.zeros(6, dtype=torch.int64)).shape == (6, 3, 8, 8)
    assert load(folder(), keep=20).train.pixels.shape == (6, 3, 20, 20)
    with pytest.raises(UserError, match=r"^data.keep=7 \(data.size=8\): keep at least 8"):
        load(folder(), keep=7)


def test_classes_alone_are_training_images_of_which_a_fifth_is_measured_on(folder, load, ear) -> None:
    data = load(folder("cat", "dog"))
    assert (len(data.train), len(data.test), data.classes) == (4, 2, ("cat", "dog"))
    assert any("no test/: 2 of the 6 images" in line for line in ear.said)


def test_unlabelled_images_are_behind_the_others_and_their_labels_unknown(folder, load, ear) -> None:
    data = load(folder("train/cat", "train/dog", "test/cat", "test/dog", "val/cat", "val/dog", "unlabelled"))
    labels = data.train.labels
    assert len(data.train) == 15
    assert labels.known.tolist() == [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14]
    assert data.validation.tolist() == [9, 10, 11, 12, 13, 14]
    assert data.train.paths[6] == "unlabelled/0.png"
    with pytest.raises(LookupError):
        labels.of(torch.tensor([6]))
    assert "3 of 9 training images have no label" in ear.said


def test_a_pool_without_any_label_beside_images_to_measure_on(folder, load) -> None:
    data = load(folder("unlabelled/a", "unlabelled/b", "test/cat", "test/dog"))
    assert (len(data.train), len(data.train.labels.known), data.classes) == (6, 0, ("cat", "dog"))
    assert data.test.labels.all().tolist() == [0, 0, 0, 1, 1, 1]


def test_files_alone_are_a_pool_of_classes_that_are_named(folder, load) -> None:
    data = load(folder("."), classes=["cat", "dog"])
    assert (len(data.train), len(data.train.labels.known), len(data.test)) == (3, 0, 0)
    with pytest.raises(UserError, match="name the classes of images without a label"):
        load(folder("."))


def test_two_folders_without_labels_and_an_empty_one_are_refused(folder, load, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"there are unlabelled/ and unlabeled/.*: one folder of images without a label"
    ):
        load(folder("train/cat", "train/dog", "unlabelled", "unlabeled"))
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="there is nothing in this folder"):
        load(tmp_path / "none")


def test_the_same_picture_in_two_splits_and_turned_ones_are_told(folder, load, ear) -> None:
    from PIL import Image

    root = folder("train/cat", "train/dog", "test/cat", "test/dog")
    Image.open(root / "train/cat/0.png").resize((40, 60)).save(root / "test/dog/9.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(root / "train/cat/1.png").save(root / "train/cat/1.jpg", exif=exif)
    data = load(root)
    assert data.train.frame.sizes[1].tolist() == [20, 30]
    assert "1 of 14 images are set upright as their EXIF says" in ear.said
    assert any(line.startswith("1 test images look much like a training image") for line in ear.said)
    assert any("pictures of several sizes, shorter sides from 20 to 40 pixels, median 20" in line for line in ear.said)


# Tables.


@pytest.fixture
def table(tmp_path: Path, folder, ear) -> Callable[..., ImageData]:
    """table(text): the images in a/ and b/, as a table says."""
    root = folder("a", "b")

    def read(text: str, encoding: str = "utf-8", **how) -> ImageData:
        (root / "labels.csv").write_text(text, encoding=encoding)
        return csv(ear, path=root / "labels.csv", size=8, store=tmp_path / "store", **how)

    return read


ROWS = "a/0.png,cat,train\na/1.png,,train\nb/0.png,dog,\nb/1.png,dog,test\na/2.png,cat,test\nb/2.png,cat,val\n"


def test_a_table_says_label_and_split_and_an_empty_label_is_unknown(table) -> None:
    data = table("path,label,split\n" + ROWS)
    assert data.train.paths == ("a/0.png", "b/0.png", "a/1.png", "b/2.png")
    assert data.train.labels.known.tolist() == [0, 1, 3]
    assert data.train.labels.of(torch.tensor([0, 1, 3])).tolist() == [0, 1, 0]
    assert (data.test.paths, data.validation.tolist()) == (("a/2.png", "b/1.png"), [3])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_spreadsheets_say_the_same(table, encoding: str, delimiter: str) -> None:
    text = ("File,Class,Subset,\r\n" + ROWS.replace("\n", ",\r\n") + ",,,\r\n").replace(",", delimiter)
    assert table(text, encoding).train.paths == ("a/0.png", "b/0.png", "a/1.png", "b/2.png")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,label\na/0.png,cat\n", "no column path among 'name', 'label'"),
        ("path,file,label\na/0.png,x,cat\n", "two columns for path: path, file"),
        ("path,label\n", "this table has no image"),
        ("path,label\na/0.png,cat\na/1.png,cat\n", "fewer than 2 classes"),
        ("path,label\na/0.png,cat\na/0.png,dog\n", "'a/0.png' has another label or split in lines 2 and 3"),
        ("path,label\n../x.png,cat\nb/0.png,dog\n", "line 2: '../x.png' leads out of"),
        ("path,label\n/etc/passwd,cat\nb/0.png,dog\n", "line 2: '/etc/passwd' leads out of"),
        (
            "path,label,split\na/0.png,cat,\nb/0.png,dog,\nb/1.png,,test\n",
            "test or validation images without a label, in lines 4",
        ),
        ("path,label,split\na/0.png,cat,dev\n", "line 2: split 'dev'"),
        ('path,label\n"a/0.png,cat\n', "line 2 cannot be read"),
    ],
)
def test_what_is_wrong_with_a_table_is_told_by_its_line(table, text: str, told: str) -> None:
    with pytest.raises(UserError) as refused:
        table(text)
    assert str(refused.value).startswith(told)


def test_a_file_of_a_table_that_is_not_there_or_is_a_link_is_named(table, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 image, 'a/9.png' \[not a regular file\], cannot be read"):
        table("path,label,split\n" + ROWS + "a/9.png,cat,\n")
    (tmp_path / "photos/a/link.png").symlink_to(tmp_path / "photos/a/0.png")
    with pytest.raises(UserError, match=r"'a/link.png' is a link"):
        table("path,label,split\n" + ROWS + "a/link.png,cat,\n")


def test_beyond_a_limit_jpegs_are_kept_opened_again_and_made_again_where_damaged(folder, load, tmp_path, ear) -> None:
    root = folder("train/cat", "train/dog", "test/cat", "test/dog")
    plain, kept = load(root, size=16), load(root, size=16, decoded_gb=0)
    assert "kept as JPEGs of quality 95, and decoded on demand (data.decoded_gb)" in ear.said
    assert isinstance(kept.train.pixels, Packed)
    assert (kept.mean, kept.std) == (plain.mean, plain.std)
    assert (kept.train.pixels[:].int() - plain.train.pixels[:].int()).abs().float().mean() < 8  # of noise
    assert torch.equal(kept.train.frame.sizes, plain.train.frame.sizes)
    (home,) = (path.parent for path in (tmp_path / "store").rglob("train.jpegs"))
    assert {one.path for one in stored(tmp_path / "store") if one.kind == "images"} >= {home}
    before, begun = kept.train.pixels[:], len(ear.begun)
    assert torch.equal(load(root, size=16, decoded_gb=0).train.pixels[:], before)
    assert [what for what, _ in ear.begun[begun:]] == ["checking decoded images"]
    assert damaged(home) == []
    data = bytearray((home / "train.jpegs").read_bytes())
    data[100] ^= 1
    (home / "train.jpegs").write_bytes(data)
    assert damaged(home) == ["train.jpegs"]
    assert torch.equal(load(root, size=16, decoded_gb=0).train.pixels[:], before)
    assert any(line.endswith("are damaged; decoding again") for line in ear.said)
    assert damaged(home) == []
