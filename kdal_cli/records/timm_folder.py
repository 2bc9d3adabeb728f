"""A folder as timm keeps a model in: `config.json`, which says what it is, beside the weights."""

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from kdal_cli.dataset import Preprocessing
from kdal_cli.errors import UserError
from kdal_cli.records.files import LARGEST_JSON

CHANNELS = 64
"""No image has more."""


def is_folder(path: Path) -> bool:
    return path.is_dir() and (path / "config.json").is_file()


def read(path: Path) -> tuple[str, Preprocessing | None]:
    """(architecture by its name in timm, preprocessing where that is told) of such a folder.

    Raises UserError for one that does not say what it is, or says what cannot be.
    """
    file = path / "config.json"
    try:
        with file.open("rb") as handle:
            config = json.loads(handle.read(LARGEST_JSON))
        arch, rule = config["architecture"], config.get("pretrained_cfg", config)
        if not isinstance(arch, str):
            raise TypeError
        return arch, preprocessing(rule) if "mean" in rule else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        cure = "a folder that timm saved: config.json with architecture and pretrained_cfg, and model.safetensors"
        raise UserError("this does not say which model it is", where=file, cure=cure) from error


def preprocessing(rule: Mapping[str, Any]) -> Preprocessing:
    """What timm's `pretrained_cfg` of a model says. Nonsense raises ValueError, TypeError, IndexError or KeyError."""
    mean, std = (tuple(float(number) for number in rule[key]) for key in ("mean", "std"))
    if not 0 < len(mean) == len(std) <= CHANNELS or not all(map(isfinite, (*mean, *std))) or min(std) <= 0:
        raise ValueError(f"mean={mean}, std={std}")
    size, crop = rule.get("input_size"), rule.get("crop_pct")
    made_for = (int(size[1]), int(size[2])) if size else None
    return Preprocessing(mean, std, made_for=made_for, crop=float(crop) if crop else None)
