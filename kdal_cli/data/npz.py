"""A NumPy archive of images: `x_train`, `y_train`, `x_test`, `y_test`, as in Keras, or MedMNIST's names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kdal_cli.data._archive import Archive
from kdal_cli.data._labels import column, labels, refuse_odd, span
from kdal_cli.dataset import ImageData, ImageSet, Labels
from kdal_cli.errors import UserError
from kdal_cli.images.statistics import mean_std, refuse_alike, say_twins, twins
from kdal_cli.types import Watcher
from kdal_cli.values import Count

Layout = Literal["auto", "nchw", "nhwc"]
WANTED = "an .npz archive holds x_train, y_train, x_test, y_test, or train_images, train_labels, …, as numpy.savez does"
MAX_BYTES = 8 << 30


@dataclass(frozen=True)
class Form:
    """What an archive calls its arrays: {split: (images, labels)}. columns: labels may be (N, 1)."""

    names: Mapping[str, tuple[str, str]]
    columns: bool = False

    def all(self, splits: Sequence[str]) -> list[str]:
        return [name for split in splits for name in self.names[split]]


def _keras(validation: str) -> Form:
    splits = {"train": "train", "validation": validation, "test": "test"}
    return Form({split: (f"x_{name}", f"y_{name}") for split, name in splits.items()})


def _medmnist() -> Form:
    splits = {"train": "train", "validation": "val", "test": "test"}
    return Form({split: (f"{name}_images", f"{name}_labels") for split, name in splits.items()}, columns=True)


FORMS = (_keras("val"), _keras("valid"), _keras("validation"), _medmnist())


def npz(
    watcher: Watcher,
    *,
    path: str | Path,
    layout: Layout = "auto",
    classes: list[str] | None = None,
    max_bytes: Count = MAX_BYTES,
) -> ImageData:
    """The images of an archive, read whole; Python objects in it are never unpickled.

    x_train, x_test: uint8, (N, c, H, W), (N, H, W, c) or grey (N, H, W). `layout` says which of the first two; "auto"
    looks for the one axis that can be channels (1 or 3 long) and refuses to choose where both or neither can.
    y_train, y_test: (N,) integers from 0 to C - 1. The names come from `classes`, or the archive's array of that name,
    or are the numbers. x_val, y_val are the validation set, where they are there. MedMNIST's train_images,
    train_labels, … are read as well, with labels (N, 1). mean, std: of the training images.

    Raises UserError naming the file, the array and the first row that is wrong; arrays of more than `max_bytes`
    together, and those that inflate beyond measure, are refused before they are read.
    """
    file = Path(path).expanduser().absolute()
    archive = Archive(file, WANTED, max_bytes)
    form, splits = _form(archive)
    named = ["classes"] if "classes" in archive.names else []
    arrays = archive.read([*form.all(splits), *named])
    pixels = {split: _pixels(arrays[form.names[split][0]], form.names[split][0], layout, file) for split in splits}
    _same_shapes(pixels, form, file)
    known, answers = _answers(arrays, form, {split: len(images) for split, images in pixels.items()}, classes, file)
    train, held = pixels["train"], pixels.get("validation", pixels["train"][:0])
    same = twins(train, pixels["test"], held)
    refuse_alike(train[0], len(train), same, file, "look at some of them: there is nothing in them to learn from")
    learnt = ImageSet(train, Labels.complete(answers["train"]))
    if len(held):
        what = f"the {len(held):,} images of {form.names['validation'][0]} are the validation set"
        watcher.say(f"{what}; data.split.validation is not used")
        both = Labels.complete(torch.cat([answers["train"], answers["validation"]]))
        learnt = ImageSet(torch.cat([train, held]), both)
    say_twins(same, watcher)
    apart = torch.arange(len(train), len(learnt))
    test = ImageSet(pixels["test"], Labels.complete(answers["test"]))
    return ImageData("npz", learnt, test, known, *mean_std(train), apart)


def _form(archive: Archive) -> tuple[Form, list[str]]:
    """The names that an archive uses, and the splits that it has."""
    there = set(archive.names)
    forms = [form for form in FORMS if there.intersection(form.names["train"])] or [FORMS[0]]
    form = max(forms, key=lambda form: len(there.intersection(form.names["validation"])))  # the first of equals
    splits = [split for split in form.names if split != "validation" or there.intersection(form.names[split])]
    missing = [name for name in form.all(splits) if name not in there]
    if missing:
        found = ", ".join(map(repr, archive.names)) or "nothing"
        what = f"the archive lacks {', '.join(missing)}"
        raise UserError(what, where=archive.path, cure=f"it holds {found}; {WANTED}")
    return form, splits


def _same_shapes(pixels: Mapping[str, Tensor], form: Form, file: Path) -> None:
    train = pixels["train"]
    for split, images in pixels.items():
        if images.shape[1:] != train.shape[1:]:
            first, other = form.names["train"][0], form.names[split][0]
            raise UserError(f"images of {first} are {_shape(train)}, of {other} {_shape(images)}", where=file)


def _answers(
    arrays: Mapping[str, np.ndarray], form: Form, images: Mapping[str, int], given: Sequence[str] | None, file: Path
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """(class names, {split: labels (N,) int64}). images: of each split, how many there are."""
    raw = {}
    for split, count in images.items():
        name = form.names[split][1]
        raw[split] = column(arrays[name]) if form.columns else arrays[name]
        refuse_odd(raw[split], name, count, file)
    known = _names(given, arrays, raw["train"], file)
    answers = {split: labels(y, form.names[split][1], len(known), file) for split, y in raw.items()}
    _no_class_empty(answers["train"], known, file)
    return known, answers


def _pixels(x: np.ndarray, name: str, layout: Layout, file: Path) -> Tensor:
    """`x` as (N, c, H, W) uint8, contiguous."""
    if x.dtype != np.uint8:
        remedy = {
            "f": ": (255 * x).round().astype('uint8'), if these are from 0 to 1",
            "b": ": 255 * x.astype('uint8')",
        }
        cure = f"pixels are uint8, from 0 to 255{remedy.get(x.dtype.kind, '')}"
        raise UserError(f"{name} holds {x.dtype}", where=file, cure=cure)
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


def _names(given: Sequence[str] | None, arrays: Mapping[str, np.ndarray], y: np.ndarray, file: Path) -> tuple[str, ...]:
    """The class names, from the first place that has them. y: (N,) labels of the training images."""
    if given is None and "classes" in arrays:
        if arrays["classes"].dtype.kind != "U" or arrays["classes"].ndim != 1:
            raise UserError("classes is not a list of names", where=file, cure="an array (C,) of strings")
        given = arrays["classes"].tolist()
    if given is None:
        return tuple(map(str, range(span(y))))
    twice = sorted({repr(name) for name in given if list(given).count(name) > 1})
    if twice or not given:
        raise UserError(f"class names: {', '.join(twice) or 'none'} {'come twice' if twice else 'given'}", where=file)
    return tuple(given)


def _no_class_empty(answers: Tensor, names: tuple[str, ...], file: Path) -> None:
    """Numbers that start at 1, or skip some, show here."""
    empty = (answers.bincount(minlength=len(names)) == 0).nonzero().flatten().tolist()
    if empty:
        what = f"{len(empty)} of {len(names)} classes have no training image, the first of them {empty[0]}"
        raise UserError(f"{what} ({names[empty[0]]!r})", where=file, cure="labels count from 0 without gaps")


def _shape(pixels: Tensor) -> str:
    return " × ".join(map(str, pixels.shape[1:]))
