"""A composed configuration as plain values, and what they alone can tell: nothing that computes is imported here."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdal_cli.compose.references import refuse_calls
from kdal_cli.errors import UserError, nearest
from kdal_cli.records.run import claim
from kdal_cli.values import flat

GROUPS = (
    "data",
    "student",
    "teacher",
    "recipe",
    "loss",
    "method",
    "pretrain",
    "sampler",
    "seed_set",
    "budget",
    "oracle",
    "tracker",
    "compress",
)
SETTINGS = (
    "seed",
    "device",
    "devices",
    "threads",
    "trust",
    "download",
    "store",
    "sweep",
    "compare",
    "labels",
    "generations",
    "assistants",
    "scorer",
    "members",
    "consensus",
    "features",
    "stopping",
    "baselines",
    "replay",
    "checkpoint",
    "split",
    "csv",
    "tta",
)
PLACES = ("store", "uri", "csv")
"""Keys that say where something is written, or sent."""


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values. Raises UserError for what is missing, cannot be resolved, or is not a key."""
    refuse_calls(unresolved(config))
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "configuration"
        reason = "is missing" if "issing" in type(error).__name__ else f"cannot be read: {str(error).splitlines()[0]}"
        raise UserError(f"{key} {reason}", cure=f"set it with {key}=…") from None
    assert isinstance(values, dict)
    for key in values:
        if key not in GROUPS + SETTINGS:
            raise UserError(f"{key}={values[key]}", where="no such key", cure=nearest(str(key), GROUPS + SETTINGS))
    return {str(key): value for key, value in values.items()}


def unresolved(config: Any) -> dict[str, Any]:
    """A configuration as data: references in it are text. Empty for one that is no mapping."""
    values = OmegaConf.to_container(config, resolve=False)
    return values if isinstance(values, dict) else {}  # type: ignore[return-value]


def result_of(config: DictConfig, folder: Path) -> dict[str, Any] | None:
    """The result of this run, when it is done already; None when there is work to do, or a replay to look into.

    Raises UserError when the run in the folder was started with another configuration.
    """
    if not (folder / "result.json").exists():
        return None
    values = plain(config)
    if values.get("replay") is not None:
        return None
    with claim(folder) as run:
        run.refuse_other(values)
        return run.result


def said_again(values: Mapping[str, Any]) -> dict[str, Any]:
    """{key: value} of what a saved configuration is not believed: whom to trust, and places beyond `outputs/`."""
    trust = {"trust": values["trust"]} if values.get("trust") else {}
    named = {key: value for key, value in flat(values).items() if key.rpartition(".")[2] in PLACES}
    return trust | {key: value for key, value in named.items() if value is not None and not _below_outputs(str(value))}


def _below_outputs(place: str) -> bool:
    place = place.removeprefix("sqlite:///")
    outputs = Path(os.path.realpath("outputs"))
    return "://" not in place and Path(os.path.realpath(place)).is_relative_to(outputs)


def refuse_unsaid(values: Mapping[str, Any], typed: Mapping[str, Any], command: str) -> None:
    """Raise UserError unless all that a folder is not believed was typed: `command` with it is what is to be typed."""
    unsaid = {key: value for key, value in said_again(values).items() if not _agrees(value, typed.get(key))}
    if unsaid:
        what = ", ".join(f"{key}={_shown(value)}" for key, value in unsaid.items())
        cure = f"if you do: {command} {as_typed(said_again(values))}"
        raise UserError(f"a folder sets {what}, which only the command line can set", cure=cure)


def _agrees(said: Any, typed: Any) -> bool:
    if isinstance(said, list) and isinstance(typed, list):
        return all(package in typed for package in said)
    return typed == said


def as_typed(values: Mapping[str, Any]) -> str:
    """Keys and values as they are typed."""
    return " ".join(shlex.quote(f"{key}={_shown(value)}") for key, value in values.items())


def _shown(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)
