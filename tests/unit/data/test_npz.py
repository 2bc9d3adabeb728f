"""Archives as people write them, and every way in which they are wrong."""

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
    assert first.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert first.test.labels.dtype == torch.int64
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


def test_duplicates_are_told(ear, saved):
    npz(ear, path=saved(x_train=COLOUR[[0, 1, 2, 3, 4, 4]], x_test=COLOUR[:3]))
    assert [text.split()[0] for text in ear.said] == ["1", "WARNING:"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None, "x_test": None}, r"lacks x_test, y_test .*: it holds 'x_train', 'y_train'"),
        ({"x_train": COLOUR / 255}, r"x_train holds float64"),
        ({"x_test": COLOUR.astype(np.int64)}, r"x_test holds int64"),
        ({"x_train": COLOUR[:0]}, r"x_train is \(0, 3, 4, 5\)"),
        ({"x_train": COLOUR.reshape(6, -1)}, r"x_train is \(6, 60\)"),
        ({"x_test": COLOUR[:3, :1]}, r"images of x_train are 3 × 4 × 5, of x_test 1 × 4 × 5"),
        ({"y_train": np.array([0, 1, 2, 0, 1, 2.5])}, r"y_train holds float64, 0.0 in row 0"),
        ({"y_train": np.array([True] * 6)}, r"y_train holds bool"),
        ({"y_train": np.array([0, 1, 2, -1, 1, -7])}, r"y_train holds -1 in row 3 \(2 such rows\)"),
        ({"y_test": np.array([0, 3, 1])}, r"y_test holds 3 in row 1 .* integers from 0 to 2"),
        ({"y_train": np.array([0, 1, 2, 0, 10**15, 2])}, r"y_train holds 1000000000000000 in row 4"),
        ({"y_train": np.array([0, 1, 2])}, r"y_train is \(3,\).*one for each of 6 images"),
        ({"y_train": np.array([[0], [1], [2], [0], [1], [2]])}, r"y_train is \(6, 1\)"),
        ({"y_train": np.array([1, 2, 3, 1, 2, 3])}, r"1 of 4 classes have no training image, the first of them 0"),
        ({"classes": np.array(["a", "a", "b"])}, r"class names: 'a' come twice"),
        ({"classes": np.array([], dtype="U1")}, r"class names: none given"),
        ({"classes": np.array([1, 2, 3])}, r"classes is not a list of names"),
        ({"classes": np.array(["a", "b"])}, r"y_train holds 2 in row 2 .* from 0 to 1"),
        ({"y_train": np.array([0, 1, 2, 0, 1, "x"], dtype=object)}, r"y_train cannot be read, Object arrays"),
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
        "single.npy": "no .npz archive",
        "text.npz": "no .npz archive",
        "empty.npz": "no .npz archive",
        "cut.npz": "or one cut short",
        "flipped.npz": "Bad CRC-32",
    }.items():
        with pytest.raises(UserError, match=message):
            npz(ear, path=str(tmp_path / name))


def test_a_pickle_in_an_archive_is_never_run(ear, tmp_path: Path):
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    np.savez(tmp_path / "a.npz", **arrays(y_train=np.array([Trap()] * 6, dtype=object)))
    with pytest.raises(UserError, match="y_train cannot be read"):
        npz(ear, path=str(tmp_path / "a.npz"))
    assert not (tmp_path / "sprung").exists()
