"""Paths among the words of a command line: a name on disk means what is on disk, as it does elsewhere.

Hydra's grammar reads `a,b` as a sweep, `photos(1)` as a function, `2024_01` as a number, and `фото`, `R&D` or `~` not
at all. Such values are put into its quotes before it sees them, where they are paths.
"""

import ast
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from kdal_cli.errors import UserError
from kdal_cli.values import at_home

FOLDERS = (
    *("hydra.run.dir", "hydra.sweep.dir", "replay", "oracle.answers", "checkpoint", "data.roots"),
    *("store", "csv", "student.weights", "teacher.model.weights"),
)
"""Keys that take a path and are no argument of a function."""

BOUND = ("data/*.py", "trackers/*.py", "compose/teacher.py")
"""Where the functions and fields are written that sections of the configuration with paths are bound to."""

UNREADABLE = object()
"""What Hydra makes of a value that it cannot read."""


def quoted_paths(overrides: Sequence[str]) -> list[str]:
    """The overrides, with paths in Hydra's quotes where it would read something else.

    A value that Hydra cannot read is a path when it is on disk, or when all that its commas separate is. Where the key
    takes a path, so is what it would read as a sweep, a list, a number or a word such as `null`; and what it cannot
    read and is not there yet.

    Raises UserError for a name that is not UTF-8: no file of configuration can hold it.
    """
    return [_quoted_path(text) for text in overrides]


def typed(value: str) -> Path:
    """The path that a person means who typed `value`: that very name, or one in quotes, or below the home folder."""
    return Path(_there(value) or at_home(value))


def quoted(text: str, mark: str = "'") -> str:
    """A text in quotes in which Hydra and OmegaConf read it as it is."""
    uninterpolated = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    escaped = re.sub(rf"(\\*){mark}", rf"\1\1\\{mark}", uninterpolated)
    return mark + re.sub(r"(\\+)$", r"\1\1", escaped) + mark


def reading(value: str) -> Any:
    """What Hydra makes of a value: a text, a number, a list, a sweep, …; UNREADABLE where it refuses it."""
    try:
        return OverridesParser.create().parse_override(f"key={value}")._value
    except (HydraException, ValueError):  # a number of more digits than Python reads is no HydraException
        return UNREADABLE


def takes_path(key: str) -> bool:
    """Whether a key of the configuration, such as `data.root`, takes a path."""
    return key in FOLDERS or key.rpartition(".")[2] in _path_names()


@cache
def _path_names() -> frozenset[str]:
    """The names of arguments and fields that are annotated as paths, read from the source: importing it needs torch."""
    files = [file for place in BOUND for file in Path(__file__).parents[1].glob(place)]
    sources = [file.read_text(encoding="utf-8") for file in files]
    nodes = [node for source in sources if "Path" in source for node in ast.walk(ast.parse(source))]
    noted = [(node.arg, node.annotation) for node in nodes if isinstance(node, ast.arg) and node.annotation]
    noted += [(ast.unparse(node.target), node.annotation) for node in nodes if isinstance(node, ast.AnnAssign)]
    return frozenset(name for name, note in noted if re.search(r"\bPath\b", ast.unparse(note)))


def _quoted_path(text: str) -> str:
    name, _, value = text.partition("=")
    key = name.lstrip("+")
    if not value.isprintable() and _is_not_utf8(value):
        raise UserError(f"{key}: this name is not UTF-8", cure="rename the file")
    if not value or name.startswith("~") or _is_itself(value):
        return text
    read = reading(value)
    if read is None or isinstance(read, bool | int | float):
        is_path = takes_path(key) and (read is not None or _there(value))
        return f"{name}={quoted(value)}" if is_path else text
    if read is UNREADABLE or takes_path(key):
        for opening, inner, closing in (("", value, ""), (value[0], value[1:-1], value[-1])):
            if opening + closing in ("", "[]") and (found := _all_there(inner)):
                return f"{name}={opening}{','.join(p if _is_itself(p) else quoted(p) for p in found)}{closing}"
    elif _exists(value):
        return f"{name}={quoted(value)}"
    if read is UNREADABLE and takes_path(key):
        return f"{name}={quoted(str(at_home(value)))}"
    return text


def _is_itself(value: str) -> bool:
    """Whether Hydra reads a value as the text that it is."""
    read = reading(value)
    return type(read) is str and read == value and "${" not in value


def _all_there(value: str) -> list[str]:
    """The paths that a value names, separated by commas, as few as can be; none unless all of them are on disk."""
    if whole := _there(value):
        return [whole]
    commas = [place for place, character in enumerate(value) if character == ","]
    for comma in reversed(commas):
        if (first := _there(value[:comma])) and (others := _all_there(value[comma + 1 :])):
            return [first, *others]
    return []


def _there(value: str) -> str | None:
    """The path on disk that a word names: as it is written, without its quotes, below the home folder; or None."""
    unquoted = value[1:-1] if value[:1] == value[-1:] and value[:1] in ("'", '"') else value
    if _exists(value):
        return str(Path(value).absolute()) if value.startswith("~") else value  # never taken for the home folder
    return next((path for path in (unquoted, str(at_home(unquoted)), value.strip()) if _exists(path)), None)


def _exists(path: str) -> bool:
    with suppress(OSError, ValueError):  # a name that no file can have is none
        return path != "" and Path(path).exists()
    return False


def _is_not_utf8(text: str) -> bool:
    with suppress(UnicodeEncodeError):
        return not text.encode()
    return True
