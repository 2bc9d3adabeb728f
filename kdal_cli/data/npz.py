"""A NumPy archive of images: `x_train`, `y_train`, `x_test`, `y_test`, and `classes` if you like."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from kdal_cli.errors import UserError
from kdal_cli.images.statistics import mean_std, say_twins, twins
from kdal_cli.types import ImageData, ImageSet, Watcher

Layout = Literal["auto", "nchw", "nhwc"]
NEEDED = ("x_train", "y_train", "x_test", "y_test")
WANTED = "an .npz archive holds x_train, y_train, x_test, y_test, as numpy.savez writes them"


def npz(watcher: Watcher, *, path: str | Path, layout: Layout = "auto", classes: list[str] | None = None) -> ImageData:
    """The images of an archive, read whole; Python objects in it are never unpickled.

    x_train, x_test: uint8, (N, c, H, W), (N, H, W, c) or grey (N, H, W). `layout` says which of the first two; "auto"
    looks for the one axis that can be channels (1 or 3 long) and refuses to choose where both or neither can.
    y_train, y_test: (N,) integers from 0 to C - 1. The names come from `classes`, or the archive's array of that name,
    or are the numbers. mean, std: of x_train.

    Raises UserError naming the file, the array and the first row that is wrong.
    """
    file = Path(path).expanduser().absolute()
    arrays = _read(file)
    train, test = (_pixels(arrays[name], name, layout, file) for name in ("x_train", "x_test"))
    if train.shape[1:] != test.shape[1:]:
        raise UserError(f"images of x_train are {_shape(train)}, of x_test {_shape(test)}", where=file)
    names = _names(classes, arrays, file)
    labels, answers = (
        _labels(arrays[f"y_{split}"], f"y_{split}", len(names), len(pixels), file)
        for split, pixels in (("train", train), ("test", test))
    )
    _no_class_empty(labels, names, file)
    say_twins(*twins(train, test), watcher)
    return ImageData("npz", ImageSet(train, labels), ImageSet(test, answers), names, *mean_std(train))


def _read(file: Path) -> dict[str, np.ndarray]:
    """The arrays of the archive, each read once and checked against the archive's CRC."""
    if not file.is_file():
        raise UserError("there is no such file", where=file, cure=WANTED)
    if not zipfile.is_zipfile(file):
        raise UserError("this is no .npz archive, or one cut short", where=file, cure=WANTED)
    try:
        with np.load(file, allow_pickle=False) as archive:
            missing = [name for name in NEEDED if name not in archive]
            if missing:
                found = ", ".join(map(repr, archive.files)) or "nothing"
                raise UserError(f"the archive lacks {', '.join(missing)}", where=file, cure=f"it holds {found}")
            return {name: _array(archive, name, file) for name in (*NEEDED, "classes") if name in archive}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise UserError(f"the archive cannot be read, {error}", where=file, cure=WANTED) from error


def _array(archive: np.lib.npyio.NpzFile, name: str, file: Path) -> np.ndarray:
    try:
        return archive[name]
    except (ValueError, MemoryError) as error:  # Python objects, or a header that lies
        raise UserError(f"{name} cannot be read, {error}", where=file, cure=WANTED) from error


def _pixels(x: np.ndarray, name: str, layout: Layout, file: Path) -> torch.Tensor:
    """`x` as (N, c, H, W) uint8, contiguous."""
    if x.dtype != np.uint8:
        raise UserError(f"{name} holds {x.dtype}", where=file, cure="pixels are uint8, from 0 to 255")
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise UserError(f"{name} is {x.shape}", where=file, cure="images are (N,C,H,W), (N,H,W,C) or grey (N,H,W)")
    if x.ndim == 3:
        x = x[:, None]
    elif _layout(x, name, layout, file) == "nhwc":
        x = x.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(x))


def _layout(x: np.ndarray, name: str, layout: Layout, file: Path) -> str:
    if layout != "auto":
        return layout
    first, last = x.shape[1] in (1, 3), x.shape[3] in (1, 3)
    if first == last:
        which = "both the second and the last axis" if first else "neither the second nor the last axis"
        what = f"{name} is {x.shape}, where {which} can be channels (1 or 3)"
        raise UserError(what, where=file, cure="set data.layout to nchw or nhwc")
    return "nchw" if first else "nhwc"


def _names(classes: Sequence[str] | None, arrays: Mapping[str, np.ndarray], file: Path) -> tuple[str, ...]:
    """The class names, from the first place that has them."""
    if classes is None and "classes" in arrays:
        if arrays["classes"].dtype.kind != "U" or arrays["classes"].ndim != 1:
            raise UserError("classes is not a list of names", where=file, cure="an array (C,) of strings")
        classes = arrays["classes"].tolist()
    if classes is None:
        return tuple(map(str, range(_span(arrays["y_train"]))))
    twice = sorted({repr(name) for name in classes if list(classes).count(name) > 1})
    if twice or not classes:
        raise UserError(f"class names: {', '.join(twice) or 'none'} {'come twice' if twice else 'given'}", where=file)
    return tuple(classes)


def _span(y: np.ndarray) -> int:
    """How many classes integer labels speak of; never more than there are labels, so that a wild one stands out."""
    return min(int(y.max(initial=0)) + 1, y.size) if y.dtype.kind in "iu" else 1


def _labels(y: np.ndarray, name: str, classes: int, images: int, file: Path) -> torch.Tensor:
    """`y` as (N,) int64, each a class."""
    cure = f"labels are integers from 0 to {classes - 1}, one for each of {images:,} images"
    if y.shape != (images,):
        raise UserError(f"{name} is {y.shape}", where=file, cure=cure)
    if y.dtype.kind not in "iu":
        raise UserError(f"{name} holds {y.dtype}, {y[0]!s} in row 0", where=file, cure=cure)
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if len(wrong):
        more = f" ({len(wrong):,} such rows)" if len(wrong) > 1 else ""
        raise UserError(f"{name} holds {y[wrong[0]]} in row {wrong[0]}{more}", where=file, cure=cure)
    return torch.from_numpy(y.astype(np.int64))


def _no_class_empty(labels: torch.Tensor, names: tuple[str, ...], file: Path) -> None:
    """Numbers that start at 1, or skip some, show here."""
    empty = (labels.bincount(minlength=len(names)) == 0).nonzero().flatten().tolist()
    if empty:
        what = f"{len(empty)} of {len(names)} classes have no training image, the first of them {empty[0]}"
        raise UserError(f"{what} ({names[empty[0]]!r})", where=file, cure="labels count from 0 without gaps")


def _shape(pixels: torch.Tensor) -> str:
    return " × ".join(map(str, pixels.shape[1:]))
