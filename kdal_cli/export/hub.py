"""A folder that `timm.create_model("local-dir:…", pretrained=True)` loads: `config.json` and `model.safetensors`.

timm knows architectures by names of its own. A network of torchvision is often one of them with other names for its
tensors, in the same order; whether it is shows in the logits.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdal_cli.records.card import Card

NAMES = {"mobilenet_v2": "mobilenetv2_100", "mobilenet_v3_large": "mobilenetv3_large_100"}
"""timm's names for architectures of torchvision, where they differ and the computation does not."""

CLOSE = 1e-3
"""How far apart logits may be for two networks to be one, relative and absolute."""


class NotOfTimm(Exception):
    """A network that timm has no architecture for, and in words why."""


def write_hub(folder: Path, body: nn.Module, card: Card, example: Tensor) -> float:
    """Write the folder; returns the largest difference between its logits and the network's.

    example: (B, c, H, W), normalised, on which the two are compared. Raises NotOfTimm.
    """
    import timm

    with torch.inference_mode():
        wanted = body(example)
    for name, arguments in _candidates(card.model):
        try:
            theirs = timm.create_model(name, num_classes=len(card.classes), in_chans=card.shape.channels, **arguments)
            weights = _renamed(body, theirs)
            theirs.load_state_dict(weights)
            with torch.inference_mode():
                found = theirs.eval()(example)
        except (RuntimeError, ValueError, TypeError, NotOfTimm):
            continue
        if torch.allclose(found, wanted, CLOSE, CLOSE):
            _write(folder, name, arguments, theirs, weights, card)
            return _reloaded(folder, example, wanted)
    raise NotOfTimm(f"timm has no architecture like {card.model.get('arch') or card.model['name']}")


def _candidates(model: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(timm's name, arguments) that a network of ours could be."""
    import timm

    arch = str(model.get("arch") or model["name"])
    known = set(timm.list_models())
    for name in dict.fromkeys((arch, NAMES.get(arch, arch))):
        if name in known:
            yield name, {}


def _renamed(ours: nn.Module, theirs: nn.Module) -> dict[str, Tensor]:
    """Our tensors under timm's names: the same names, or the same shapes in the same order."""
    mine, wanted = ours.state_dict(), theirs.state_dict()
    if mine.keys() == wanted.keys():
        return {name: mine[name].contiguous() for name in wanted}
    if [tensor.shape for tensor in mine.values()] != [tensor.shape for tensor in wanted.values()]:
        raise NotOfTimm("other tensors")
    return {name: tensor.contiguous() for name, tensor in zip(wanted, mine.values(), strict=True)}


def _write(
    folder: Path, name: str, arguments: dict[str, Any], theirs: nn.Module, weights: dict[str, Tensor], card: Card
) -> None:
    folder.mkdir(exist_ok=True)
    sides, own = card.inner, getattr(theirs, "default_cfg", {})
    about = {
        "architecture": name,
        "num_classes": len(card.classes),
        "num_features": getattr(theirs, "num_features", 0),
        "model_args": {**arguments, "in_chans": sides.channels},
        "label_names": list(card.classes),
        "pretrained_cfg": {
            "input_size": [sides.channels, sides.height, sides.width],
            "fixed_input_size": False,
            "interpolation": card.preparation.interpolation,
            "crop_pct": card.shape.width / (card.preparation.side or card.shape.width),
            "crop_mode": "squash" if card.preparation.resize == "stretch" else "center",
            "mean": list(card.mean),
            "std": list(card.std),
            "num_classes": len(card.classes),
            "first_conv": own.get("first_conv"),
            "classifier": own.get("classifier"),
        },
    }
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _reloaded(folder: Path, example: Tensor, wanted: Tensor) -> float:
    """How far the logits of the folder, loaded as anybody would, are from the network's."""
    with torch.inference_mode():
        return float((load(folder)(example) - wanted).abs().max())


def load(folder: Path) -> nn.Module:
    """The network of such a folder, in evaluation mode."""
    import timm

    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
