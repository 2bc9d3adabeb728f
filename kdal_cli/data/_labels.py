"""Labels as people save them: whole numbers are taken, of anything else it is said how to make them that."""

from pathlib import Path

import numpy as np
import torch

from kdal_cli.errors import UserError


def column(y: np.ndarray) -> np.ndarray:
    """(N, 1) -> (N,), as in MedMNIST's archives; anything else as it is."""
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def span(y: np.ndarray) -> int:
    """How many classes labels (N,) speak of; never more than there are labels, so that a wild one stands out."""
    return min(int(y.max(initial=0)) + 1, y.size)


def refuse_odd(y: np.ndarray, name: str, images: int, file: Path) -> None:
    """Raise UserError, with what to do, unless `y` is (N,) integers, one for each image."""
    cure = f"labels are whole numbers from 0, one for each of {images:,} images"
    remedy = _remedy(y, images)
    what = f"{name} is {y.shape}" if y.shape != (images,) else f"{name} holds {_kind(y)}"
    if remedy or y.shape != (images,):
        raise UserError(what, where=file, cure=f"{cure}{': ' if remedy else ''}{remedy}")


def labels(y: np.ndarray, name: str, classes: int, file: Path) -> torch.Tensor:
    """`y`, (N,) integers, as int64, each a class. Raises UserError naming the first row that is none."""
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if len(wrong):
        more = f" ({len(wrong):,} such rows)" if len(wrong) > 1 else ""
        cure = f"labels are integers from 0 to {classes - 1}"
        raise UserError(f"{name} holds {y[wrong[0]]} in row {wrong[0]}{more}", where=file, cure=cure)
    return torch.from_numpy(y.astype(np.int64))


def _remedy(y: np.ndarray, images: int) -> str:
    """What makes labels of these; empty where they are in order, or nothing is known to."""
    if y.shape == (images, 1):
        return "y.squeeze(1)"
    if y.ndim == 2 and y.shape[0] == images and y.dtype.kind in "iufb":
        hot = ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all()
        if hot or y.dtype.kind == "f":
            return "y.argmax(1)" + ("" if hot else ", if these are scores of classes")
        return "several labels for one image cannot be learnt"
    if y.dtype.kind in "US":
        return "classes, y = numpy.unique(y, return_inverse=True), and save classes as well"
    if y.dtype.kind in "fb":
        whole = y.dtype.kind == "b" or (y == np.round(y)).all()
        return "y.astype(int)" if whole else "these are no classes"
    return "" if y.dtype.kind in "iu" else "numbers of another kind"


def _kind(y: np.ndarray) -> str:
    return f"text, {str(y.flat[0])!r} in row 0" if y.dtype.kind in "US" else f"{y.dtype}, {y.flat[0]} in row 0"
