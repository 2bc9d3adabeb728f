"""Files that are no images, and folders that are not as they should be: all named, before anything is kept."""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdal_cli.errors import UserError


def bomb(path: Path, width: int, height: int) -> None:
    """A sound PNG of a few KiB that unfolds to width × height grey pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.fixture
def hostile(root: Path, pixels) -> dict[str, str]:
    """{path: what is said of it}, for every kind of file that is no image."""
    Image.fromarray(pixels(60, (64, 64))).save(root / "train/cat/broken.jpg")
    whole = (root / "train/cat/broken.jpg").read_bytes()
    (root / "train/cat/broken.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train/cat/zero.png").write_bytes(b"")
    (root / "train/dog/text.png").write_text("I am not an image")
    (root / "train/dog/notes.txt").write_text("nor am I")
    bomb(root / "test/cat/bomb.png", 9000, 9000)
    os.mkfifo(root / "test/cat/pipe.png")
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(root / "test/dog/float.tif")
    (root / "test/dog/script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    return {
        "train/cat/broken.jpg": "broken: image file is truncated",
        "train/cat/zero.png": "empty file",
        "train/dog/text.png": "not an image",
        "train/dog/notes.txt": "not an image",
        "test/cat/bomb.png": "9,000 × 9,000 pixels, more than data.max_pixels=64000000",
        "test/cat/pipe.png": "not a regular file",
        "test/dog/float.tif": "pixels that are not finite numbers",
        "test/dog/script.png": "not an image",
    }


def test_every_broken_image_is_named_at_once_and_nothing_is_kept(load, hostile, stores):
    with pytest.raises(UserError, match=r"^8 images, .* cannot be read .*: .*on_broken=skip") as error:
        load()
    for path, reason in hostile.items():
        assert f"'{path}' [{reason}" in str(error.value)
    assert stores() == []


def test_or_they_are_left_out_named_and_recorded(load, hostile, ear, stores, pixels):
    data = load(on_broken="skip")
    assert data.train.pixels.shape == (6, 3, 8, 8)
    assert data.test.pixels.shape == (4, 3, 8, 8)
    for seed, image in enumerate([*data.train.pixels, *data.test.pixels]):
        assert torch.equal(image, torch.from_numpy(pixels(seed)).permute(2, 0, 1)), seed
    index = json.loads((stores()[0] / "index.json").read_text())["body"]
    recorded = index["train"]["found"]["broken"] | index["test"]["found"]["broken"]
    assert recorded.keys() == hostile.keys()
    for path, reason in hostile.items():
        assert recorded[path].startswith(reason)
        assert path in ear.said[-1]


def test_a_store_made_with_skip_still_refuses_when_asked_to(load, hostile, ear):
    load(on_broken="skip")
    with pytest.raises(UserError, match="8 images"):
        load()
    ear.said.clear()
    load(on_broken="skip")
    assert ear.said[-1].startswith("8 images, ")


def test_the_first_ten_are_named_and_the_rest_counted(root, load):
    for i in range(13):
        (root / f"train/cat/x{i:02}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"^13 images, .*x09.png.* and 3 more") as error:
        load()
    assert "x10.png" not in str(error.value)


def test_a_class_that_loses_all_its_images_is_refused(root, load):
    for path in (root / "test/dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="test/ has no image that can be read of 'dog'"):
        load(on_broken="skip")


def test_pillows_own_guards_are_as_they_were(load, hostile):
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UserError):
        load()
    assert before == Image.MAX_IMAGE_PIXELS


def _no_root(root: Path) -> None:
    root.rename(root.with_name("other"))


def _no_train(root: Path) -> None:
    (root / "train").rename(root / "training")


def _two_validations(root: Path) -> None:
    for name in ("val", "validation"):
        (root / name).mkdir()


def _missing_class(root: Path) -> None:
    (root / "test/dog").rename(root / "outside")


def _extra_class(root: Path) -> None:
    (root / "test/cow").mkdir()


def _empty_class(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "ant").mkdir()
        (root / split / "ant/.hidden.png").write_text("")


def _loose_file(root: Path) -> None:
    (root / "train/stray.png").write_text("")


def _one_class(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "dog").rename(root / f"outside-{split}")


def _cases(root: Path) -> None:
    (root / "test/cat").rename(root / "test/Cat")


def _other_validation_classes(root: Path) -> None:
    (root / "val/cat").mkdir(parents=True)


def _file_link(root: Path) -> None:
    (root / "train/cat/link.png").symlink_to(root / "train/cat/0.png")


def _file_link_out(root: Path) -> None:
    (root.parent / "secret.png").write_text("")
    (root / "train/cat/link.png").symlink_to(root.parent / "secret.png")


def _class_link_out(root: Path) -> None:
    (root.parent / "elsewhere").mkdir()
    (root / "train/cow").symlink_to(root.parent / "elsewhere")


def _split_link_out(root: Path) -> None:
    (root / "test").rename(root.parent / "test")
    (root / "test").symlink_to(root.parent / "test")


def _bad_name(root: Path) -> None:
    (root / "train/cat/\udcff.png").write_text("")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_no_root, r"there is no such folder .*pets.*: images belong in train/<class>/"),
        (_no_train, r"there is no folder train/ .*found: 'test', 'training'"),
        (_two_validations, r"there are val/ and validation/"),
        (_missing_class, r"hold other classes: 'dog' only in train/"),
        (_extra_class, r"hold other classes: 'cow' only in test/"),
        (_cases, r"'cat' only in train/; 'Cat' only in test/ .*'Cat' and 'cat' differ in case or spacing alone"),
        (_other_validation_classes, r"train/ and val/ hold other classes: 'dog' only in train/"),
        (_empty_class, r"train/ has classes without an image: 'ant'"),
        (_loose_file, r"train/ holds files of no class: 'stray.png'"),
        (_one_class, r"there are 1 class folders"),
        (_file_link, r"'train/cat/link.png' is a link, to '.*/cat/0.png' .*set data.links=follow$"),
        (_file_link_out, r"'train/cat/link.png' is a link, to '.*secret.png' .*data.links=follow data.roots=\["),
        (_class_link_out, r"'train/cow' is a link, to"),
        (_split_link_out, r"'test' is a link, to"),
        (_bad_name, r"'train/cat/\\udcff.png' is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(root, load, decoded, harm, message: str):
    harm(root)
    with pytest.raises(UserError, match=message):
        load()
    assert decoded == []
