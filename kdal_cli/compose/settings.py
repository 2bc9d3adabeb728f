"""A composed configuration as plain values, and what they alone can tell: nothing that computes is imported here."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdal_cli.errors import UserError, nearest
from kdal_cli.records.run import claim

GROUPS = ("data", "student", "teacher", "recipe", "loss", "sampler", "seed_set", "budget", "oracle", "tracker")
SETTINGS = (
    "seed",
    "device",
    "devices",
    "threads",
    "trust",
    "compare",
    "labels",
    "generations",
    "assistants",
    "scorer",
    "members",
    "stopping",
    "baselines",
    "replay",
    "checkpoint",
    "split",
)


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values. Raises UserError for what is missing, cannot be resolved, or is not a key."""
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
