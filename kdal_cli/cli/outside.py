"""What a configuration from outside may say: values of a run, and little of where and how many.

Files of a folder that is named, and the words that a sweep folder says were typed, are data. They choose among our
options and set their values. Of Hydra, which can run any code, they set what `_ALLOWED` lists; whom to trust, and how
much may be spent, only the person says who types.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Sweep

from kdal_cli.errors import UserError
from kdal_cli.values import flat

TYPED = ("trust", "sweep")
"""Sections that only the command line sets."""

CALLS = re.compile(r"\$\{\s*([\w.]+)\s*:")
RESOLVERS = ("now", "hydra")
"""What a typed word about Hydra itself may call, in the name of a folder."""

PLUGINS = re.compile(r"hydra/(launcher|sweeper)(/[\w/]+)?")
"""Groups whose options come with what is installed."""

FOLDER = re.compile(r"(?:[^${}\0]|\$\{(?:now:[^${}]*|hydra\.job\.(?:name|num|id|config_name|override_dirname))\})+")


def _is_folder(value: Any) -> bool:
    """A folder below the one we are in, none that is hidden."""
    parts = PurePosixPath(value).parts if isinstance(value, str) and FOLDER.fullmatch(value) else ()
    return bool(parts) and not any(part.startswith((".", "/")) for part in parts)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


_ALLOWED = {
    r"(run|sweep)\.dir|sweep\.subdir": _is_folder,
    r"mode": lambda value: value in ("RUN", "MULTIRUN", None),
    r"launcher\.\w+": _is_number,
    r"sweeper\.\w+(\.\w+)*": _is_number,
    r"sweeper\.direction": lambda value: value in ("minimize", "maximize"),
    r"sweeper\.study_name": lambda value: isinstance(value, str) and bool(re.fullmatch(r"[\w-]+", value)),
}
"""{a key below `hydra`: which of its values run nothing}"""


def parsed(words: Sequence[str], where: object = "") -> list[Override]:
    """Words as Hydra reads them. where: what they come from. Raises UserError for one that it cannot read."""
    try:
        return OverridesParser.create().parse_overrides(list(words))
    except Exception as error:  # its parser has many ways to fail, and all of them are about the words
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"cannot read {' '.join(words)}: {reason[0]}", where=where, cure="key=value") from error


def refuse_more_than_values(values: Mapping[str, Any], where: object) -> None:
    """Raise UserError where a file from outside sets more than values. values: of the file, nothing resolved."""
    for key in TYPED:
        if key in values:
            shown = next(iter(flat({key: values[key]})), key)
            raise UserError(f"{shown} is set by a file", where=where, cure="set it on the command line")
    settings = values.get("hydra") or {}
    if not isinstance(settings, Mapping):
        raise UserError(f"hydra={settings} is set by a file", where=where, cure="set it on the command line")
    _refuse_settings(settings, where)


def refuse_strange_words(words: Sequence[str], where: object) -> None:
    """Raise UserError for words of a file that say more than which values a run, or each job of a sweep, has."""
    for override in parsed(words, where):
        key, value = override.key_or_group, override.value()
        simple = override.type is OverrideType.CHANGE and override.package is None and not isinstance(value, Sweep)
        if re.split(r"[.\[]", key)[0] in TYPED:
            raise UserError(f"{override.input_line} is set by a file", where=where, cure="set it on the command line")
        if not is_about_hydra(override) or (simple and PLUGINS.fullmatch(key) and isinstance(value, str)):
            continue
        if not simple or not key.startswith("hydra."):
            raise UserError(f"{override.input_line} is set by a file", where=where, cure="set it on the command line")
        _refuse_settings({key.removeprefix("hydra."): value}, where)


def _refuse_settings(settings: Mapping[str, Any], where: object) -> None:
    for key, value in _leaves(settings):
        if key.startswith("sweeper.params."):
            refuse_strange_words([f"{key.removeprefix('sweeper.params.')}={value}"], where)
        elif not any(re.fullmatch(pattern, key) and fits(value) for pattern, fits in _ALLOWED.items()):
            raise UserError(f"hydra.{key} is set by a file", where=where, cure="set it on the command line")


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything below, a mapping without keys among them."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def is_about_hydra(override: Override) -> bool:
    """Whether an override sets something of Hydra itself."""
    return re.split(r"[./\[]", override.key_or_group)[0] == "hydra" or bool(
        override.package and re.split(r"[.\[]", override.package.removeprefix("_global_."))[0] == "hydra"
    )


def refuse_calls_of_words(words: Sequence[str]) -> None:
    """Raise UserError for typed words that would call something else than the clock and Hydra's own keys."""
    for word in words:
        for name in CALLS.findall(word):
            if name not in RESOLVERS:
                cure = 'what the environment holds, your shell can say: data.root="$DATA"'
                raise UserError(word, where=f"a configuration does not call {name}", cure=cure)
