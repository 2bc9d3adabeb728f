"""The words of a command line before Hydra reads them: flags, seeds, budgets."""

import re
from argparse import Namespace
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from kdal_cli.errors import UserError

NOT_OURS = {
    "experimental_rerun": "a pickle runs the code of whoever wrote it; kdal <stage> resume=FOLDER",
    "config_path": "--config-dir DIR adds options of your own to ours",
    "config_name": "the first word names the stage; an experiment of your own is --config-dir DIR experiment=NAME",
    "shell_completion": 'it is not for hands: eval "$(kdal completion bash)"',
}
"""Flags of Hydra that are refused, and what to do instead."""

LONGEST = 10_000
DEEPEST = 20
"""Of a word: its letters, and its brackets within brackets."""


def flags_first(words: Sequence[str]) -> Namespace:
    """The flags of Hydra wherever they stand, and the other words as `overrides`; Hydra itself would stop at a flag
    that comes after one. Raises UserError for a flag that is not known, lacks its value, or would read a file as code.
    """
    parser = get_args_parser()
    parser.error = _refuse_flags  # type: ignore[method-assign]
    parser.allow_abbrev = False
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
    read = parser.parse_args([*flags, *overrides])
    for flag, cure in NOT_OURS.items():
        if getattr(read, flag):
            raise UserError(f"--{flag.replace('_', '-')} is not a flag of kdal", cure=cure)
    return read


def _refuse_flags(message: str) -> NoReturn:
    raise UserError(message, cure="kdal --help")


def refuse_odd(words: Sequence[str]) -> None:
    """Raise UserError for a word that no file could hold, or that is more than a word."""
    for word in words:
        start = f"{word[:60]}…" if len(word) > 60 else word
        if "\0" in word or re.search("[\ud800-\udfff]", word):
            raise UserError(f"{word!r} is not text", cure="letters that UTF-8 has, and no NUL")
        if len(word) > LONGEST:
            raise UserError(
                f"{start} is too long", cure=f"at most {LONGEST:,} letters; put it into a file: --config-dir"
            )
        if _depth(word) > DEEPEST:
            raise UserError(f"{start} has brackets within brackets", cure=f"at most {DEEPEST} deep")


def _depth(word: str) -> int:
    """How many brackets are open at once, wherever they stand."""
    return max(accumulate({**dict.fromkeys("([{", 1), **dict.fromkeys(")]}", -1)}.get(c, 0) for c in word), default=0)


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
    if override.is_interval_sweep() or override.is_range_sweep():
        return [0.0]  # all of them are numbers, however many there are
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
