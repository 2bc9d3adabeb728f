"""What a value of a configuration may say: itself, or where another value is, `${recipe.steps}`. It calls nothing.

No resolver, so nothing of the environment comes into a run folder by the configuration, and a run that is resumed
tomorrow reads what it read today. What references stand for is counted before any of them is followed: thirty lines of
`a: ${b}${b}` are a thousand million letters.
"""

import re
from collections.abc import Iterator
from typing import Any

from kdal_cli.errors import UserError

REFERENCE = re.compile(r"\$\{\s*(\.*)([\w-]+(?:\.[\w-]+|\[[\w-]+\])*)\s*\}")
LETTERS = 200_000
"""Of a configuration whose references are all followed; a key or a number counts as one."""

CHAIN = 16
"""References one after the other."""

Path = tuple[str | int, ...]


def refuse_calls(values: Any) -> None:
    """Raise UserError unless `values`, a configuration with nothing resolved, names values and calls nothing."""
    for path, text in _texts(values):
        if path[-1:] == ("_target_",):
            cure = "choose an option by its name; code of your own by name=package.module:thing trust=[package]"
            raise UserError(f"{dotted(path)} is set", where="a configuration cannot call code", cure=cure)
        if "\0" in text or not _encodable(text):
            raise UserError(f"{dotted(path)}={text!r} is not text", cure="letters that UTF-8 has, and no NUL")
        if "${" in REFERENCE.sub("", text):
            cure = 'name another value, ${recipe.steps}; what the environment holds, your shell says: data.root="$DATA"'
            raise UserError(f"{dotted(path)}={text}", where="a configuration cannot call code", cure=cure)
    _Extent(values).of((), values, 0)


def dotted(path: Path) -> str:
    """("loss", "kd", 0) -> loss.kd[0]"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _texts(values: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """(path, text) of every key and every text. Raises UserError for a key that is none."""
    if isinstance(values, dict):
        for key, value in values.items():
            if not isinstance(key, str):
                raise UserError(f"{dotted((*path, str(key)))} has a key that is not text", cure="put it in quotes")
            yield (*path, key), key
            yield from _texts(value, (*path, key))
    elif isinstance(values, list):
        for number, value in enumerate(values):
            yield from _texts(value, (*path, number))
    elif isinstance(values, str):
        yield path, values


def _encodable(text: str) -> bool:
    """Whether a file can hold it: half of a surrogate pair is no letter."""
    return not re.search("[\ud800-\udfff]", text)


class _Extent:
    """How many letters values have when references are followed, and how many of those come one after the other."""

    def __init__(self, values: Any) -> None:
        self.values = values
        self.known: dict[Path, tuple[int, int]] = {}

    def of(self, path: Path, value: Any, followed: int) -> tuple[int, int]:
        """(letters, longest chain) of the value at `path`. Raises UserError where that is too much or has no end."""
        if path in self.known:
            return self.known[path]
        letters, chain = len(value) + 1 if isinstance(value, str) else 1, 0
        self._refuse(path, letters, followed)
        for step, below, part in self._parts(path, value, followed):
            more, longer = self.of(below, part, followed + step)
            letters, chain = letters + 1 + more, max(chain, longer + step)
            self._refuse(path, letters, chain)
        self.known[path] = letters, chain
        return letters, chain

    def _refuse(self, path: Path, letters: int, chain: int) -> None:
        what = dotted(path) or "the configuration"
        if chain > CHAIN:
            raise UserError(f"{what} leads from reference to reference", cure=f"at most {CHAIN} one after the other")
        if letters > LETTERS:
            raise UserError(f"{what} is too much, references followed", cure=f"at most {LETTERS:,} letters")

    def _parts(self, path: Path, value: Any, followed: int) -> Iterator[tuple[int, Path, Any]]:
        """(1 where a reference leads there, path, value) of what a value is made of."""
        if isinstance(value, dict):
            yield from ((0, (*path, key), part) for key, part in value.items())
        elif isinstance(value, list):
            yield from ((0, (*path, number), part) for number, part in enumerate(value))
        elif isinstance(value, str):
            for reference in REFERENCE.finditer(value):
                if found := self._find(_named(reference, path), followed + 1):
                    yield (1, *found)

    def _find(self, path: Path, followed: int) -> tuple[Path, Any] | None:
        """(path, value) of what lies at a path that may lead through references; None where nothing does."""
        self._refuse(path, 0, followed)
        value, at = self.values, ()
        for number, part in enumerate(path):
            if isinstance(value, str) and (reference := REFERENCE.fullmatch(value.strip())):
                return self._find((*_named(reference, at), *path[number:]), followed + 1)
            if isinstance(value, list) and str(part).isdecimal() and int(part) < len(value):
                value, at = value[int(part)], (*at, int(part))
            elif isinstance(value, dict) and part in value:
                value, at = value[part], (*at, part)
            else:
                return None
        return at, value


def _named(reference: re.Match[str], path: Path) -> Path:
    """The path that a reference at `path` names: from the top, or from where it stands where it begins with dots."""
    dots, name = reference.groups()
    return (
        (*path[: len(path) - len(dots)], *re.findall(r"[\w-]+", name)) if dots else tuple(re.findall(r"[\w-]+", name))
    )
