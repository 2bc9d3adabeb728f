"""How many jobs a sweep has, counted before the first of them is made."""

import math
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from omegaconf import DictConfig, OmegaConf

from kdal_cli.compose.settings import unresolved
from kdal_cli.errors import UserError

GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def refuse_too_many(config: DictConfig, loader: ConfigLoader) -> None:
    """Raise UserError when a sweep has no job, or more than `sweep.max_jobs`. config: as it is composed for a sweep."""
    most = OmegaConf.select(config, "sweep.max_jobs")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise UserError(f"sweep.max_jobs={most}", cure="accepted: a whole number at least 1")
    sweeper = unresolved(config.hydra.sweeper)
    if sweeper.get("_target_") == GRID:
        params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
        typed = unresolved(config.hydra.overrides)["task"]
        parsed = OverridesParser.create(loader).parse_overrides([*params, *typed])
        jobs = math.prod({override.get_key_element(): count(override) for override in parsed}.values())
    else:
        jobs = sweeper.get("n_trials") or 1
    if jobs > most:
        raise UserError(f"{jobs:,} jobs are too many", where=f"sweep.max_jobs={most}", cure=f"sweep.max_jobs={jobs}")
    if jobs < 1:
        raise UserError("a sweep without a job", cure="give its keys values: seed=0,1,2")


def count(override: Override) -> int:
    """How many values a word gives its key. Raises UserError for a range without an end."""
    if not override.is_discrete_sweep():
        return 1
    value: Any = override.value()
    if not isinstance(value, RangeSweep):
        return sum(1 for _ in override.sweep_iterator())
    start, stop, step = value.start or 0, value.stop or 0, value.step
    if step == 0 or not all(isinstance(number, int) or math.isfinite(number) for number in (start, stop, step)):
        raise UserError(f"{override.input_line} has no end", cure="range(start,stop,step) of finite numbers")
    return max(0, int(-((start - stop) // step)))
