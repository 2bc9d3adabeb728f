"""Weights that say what they are.

A checkpoint is one safetensors file, replaced atomically. Its header carries a card: architecture, classes,
normalisation, what it was trained on, what it scored, and a SHA-256 of the tensors, because the format itself does not
notice a flipped bit. The JSON beside it is the card again, for people. Weights from elsewhere (`.pt`, `.pth`) are read
without unpickling code, and never loaded in part.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.records.files import write_bytes, write_json
from kdal_cli.types import Shape

KEY = "kdal"
"""What our entry of a safetensors header is called."""

WRAPPERS = ("state_dict", "model", "net", "model_state_dict")


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of itself. model: the architecture and its arguments. trained_on: data and labels used."""

    role: str
    model: dict[str, Any]
    shape: Shape
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data: str
    trained_on: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """Weights from a file. card is None for weights from elsewhere."""

    path: Path
    weights: dict[str, Tensor]
    card: Card | None

    def load_into(self, body: nn.Module) -> None:
        """Copy the weights into an architecture. Raises UserError unless every name and shape agrees."""
        theirs, ours = self.weights, body.state_dict()
        wrong = [
            f"{n} is {_size(theirs[n])}, not {_size(ours[n])}"
            for n in ours
            if n in theirs and theirs[n].shape != ours[n].shape
        ]
        missing, extra = [n for n in ours if n not in theirs], [n for n in theirs if n not in ours]
        for problems, words in ((missing, "lacks"), (extra, "has besides"), (wrong, "disagrees:")):
            if problems:
                more = f" and {len(problems) - 2} more" if len(problems) > 2 else ""
                raise UserError(
                    f"checkpoint is not one of {type(body).__name__}: it {words} {', '.join(problems[:2])}{more}",
                    where=self.path,
                    cure="name the architecture and the classes it was trained with",
                )
        body.load_state_dict(theirs)


def write(path: Path, body: nn.Module, card: Card) -> None:
    """Save `body` with its card, atomically."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in body.state_dict().items()}
    content = {"card": asdict(card), "sha256": _digest(asdict(card), weights)}
    write_bytes(path, save(weights, metadata={KEY: json.dumps(content)}))
    write_json(path.with_suffix(".json"), content["card"] | {"sha256": content["sha256"]})


def read(path: Path) -> Checkpoint:
    """Read a checkpoint of ours, one of somebody else's, or the newest one of a run folder.

    Raises UserError, naming the file, when it is missing, truncated, changed, pickled code or not finite.
    """
    path = find(path)
    checkpoint = _read_ours(path) if path.suffix == ".safetensors" else Checkpoint(path, _read_foreign(path), None)
    for name, tensor in checkpoint.weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(
                f"checkpoint holds numbers that are not finite, in {name}", where=path, cure="use another one"
            )
    return checkpoint


def find(path: Path) -> Path:
    """The weights that a path stands for: itself, what a run ended with, or what the newest of several runs did."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(
            "no such checkpoint", where=path, cure="a run folder, or a .safetensors, .pt or .pth file is needed"
        )
    runs = [folder.parent for folder in path.glob("*/checkpoints")]
    run = max(runs, key=lambda folder: folder.stat().st_mtime) if runs else path
    inside = run / "checkpoints" if (run / "checkpoints").is_dir() else run
    named = [inside / f"{role}.safetensors" for role in ("student", "teacher")]
    found = [file for file in named if file.exists()] or sorted(inside.glob("*.safetensors"), reverse=True)
    if not found:
        raise UserError(
            "no checkpoint in this folder", where=path, cure="the folder of a run that has got that far is needed"
        )
    return found[0]


def _read_ours(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:  # pyright: ignore[reportGeneralTypeIssues]
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"checkpoint cannot be read: {error}", where=path, cure="truncated or not safetensors"
        ) from None
    if not header and not path.with_suffix(".json").exists():
        return Checkpoint(path, weights, None)  # somebody else's
    try:
        content = json.loads(header[KEY])
        fields = content["card"]
        if content["sha256"] != _digest(fields, weights):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        cure = "use another copy"
        raise UserError("checkpoint is damaged: its checksum does not match", where=path, cure=cure) from None
    fields["shape"] = Shape(**fields["shape"])
    fields |= {key: tuple(fields[key]) for key in ("classes", "mean", "std")}
    return Checkpoint(path, weights, Card(**fields))


def _read_foreign(path: Path) -> dict[str, Tensor]:
    try:
        _refuse_bomb(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        cure = "a file of plain weights is needed"
        raise UserError(f"checkpoint cannot be read: {reason}", where=path, cure=cure) from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError("checkpoint holds no state dict", where=path, cure="save model.state_dict()")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _refuse_bomb(path: Path) -> None:
    """Raise ValueError for an archive that unfolds to more than it is; torch.save never compresses."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("its contents are compressed")


def _digest(card: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(card).encode())
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].dtype} {tuple(weights[name].shape)}".encode())
        digest.update(weights[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _size(tensor: Tensor) -> str:
    return "×".join(str(side) for side in tensor.shape) or "a scalar"
