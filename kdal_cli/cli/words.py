"""The words of a command line before Hydra reads them: flags, seeds, budgets."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from kdal_cli.errors import UserError


def flags_first(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(flags with their values, overrides): Hydra itself stops at a flag that comes after an override.

    Raises UserError for a flag that Hydra does not know, or without its value.
    """
    parser = get_args_parser()
    parser.error = _refuse_flags  # type: ignore[method-assign]
    takes_value = {name for action in parser._actions if action.nargs in (None, 1) for name in action.option_strings}
    optional = {name for action in parser._actions if action.nargs == "?" for name in action.option_strings}
    flags: list[str] = []
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flags.append(word)
        if rest and (word in takes_value or (word in optional and re.fullmatch(r"[a-z-]+", rest[0]))):
            flags.append(rest.pop(0))
    if parser.parse_args([*flags, *overrides]).shell_completion:
        raise UserError("--shell-completion is not for hands", cure='eval "$(kdal completion bash)"')
    return flags, overrides


def _refuse_flags(message: str) -> NoReturn:
    raise UserError(message, cure="kdal --help")


def refuse_strange_files(flags: Sequence[str]) -> None:
    """Raise UserError when a configuration folder from outside would configure Hydra itself, which can run any code."""
    for flag, value in pairwise(flags):
        if flag in ("--config-dir", "-cd", "--config-path", "-cp"):
            for path in sorted(Path(value).rglob("*.y*ml")):
                text = path.read_text(encoding="utf-8", errors="replace")
                if found := re.search(r"^hydra:\s*(\w*)|^# *@package +(?:_global_\.)?hydra\S*", text, re.MULTILINE):
                    key = f"hydra.{found.group(1)}" if found.group(1) else "hydra"
                    raise UserError(f"{key} is set by a file", where=path, cure="set it on the command line")
                if "hydra" in path.relative_to(value).parts:
                    raise UserError("this file would be an option of Hydra itself", where=path, cure="take it out")


def several_seeds(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """(flags, overrides): `seeds=5` is a sweep over `seed=0,1,2,3,4`. Raises UserError for another number than that."""
    counts = [text.removeprefix("seeds=") for text in overrides if text.startswith("seeds=")]
    if not counts:
        return [], list(overrides)
    if len(counts) > 1 or not re.fullmatch(r"[1-9]\d{0,3}", counts[0]):
        raise UserError(f"seeds={counts[-1]}", cure="a whole number from 1 on, once: seeds=5 is -m seed=0,1,2,3,4")
    seeds = ",".join(map(str, range(int(counts[0]))))
    return ["-m"], [f"seed={seeds}" if text.startswith("seeds=") else text for text in overrides]


def numeric_budget(overrides: Sequence[str]) -> list[str]:
    """`budget=100` and its sweeps become `budget.query=100`; presets stay choices of the group.

    Raises UserError for a sweep over presets and numbers at once.
    """
    return [_numeric(text) for text in overrides]


def _numeric(text: str) -> str:
    if not text.startswith("budget="):
        return text
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        return text  # Hydra itself says what is wrong
    numbers = [isinstance(value, int | float) for value in _values(override)]
    if any(numbers) and not all(numbers):
        raise UserError(
            f"{text} mixes presets and numbers of labels",
            cure="sweep one of the two: budget=50,100 or budget=small,large",
        )
    return text.replace("budget=", "budget.query=", 1) if numbers and all(numbers) else text


def _values(override: Override) -> list[Any]:
    if override.is_interval_sweep():
        return [0.0]
    if override.is_sweep_override():
        values = list(override.sweep_iterator())
        return [v if not isinstance(v, str) else _number(v) for v in values]
    value = override.value()
    return [] if isinstance(value, QuotedString) else [value]


def _number(text: str) -> Any:
    """A swept value comes as text; a number among them counts as one."""
    try:
        return float(text)
    except ValueError:
        return text
