"""Folders of real image files, sound and hostile, and the store that they are decoded into."""

import json
import struct
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdal_cli.data import _decode, _store
from kdal_cli.data import image_folder as source
from kdal_cli.data.image_folder import image_folder
from kdal_cli.errors import MachineError, UserError

CLASSES = ("cat", "dog")


def pixels(seed: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def png(path: Path, seed: int, size: tuple[int, int] = (8, 8)) -> None:
    Image.fromarray(pixels(seed, size)).save(path)


def bomb(path: Path, width: int, height: int) -> None:
    """A sound PNG of a few KiB that unfolds to width × height grey pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """3 + 2 images of each class, 8 × 8, all different."""
    root = tmp_path / "pets"
    seed = 0
    for split, n in (("train", 3), ("test", 2)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                png(root / split / name / f"{i}.png", seed)
                seed += 1
    return root


@pytest.fixture
def load(root: Path, tmp_path: Path, ear) -> Callable:
    def load(**keywords):
        return image_folder(ear, root=str(root), store=str(tmp_path / "store"), **{"size": 8, **keywords})

    return load


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of all images decoded so far."""
    names: list[str] = []

    def decode(path, entry, size, channels):
        names.append(entry.path)
        return original(path, entry, size, channels)

    original = _decode.decode
    monkeypatch.setattr(_decode, "decode", decode)
    return names


def store_of(tmp_path: Path) -> Path:
    (home,) = [path for path in (tmp_path / "store").iterdir() if path.is_dir()]
    return home


# ---- sound folders


def test_pixels_labels_paths_and_classes(load, ear):
    data = load()
    assert data.classes == CLASSES
    assert data.train.pixels.shape == (6, 3, 8, 8)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.train.paths == tuple(f"train/{name}/{i}.png" for name in CLASSES for i in range(3))
    for seed, image in enumerate([*data.train.pixels, *data.test.pixels]):
        assert torch.equal(image, torch.from_numpy(pixels(seed)).permute(2, 0, 1)), seed
    assert ear.begun[0] == ("decoding images", 10)
    assert (ear.steps, ear.images) == (10, 10)
    assert ear.said == []
    assert data.mean == pytest.approx(np.mean([pixels(i) for i in range(6)], (0, 1, 2)) / 255)


def test_images_are_resized_as_pillow_does_with_antialias(root, load):
    png(root / "train/cat/0.png", 99, (40, 24))
    wanted = Image.fromarray(pixels(99, (40, 24))).resize((8, 8), Image.Resampling.BILINEAR)
    assert torch.equal(load().train.pixels[0], torch.from_numpy(np.array(wanted)).permute(2, 0, 1))


def test_grey_and_sizes_have_stores_of_their_own(load, decoded):
    assert load(channels=1).train.pixels.shape == (6, 1, 8, 8)
    assert load(size=4).train.pixels.shape == (6, 3, 4, 4)
    assert len(decoded) == 20
    assert load(channels=1).train.pixels.shape == (6, 1, 8, 8)
    assert len(decoded) == 20


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "bmp", "webp", "gif", "tif", "ppm"])
def test_formats_and_modes(root, load, suffix: str):
    Image.fromarray(pixels(50)).save(root / f"train/cat/9.{suffix}")
    assert len(load().train) == 7


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_mode_becomes_three_channels_of_eight_bits(root, load, mode: str):
    ramp = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    image = Image.fromarray(ramp) if mode == "I;16" else Image.fromarray((ramp >> 8).astype(np.uint8)).convert(mode)
    image.save(root / "train/cat/0.png")
    first = load().train.pixels[0]
    assert torch.equal(first[0], first[1])
    if mode in ("L", "LA", "RGBA", "I;16"):
        assert torch.equal(first[0], torch.from_numpy((ramp >> 8).astype(np.uint8)))


def test_photographs_stand_upright(root, load):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Image.fromarray(pixels(3)).save(root / "train/cat/0.png", exif=exif)
    wanted = np.rot90(pixels(3), -1).copy()
    assert torch.equal(load().train.pixels[0], torch.from_numpy(wanted).permute(2, 0, 1))


def test_hidden_things_a_val_folder_and_links_inside_the_root_are_no_trouble(root, load):
    for hidden in (".ipynb_checkpoints", "train/.ipynb_checkpoints", "train/cat/.ipynb_checkpoints", "val/cow"):
        (root / hidden).mkdir(parents=True)
        (root / hidden / "x.png").write_text("no image")
    (root / "train/.DS_Store").write_text("")
    (root / "train/cat/.hidden.png").write_text("")
    (root / "train/cat/more").mkdir()
    png(root / "train/cat/more/deep.png", 70)
    (root / "train/dog/link.png").symlink_to(root / "val/../train/cat/more/deep.png")
    data = load()
    assert data.classes == CLASSES
    assert data.train.paths[3] == "train/cat/more/deep.png"
    assert data.train.paths[-1] == "train/dog/link.png"


def test_duplicates_are_counted_and_leaks_told_loudly_each_time(root, load, ear):
    png(root / "train/dog/again.png", 0)
    png(root / "test/dog/leaked.png", 1)
    for _ in range(2):
        ear.said.clear()
        load()
        assert ear.said[0].startswith("1 training images repeat")
        assert ear.said[1].startswith("WARNING: 1 test images")


def test_pixels_can_be_written_to_without_touching_the_store(load, tmp_path):
    load().train.pixels[0] = 7
    assert load().train.pixels[0].max() > 7


# ---- the store


def test_a_second_start_opens_the_store_and_decodes_nothing(load, decoded, tmp_path):
    first = load()
    assert len(decoded) == 10
    second = load()
    assert len(decoded) == 10
    assert torch.equal(first.train.pixels, second.train.pixels)
    assert first.test.paths == second.test.paths
    assert (first.mean, first.std, first.classes) == (second.mean, second.std, second.classes)
    assert sorted(path.name for path in store_of(tmp_path).iterdir()) == ["index.json", "test.npy", "train.npy"]


def test_the_files_are_ordinary_npy(load, tmp_path):
    data = load()
    assert np.array_equal(np.load(store_of(tmp_path) / "train.npy"), data.train.pixels.numpy())


@pytest.mark.parametrize("change", ["content", "added", "removed", "renamed"])
def test_a_changed_folder_is_decoded_again(root, load, decoded, change: str):
    load()
    if change == "content":
        png(root / "train/cat/0.png", 77)
    elif change == "added":
        png(root / "train/cat/3.png", 77)
    elif change == "removed":
        (root / "train/cat/0.png").unlink()
    else:
        (root / "train/cat/0.png").rename(root / "train/cat/7.png")
    decoded.clear()
    data = load()
    assert len(decoded) == len(data.train) + len(data.test)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _edit(path: Path) -> None:
    index = json.loads(path.read_text())
    index["body"]["train"]["labels"][0] = 1
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("train.npy", _flip),
        ("test.npy", _flip),
        ("test.npy", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("train.npy", Path.unlink),
        ("index.json", Path.unlink),
        ("index.json", _edit),
        ("index.json", lambda path: path.write_text("[]")),
        ("index.json", lambda path: path.write_bytes(b"\xff\x00")),
    ],
)
def test_a_damaged_store_is_noticed_and_decoded_again(load, decoded, ear, tmp_path, name: str, harm):
    first = load()
    kept = first.train.pixels.clone()
    harm(store_of(tmp_path) / name)
    second = load()
    assert len(decoded) == 20
    assert ear.said[-1].endswith("are damaged; decoding again")
    assert torch.equal(second.train.pixels, kept)
    assert second.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    load()
    assert len(decoded) == 20


def test_what_a_killed_process_left_is_swept(load, tmp_path):
    load()
    home = store_of(tmp_path)
    draft = home.with_name(f"{home.name}.part")
    home.rename(draft)
    (draft / "train.npy").write_bytes(b"half")
    assert len(load().train) == 6
    assert store_of(tmp_path) == home


def test_files_that_change_while_they_are_decoded_are_noticed(root, load, tmp_path, monkeypatch):
    scan, calls = source.scan, []

    def moving(folder: Path):
        calls.append(folder)
        if len(calls) == 2:
            png(root / "train/cat/0.png", 123, (9, 9))
        return scan(folder)

    monkeypatch.setattr(source, "scan", moving)
    with pytest.raises(UserError, match="changed while"):
        load()
    assert not [path for path in (tmp_path / "store").iterdir() if path.is_dir()]


def test_a_stop_half_way_leaves_nothing(load, ear, tmp_path, monkeypatch):
    def stop(steps: int, images: int):
        raise KeyboardInterrupt

    monkeypatch.setattr(ear, "advance", stop)
    with pytest.raises(KeyboardInterrupt):
        load()
    assert not [path for path in (tmp_path / "store").iterdir() if path.is_dir()]
    assert Image.MAX_IMAGE_PIXELS


def test_a_disk_that_refuses_is_a_machine_error_and_leaves_nothing(load, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_store.os, "fsync", full)
    with pytest.raises(MachineError, match=r"No space left on device.*data.store"):
        load()
    assert not [path for path in (tmp_path / "store").iterdir() if path.is_dir()]


def test_a_store_that_is_a_file_is_a_machine_error(load, tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(MachineError, match="cannot be kept"):
        load()


def test_two_at_once_decode_once_and_the_second_waits(root, tmp_path, ear, decoded):
    """The lock belongs to an open file, so two threads meet at it as two processes do."""
    ears = [type(ear)() for _ in range(2)]
    for each in ears:
        each.advance = lambda steps, images: time.sleep(0.05)

    def start(each):
        return image_folder(each, root=str(root), size=8, store=str(tmp_path / "store"))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(start, ears)
    assert torch.equal(first.train.pixels, second.train.pixels)
    assert len(decoded) == 10
    assert sum(any("waiting for it" in text for text in each.said) for each in ears) == 1


# ---- broken images


@pytest.fixture
def hostile(root: Path) -> dict[str, str]:
    """{path: what is said of it}, for every kind of file that is no image."""
    Image.fromarray(pixels(60, (64, 64))).save(root / "train/cat/broken.jpg")
    whole = (root / "train/cat/broken.jpg").read_bytes()
    (root / "train/cat/broken.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train/cat/zero.png").write_bytes(b"")
    (root / "train/dog/text.png").write_text("I am not an image")
    (root / "train/dog/notes.txt").write_text("nor am I")
    bomb(root / "test/cat/bomb.png", 9000, 9000)
    (root / "test/cat/nowhere.png").symlink_to(root / "test/cat/gone.png")
    (root / "test/dog/float.tif").parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.float32)).save(root / "test/dog/float.tif")
    (root / "test/dog/script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    return {
        "train/cat/broken.jpg": "broken: image file is truncated",
        "train/cat/zero.png": "empty file",
        "train/dog/text.png": "not an image",
        "train/dog/notes.txt": "not an image",
        "test/cat/bomb.png": "9000 × 9000 pixels, more than 64 million",
        "test/cat/nowhere.png": "not a regular file",
        "test/dog/float.tif": "floating-point pixels",
        "test/dog/script.png": "not an image",
    }


def test_every_broken_image_is_named_at_once_and_nothing_is_kept(load, hostile, tmp_path):
    with pytest.raises(UserError, match=r"^8 images, .* cannot be read .*: .*on_broken=skip") as error:
        load()
    for path, reason in hostile.items():
        assert f"'{path}' [{reason}" in str(error.value)
    assert not [path for path in (tmp_path / "store").iterdir() if path.is_dir()]


def test_or_they_are_left_out_named_and_recorded(load, hostile, ear, tmp_path):
    data = load(on_broken="skip")
    assert data.train.pixels.shape == (6, 3, 8, 8)
    assert data.test.pixels.shape == (4, 3, 8, 8)
    for seed, image in enumerate([*data.train.pixels, *data.test.pixels]):
        assert torch.equal(image, torch.from_numpy(pixels(seed)).permute(2, 0, 1)), seed
    index = json.loads((store_of(tmp_path) / "index.json").read_text())["body"]
    recorded = index["train"]["broken"] | index["test"]["broken"]
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


# ---- folders that are not as they should be


def _no_root(root: Path) -> None:
    root.rename(root.with_name("other"))


def _no_test(root: Path) -> None:
    (root / "test").rename(root / "val")


def _missing_class(root: Path) -> None:
    (root / "test/dog").rename(root / "outside")


def _extra_class(root: Path) -> None:
    (root / "test/cow").mkdir()


def _empty_class(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "ant").mkdir()
        (root / split / "ant/.hidden.png").write_text("")


def _loose_file(root: Path) -> None:
    png(root / "train/stray.png", 1)


def _one_class(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "dog").rename(root / f"outside-{split}")


def _file_link_out(root: Path) -> None:
    png(root.parent / "secret.png", 1)
    (root / "train/cat/link.png").symlink_to(root.parent / "secret.png")


def _class_link_out(root: Path) -> None:
    (root.parent / "elsewhere").mkdir()
    (root / "train/cow").symlink_to(root.parent / "elsewhere")


def _split_link_out(root: Path) -> None:
    (root / "test").rename(root.parent / "test")
    (root / "test").symlink_to(root.parent / "test")


def _folder_link(root: Path) -> None:
    (root / "train/cat/loop").symlink_to(root / "train")


def _bad_name(root: Path) -> None:
    (root / "train/cat/\udcff.png").write_text("")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_no_root, r"there is no such folder .*pets.*: images belong in train/<class>/"),
        (_no_test, r"there is no folder test/ .*found: 'train', 'val'"),
        (_missing_class, r"hold other classes: 'dog' only in train/"),
        (_extra_class, r"hold other classes: 'cow' only in test/"),
        (_empty_class, r"train/ has classes without an image: 'ant'"),
        (_loose_file, r"train/ holds files of no class: 'stray.png'"),
        (_one_class, r"there are 1 class folders"),
        (_file_link_out, r"'train/cat/link.png' is a link out of the folder, to '.*secret.png'"),
        (_class_link_out, r"'train/cow' is a link out of the folder"),
        (_split_link_out, r"'test' is a link out of the folder"),
        (_folder_link, r"'train/cat/loop' is a link to a folder"),
        (_bad_name, r"'train/cat/\\udcff.png' is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(root, load, decoded, harm, message: str):
    harm(root)
    with pytest.raises(UserError, match=message):
        load()
    assert decoded == []
