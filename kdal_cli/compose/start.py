"""What a network starts from, and what it does to pixels: keys of `student` and `teacher.model` beside an architecture.

weights, mean, std, resize: see conf/student/_base.yaml
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from kdal_cli.compose.bind import make
from kdal_cli.dataset import Preprocessing, Shape
from kdal_cli.errors import UserError
from kdal_cli.lab.blueprint import Start, model_of
from kdal_cli.network import classifier
from kdal_cli.records import checkpoint, timm_folder
from kdal_cli.records.checkpoint import Checkpoint
from kdal_cli.records.shapes import PRUNED
from kdal_cli.records.transfer import Transfer, digest, refuse_other_body, transfer
from kdal_cli.values import Count, Positive

Section = Mapping[str, Any]


def stay_offline() -> None:
    """Have nothing fetched from a hub: its library looks at this when it is first imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


@dataclass(frozen=True)
class Wanted:
    """What a section says besides its architecture. weights: `none`, `imagenet`, or a file or folder."""

    weights: Literal["none", "imagenet"] | Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Positive, ...] | None = None
    resize: Count | None = None

    @property
    def file(self) -> Path | None:
        return self.weights if isinstance(self.weights, Path) else None

    @property
    def published(self) -> bool:
        return self.weights == "imagenet"

    def inner(self, shape: Shape) -> Shape:
        """Of the images that the architecture sees."""
        return shape if self.resize is None else replace(shape, height=self.resize, width=self.resize)

    def preprocessing(self, own: Preprocessing | None, channels: int, where: str) -> Preprocessing | None:
        """What is asked for, over what the weights bring along. Raises UserError where it does not fit the images."""
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != channels:
                raise UserError(f"{where}.{key}={list(values)}", cure=f"{channels} numbers, one a channel")
        if (self.mean is None) != (self.std is None):
            raise UserError(f"{where}.mean and {where}.std belong together", cure="set both, or neither")
        if self.mean is not None and self.std is not None:
            made_for, crop = (own.made_for, own.crop) if own else (None, None)
            own = Preprocessing(self.mean, self.std, made_for=made_for, crop=crop)
        if self.resize is None:
            return own
        if own is None:
            raise UserError(f"{where}.resize={self.resize} without a mean and a std", cure=f"set {where}.mean and .std")
        return replace(own, size=(self.resize, self.resize))


@dataclass(frozen=True)
class Begun:
    """A start, and the preprocessing that comes with it."""

    start: Start | None = None
    preprocessing: Preprocessing | None = None


def split(section: Section, where: str) -> tuple[dict[str, Any], Wanted]:
    """(the architecture alone, what is said besides). Raises UserError for values that there are not."""
    keys = [field.name for field in fields(Wanted)]
    wanted: Wanted = make(Wanted, {key: section[key] for key in keys if key in section}, where)
    plain = {key: value for key, value in section.items() if key not in keys}
    if plain.get("pretrained") is True:
        if wanted.file is not None:
            raise UserError(f"{where}.pretrained=true and {where}.weights={wanted.file}", cure="one of the two")
        wanted = replace(wanted, weights="imagenet")
    return plain, wanted


def pruned(section: Section, wanted: Wanted, saved: Checkpoint | None) -> tuple[dict[str, Any], Checkpoint | None]:
    """(the architecture, weights whose shapes it has): of a pruned checkpoint, or where it starts from a pruned one.

    What starts from a pruned network of its own kind is as small as that.
    """
    if saved is not None:
        return dict(section), saved
    if wanted.file is not None and wanted.file.exists() and not timm_folder.is_folder(wanted.file):
        found = checkpoint.read(wanted.file)
        if found.card is not None and found.card.model == {**section, PRUNED: True}:
            return dict(found.card.model), found
    return dict(section), None


def for_checkpoint(section: Section | None, saved: Checkpoint, where: str) -> dict[str, Any]:
    """The architecture of a checkpoint, asked for or as it says, with what is said besides.

    Raises UserError when neither says one or they say two, and for what a checkpoint has already.
    """
    plain, wanted = split(section or {}, where)
    model, said = model_of(plain or None, saved, where), {k: v for k, v in vars(wanted).items() if v is not None}
    known = said if saved.card is not None else {key: said[key] for key in said if key == "weights"}
    for key, value in known.items():
        raise UserError(f"{where}.{key}={value}", where=saved.path, cure="a checkpoint has that already")
    return {**said, **model}


def begin(body: nn.Module, path: Path, section: Section, classes: tuple[str, ...] | None, where: str) -> Begun:
    """What of a file goes into a body. classes: of the data. Raises UserError where it is another network's."""
    saved, own = read(path, section, where)
    keep = saved.card is None or (classes in (None, saved.card.classes) and saved.card.role != "pretrained")
    moved = transfer(saved.weights, body.state_dict(), head_of(body), str(section["name"]), saved.path, keep_head=keep)
    return Begun(Start(moved.weights, digest(moved.weights), _told(moved, saved, body)), own or _published_for(body))


def published(body: nn.Module, section: Section) -> Begun:
    """The start of a body that was built with its published weights and a fresh head."""
    head = head_of(body)
    weights = {name: tensor.clone() for name, tensor in body.state_dict().items() if not name.startswith(f"{head}.")}
    told = f"published weights of {section.get('arch')}: {len(weights)} of {len(body.state_dict())} tensors"
    return Begun(Start(weights, digest(weights), f"{told}; new: {head}"), _published_for(body))


def refuse_download(section: Section, where: str, download: bool) -> None:
    """Raise UserError for published weights of torchvision that are not on this machine and may not be fetched."""
    if section.get("name") != "torchvision" or download:
        return
    from kdal_cli.models.torchvision import is_cached

    if not is_cached(str(section.get("arch"))):
        cure = f"download=true fetches them; or {where}.weights=FILE"
        raise UserError(f"the published weights of {section.get('arch')} are not on this machine", cure=cure)


def read(path: Path, section: Section, where: str) -> tuple[Checkpoint, Preprocessing | None]:
    """(weights, preprocessing where they say one) of a file or folder. Raises UserError for those of something else."""
    own = None
    if not path.exists():
        cure = "put it there, or a link to it: a file, a folder of timm, or a run"
        raise UserError(f"{where}.weights={path}", where="there is no such file", cure=cure)
    if timm_folder.is_folder(path):
        arch, own = timm_folder.read(path)
        if section.get("name") == "timm" and arch.partition(".")[0] != section.get("arch"):
            raise UserError(f"these weights are of {arch}", where=path, cure=f"{where}.arch={arch.partition('.')[0]}")
    saved = checkpoint.read(path)
    if saved.card is not None:
        own = saved.card.preprocessing
    return saved, own


def refuse_other(body: nn.Module, other: nn.Module | None, path: Path, section: Section, where: str) -> None:
    """Raise UserError for weights that are not those of an architecture, before the images are known.

    body, other: sketches of it for different images; what has one shape in both has it for all.
    """
    saved, _ = read(path, section, where)
    shapes = {name: tensor.shape for name, tensor in other.state_dict().items()} if other is not None else {}
    fixed = {name: shapes.get(name) == tensor.shape for name, tensor in body.state_dict().items()}
    refuse_other_body(saved.weights, body.state_dict(), head_of(body), str(section["name"]), saved.path, fixed)


def head_of(body: nn.Module) -> str:
    """The module path of the classifier."""
    last = classifier(body)
    return next(path for path, module in body.named_modules() if module is last)


def _published_for(body: nn.Module) -> Preprocessing | None:
    """What the published weights of an architecture expect, where there are some."""
    rule = getattr(body, "preprocessing", None)
    return rule if isinstance(rule, Preprocessing) else None


def _told(moved: Transfer, saved: Checkpoint, body: nn.Module) -> str:
    parts = [f"{saved.path}: {len(moved.weights)} of {len(body.state_dict())} tensors"]
    if not moved.head:
        parts.append(f"new: {head_of(body)}")
    if moved.left_out:
        parts.append(f"left out: {moved.left_out}")
    return "; ".join((*parts, *saved.notes, *moved.notes))
