"""Weights that say what they are.

A checkpoint is one safetensors file, replaced atomically. Its header carries a card: architecture, classes,
normalisation, what it was trained on, what it scored, and a SHA-256 of the tensors, because the format itself does not
notice a flipped bit. The JSON beside it is the card again, for people, and is never read. A file without a card is
somebody else's, see `kdal_cli.records.foreign`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kdal_cli.errors import UserError, printable
from kdal_cli.records import foreign
from kdal_cli.records.card import Card, parse
from kdal_cli.records.files import write_bytes, write_json
from kdal_cli.records.fit import COUNTER, fit, refuse_other_names

KEY = "kdal"
"""What our entry of a safetensors header is called."""

MARK = '{"card"'
"""How it begins. Two marks, so that a flipped bit in one of them does not make it somebody else's."""

CARD_CHARACTERS = 2**22
"""A longer card is nobody's."""

KINDS = "a run folder, or a .safetensors, .pt or .pth file is needed"


@dataclass(frozen=True)
class Checkpoint:
    """Weights from a file. card is None for weights from elsewhere. notes: what of such a file was taken."""

    path: Path
    weights: dict[str, Tensor]
    card: Card | None
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> int:
        """How many there are in all tensors."""
        return sum(tensor.numel() for tensor in self.weights.values())

    def refuse_other(self, body: nn.Module, network: str, *, shapes: bool = True) -> None:
        """Raise UserError unless the weights are those of this architecture. shapes: or names, if they alone count."""
        if shapes:
            fit(self.weights, body.state_dict(), network, self.path)
        else:
            refuse_other_names(self.weights, body.state_dict(), network, self.path)

    def load_into(self, body: nn.Module, network: str) -> str:
        """Copy the weights into an architecture, `network` in words. Returns what there is to say of that, or nothing.

        Raises UserError unless every name, shape and kind of number agrees.
        """
        weights, notes = fit(self.weights, body.state_dict(), network, self.path)
        body.load_state_dict(weights)
        return "; ".join((*self.notes, *notes))


def write(path: Path, body: nn.Module, card: Card) -> None:
    """Save `body` with its card, atomically."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in body.state_dict().items()}
    content = {"card": card.plain(), "sha256": _digest(card.plain(), weights)}
    write_bytes(path, save(weights, metadata={KEY: json.dumps(content)}))
    write_json(path.with_suffix(".json"), content["card"] | {"sha256": content["sha256"]})


def read(path: Path) -> Checkpoint:
    """Read a checkpoint of ours, one of somebody else's, or the newest one of a run folder.

    Raises UserError, naming the file, when it is missing, no checkpoint, damaged, or not finite.
    """
    path = find(path)
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(f"checkpoint cannot be read: {error.strerror}", where=path, cure=KINDS) from None
    if start[8:] == b"{":
        checkpoint = _read_safetensors(path)
    elif start[:4] == b"PK\3\4" or start[:1] == b"\x80":
        weights, notes = foreign.read(path)
        checkpoint = Checkpoint(path, weights, None, notes)
    else:
        what = "is neither safetensors nor a file of torch.save" if start else "is empty"
        raise UserError(f"checkpoint {what}", where=path, cure=KINDS)
    for name, tensor in checkpoint.weights.items():
        wide = tensor if tensor.dtype.itemsize > 1 else tensor.float()  # torch has no isfinite for 8 bits
        if not name.endswith(COUNTER) and not wide.isfinite().all():
            what = f"checkpoint holds numbers that are not finite, in {printable(name)}"
            raise UserError(what, where=path, cure="use another one")
    return checkpoint


def find(path: Path) -> Path:
    """The weights that a path stands for: itself, what a run ended with, or what the newest of several runs did."""
    if path.is_file():
        return path
    if not path.is_dir():
        what = "checkpoint is neither a file nor a folder" if path.exists() else "no such checkpoint"
        raise UserError(what, where=path, cure=KINDS)
    runs = [folder.parent for folder in path.glob("*/checkpoints")]
    run = max(runs, key=lambda folder: folder.stat().st_mtime) if runs else path
    inside = run / "checkpoints" if (run / "checkpoints").is_dir() else run
    named = [inside / name for name in ("student.safetensors", "teacher.safetensors", "pytorch_model.bin")]
    found = [file for file in named if file.exists()] or sorted(inside.glob("*.safetensors"), reverse=True)
    if not found:
        raise UserError(
            "no checkpoint in this folder", where=path, cure="the folder of a run that has got that far is needed"
        )
    return found[0]


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:  # pyright: ignore[reportGeneralTypeIssues]
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        what = f"checkpoint cannot be read: {printable(error, 200)}"
        raise UserError(what, where=path, cure="truncated or not safetensors") from None
    ours = KEY in header or any(text.startswith(MARK) for text in header.values())
    return Checkpoint(path, weights, _card(header, weights, path) if ours else None)


def _card(header: Mapping[str, str], weights: Mapping[str, Tensor], path: Path) -> Card:
    try:
        content = json.loads(header[KEY][:CARD_CHARACTERS])
        whole = content["sha256"] == _digest(content["card"], weights)
    except (KeyError, TypeError, ValueError, RecursionError):
        whole, content = False, {}
    if not whole:
        cure = "use another copy"
        raise UserError("checkpoint is damaged: its checksum does not match", where=path, cure=cure)
    try:
        return parse(content["card"])
    except ValueError as odd:
        what = f"checkpoint says of itself what cannot be: {odd}"
        raise UserError(what, where=path, cure="use one that kdal wrote") from None


def _digest(card: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(card).encode())
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].dtype} {tuple(weights[name].shape)}".encode())
        digest.update(weights[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
