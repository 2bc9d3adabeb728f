"""Archives as people write them, and every way in which they are wrong."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdal_cli.data.npz import npz
from kdal_cli.errors import UserError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 3, 4, 5), dtype=np.uint8)
"""(N, C, H, W), every image and every axis different."""


def arrays(**changed: Any) -> dict[str, np.ndarray]:
    """A sound archive, but for what is changed; None takes an array away."""
    sound = {
        "x_train": COLOUR,
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": 255 - COLOUR[:3],
        "y_test": np.array([2, 1, 0], dtype=np.uint8),
    }
    return {name: array for name, array in (sound | changed).items() if array is not None}


@pytest.fixture
def saved(tmp_path: Path):
    def save(**changed: Any) -> str:
        np.savez(tmp_path / "a.npz", **arrays(**changed))
        return str(tmp_path / "a.npz")

    return save


def test_channels_first_channels_last_and_grey_hold_the_same_pixels(ear, saved):
    first = npz(ear, path=saved())
    last = npz(ear, path=saved(x_train=COLOUR.transpose(0, 2, 3, 1), x_test=(255 - COLOUR[:3]).transpose(0, 2, 3, 1)))
    grey = npz(ear, path=saved(x_train=COLOUR[:, 0], x_test=255 - COLOUR[:3, 0]))
    assert torch.equal(first.train.pixels, torch.from_numpy(COLOUR))
    assert torch.equal(last.train.pixels, first.train.pixels)
    assert last.train.pixels.is_contiguous()
    assert torch.equal(grey.train.pixels, first.train.pixels[:, :1])
    assert first.train.labels.all().tolist() == [0, 1, 2, 0, 1, 2]
    assert first.test.labels.all().dtype == torch.int64
    assert first.classes == ("0", "1", "2")
    assert first.mean == pytest.approx(COLOUR.mean((0, 2, 3)) / 255)


def test_auto_refuses_to_choose_and_a_layout_decides(ear, saved):
    both = RNG.integers(0, 256, (6, 3, 4, 3), dtype=np.uint8)
    neither = RNG.integers(0, 256, (6, 2, 4, 5), dtype=np.uint8)
    path = saved(x_train=both, x_test=255 - both[:3])
    with pytest.raises(UserError, match=r"x_train is \(6, 3, 4, 3\), where both .* data.layout"):
        npz(ear, path=path)
    assert npz(ear, path=path, layout="nchw").train.pixels.shape == (6, 3, 4, 3)
    assert npz(ear, path=path, layout="nhwc").train.pixels.shape == (6, 3, 3, 4)
    with pytest.raises(UserError, match="neither"):
        npz(ear, path=saved(x_train=neither, x_test=neither[:3]))


def test_names_come_from_the_keyword_then_the_archive(ear, saved):
    path = saved(classes=np.array(["cat", "dog", "owl"]))
    assert npz(ear, path=path).classes == ("cat", "dog", "owl")
    assert npz(ear, path=path, classes=["a", "b", "c"]).classes == ("a", "b", "c")


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_images_are_rows_of_the_training_images_that_are_in_no_pool(ear, saved, name: str):
    held = COLOUR[:2] // 2
    data = npz(ear, path=saved(**{f"x_{name}": held, f"y_{name}": np.array([2, 0])}))
    assert data.validation.tolist() == [6, 7]
    assert torch.equal(data.train.pixels[6:], torch.from_numpy(held))
    assert data.train.labels.all().tolist() == [0, 1, 2, 0, 1, 2, 2, 0]
    assert data.mean == pytest.approx(COLOUR.mean((0, 2, 3)) / 255)
    assert ear.said == [f"the 2 images of x_{name} are the validation set; data.split.validation is not used"]


def test_the_names_and_columns_of_medmnist_are_read(ear, tmp_path: Path):
    splits = {"train": COLOUR, "val": COLOUR[:2] // 2, "test": 255 - COLOUR[:3]}
    images = {f"{name}_images": x.transpose(0, 2, 3, 1) for name, x in splits.items()}
    answers = {f"{name}_labels": np.arange(len(x), dtype=np.uint8)[:, None] % 3 for name, x in splits.items()}
    np.savez_compressed(tmp_path / "a.npz", **images, **answers)
    data = npz(ear, path=str(tmp_path / "a.npz"))
    assert torch.equal(data.train.pixels[:6], torch.from_numpy(COLOUR))
    assert data.train.labels.all().tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert data.validation.tolist() == [6, 7]
    assert data.test.labels.all().tolist() == [0, 1, 2]


def inflating(path: Path, shape: tuple[int, ...], size: int) -> None:
    """An archive whose x_train has a header for `shape` and then `size` zeros, compressed."""
    np.savez_compressed(path, **arrays(x_train=None))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("x_train.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for _ in range(size // 2**20):
            file.write(bytes(2**20))


@pytest.mark.parametrize(
    ("shape", "keywords", "message"),
    [
        ((100 * 2**14, 1, 8, 8), {}, r"x_train would inflate from 1\d\d,\d{3} to 104,857,\d{3} bytes .*numpy.savez"),
        ((10**9, 3, 224, 224), {}, r"x_train is .*, 150,528,000,000,\d{3} bytes, but the archive says 104,857,\d{3}"),
        ((100 * 2**14, 1, 8, 8), {"max_bytes": 10**6}, r"x_train would inflate"),
    ],
)
def test_a_bomb_is_refused_by_its_headers(ear, tmp_path: Path, monkeypatch, shape, keywords, message: str):
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("an array was read"))
    inflating(tmp_path / "a.npz", shape, 100 * 2**20)
    with pytest.raises(UserError, match=message):
        npz(ear, path=str(tmp_path / "a.npz"), **keywords)


def test_more_than_max_bytes_is_refused_before_it_is_read(ear, saved):
    with pytest.raises(UserError, match=r"its arrays come to .* GB, more than data.max_bytes=100"):
        npz(ear, path=saved(), max_bytes=100)


def test_duplicates_are_told(ear, saved):
    npz(ear, path=saved(x_train=COLOUR[[0, 1, 2, 3, 4, 4]], x_test=COLOUR[:3]))
    assert [text.split()[0] for text in ear.said] == ["1", "WARNING:"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None, "x_test": None}, r"lacks x_test, y_test .*: it holds 'x_train', 'y_train'"),
        ({"x_train": COLOUR / 255}, r"x_train holds float64 .*\(255 \* x\).round\(\).astype\('uint8'\)"),
        ({"x_test": COLOUR.astype(np.int64)}, r"x_test holds int64"),
        ({"x_train": COLOUR[:0]}, r"x_train is \(0, 3, 4, 5\)"),
        ({"x_train": COLOUR.reshape(6, -1)}, r"x_train is \(6, 60\)"),
        ({"x_test": COLOUR[:3, :1]}, r"images of x_train are 3 × 4 × 5, of x_test 1 × 4 × 5"),
        ({"y_train": np.array([0, 1, 2, 0, 1, 2.5])}, r"y_train holds float64, 0.0 in row 0 .*: these are no classes"),
        ({"y_train": np.array([0.0, 1, 2, 0, 1, 2])}, r"y_train holds float64, 0.0 in row 0 .*: y.astype\(int\)"),
        ({"y_train": np.array([True] * 6)}, r"y_train holds bool, True in row 0 .*: y.astype\(int\)"),
        ({"y_train": np.array(list("abcabc"))}, r"y_train holds text, 'a' in row 0 .*return_inverse=True"),
        ({"y_train": np.eye(6)}, r"y_train is \(6, 6\) .*: y.argmax\(1\)$"),
        ({"y_train": np.eye(6, dtype=np.int64)}, r"y_train is \(6, 6\) .*: y.argmax\(1\)$"),
        ({"y_train": np.full((6, 3), 0.3)}, r"y_train is \(6, 3\) .*: y.argmax\(1\), if these are scores"),
        ({"y_train": np.ones((6, 3), np.uint8)}, r"several labels for one image"),
        ({"y_train": np.array([0, 1, 2, -1, 1, -7])}, r"y_train holds -1 in row 3 \(2 such rows\)"),
        ({"y_test": np.array([0, 3, 1])}, r"y_test holds 3 in row 1 .* integers from 0 to 2"),
        ({"y_train": np.array([0, 1, 2, 0, 10**15, 2])}, r"y_train holds 1000000000000000 in row 4"),
        ({"y_train": np.array([0, 1, 2])}, r"y_train is \(3,\).*one for each of 6 images"),
        ({"y_train": np.array([[0], [1], [2], [0], [1], [2]])}, r"y_train is \(6, 1\) .*: y.squeeze\(1\)$"),
        ({"y_train": np.array([1, 2, 3, 1, 2, 3])}, r"1 of 4 classes have no training image, the first of them 0"),
        ({"classes": np.array(["a", "a", "b"])}, r"class names: 'a' come twice"),
        ({"classes": np.array([], dtype="U1")}, r"class names: none given"),
        ({"classes": np.array([1, 2, 3])}, r"classes is not a list of names"),
        ({"classes": np.array(["a", "b"])}, r"y_train holds 2 in row 2 .* from 0 to 1"),
        ({"y_train": np.array([0, 1, 2, 0, 1, "x"], dtype=object)}, r"y_train cannot be read, it holds Python objects"),
        ({"x_val": COLOUR[:2]}, r"lacks y_val"),
        ({"x_val": COLOUR[:2, :1], "y_val": np.array([0, 1])}, r"of x_train are 3 × 4 × 5, of x_val 1 × 4 × 5"),
        ({"x_train": np.zeros_like(COLOUR)}, r"the 6 training images are all the same: every pixel is 0"),
    ],
)
def test_what_is_wrong_is_named(ear, saved, changed: dict[str, Any], message: str):
    path = saved(**changed)
    with pytest.raises(UserError, match=message) as error:
        npz(ear, path=path)
    assert path in str(error.value)


def test_files_that_are_no_archives_are_refused(ear, saved, tmp_path: Path):
    whole = Path(saved()).read_bytes()
    np.save(tmp_path / "single.npy", COLOUR)
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(whole[:-100])
    flipped = bytearray(whole)
    flipped[whole.index(COLOUR.tobytes())] ^= 1
    (tmp_path / "flipped.npz").write_bytes(flipped)
    for name, message in {
        "absent.npz": "no such file",
        "single.npy": "not an .npz archive",
        "text.npz": "not an .npz archive",
        "empty.npz": "not an .npz archive",
        "cut.npz": "or a truncated one",
        "flipped.npz": "Bad CRC-32",
    }.items():
        with pytest.raises(UserError, match=message):
            npz(ear, path=str(tmp_path / name))


def test_a_large_array_is_mapped_and_as_sound_as_one_that_is_read(ear, saved, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("kdal_cli.data._archive.LARGE", 1)
    path = Path(saved(x_test=np.asfortranarray(255 - COLOUR[:3])))
    found = npz(ear, path=path)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert torch.equal(found.train.pixels, torch.from_numpy(COLOUR))
    assert torch.equal(found.test.pixels, torch.from_numpy(255 - COLOUR[:3]))
    found.train.pixels[0] = 0
    flipped = bytearray(path.read_bytes())
    place = flipped.index(COLOUR.tobytes())  # what is written into the pixels does not reach the file
    flipped[place] ^= 1
    (tmp_path / "flipped.npz").write_bytes(flipped)
    with pytest.raises(UserError, match="Bad CRC-32"):
        npz(ear, path=tmp_path / "flipped.npz")


def test_a_pickle_in_an_archive_is_never_run(ear, tmp_path: Path):
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    np.savez(tmp_path / "a.npz", **arrays(y_train=np.array([Trap()] * 6, dtype=object)))
    with pytest.raises(UserError, match="y_train cannot be read"):
        npz(ear, path=str(tmp_path / "a.npz"))
    assert not (tmp_path / "sprung").exists()
