"""Other people's text, made harmless where it is shown: on a terminal, in a log, in a spreadsheet. And plurals.

Class names, paths and what files say come from outside. Standard library only: the console script imports it first.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_LINE_BREAKS = "\t\n\v\f\r\x85\u2028\u2029"
_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Unicode's classes of marks that turn the direction of writing: with them a name can look like another."""

_FORMULA = re.compile(r"[=+\-@\t\n＝＋－＠]")
"""How a cell begins that a spreadsheet computes."""


def clean(text: object) -> str:
    """`text` on one line, without the characters that command a terminal rather than print.

    Line breaks and tabs become spaces; control characters (escape, bell, backspace, C1), marks that turn the direction
    of writing and halves of surrogate pairs (file names that are not UTF-8) are removed. What is left of an escape
    sequence shows as the letters that it is.
    """
    return "".join(" " if char in _LINE_BREAKS else char for char in str(text) if _prints(char))


def clean_lines(text: str) -> str:
    """Several lines, each of them clean and indented as it was."""
    return "".join(f"{clean(line)}\n" for line in text.splitlines())


def several(count: int, thing: str) -> str:
    """`1 label`, `2,000 labels`."""
    return f"{count:,} {thing}{'s' * (count != 1)}"


def plain_cell(text: str) -> str:
    """Text that a spreadsheet will not take for a formula, and that stays in its cell."""
    text = "".join(char if char in "\t\n" else _named(char) for char in text)
    return f"'{text}" if _FORMULA.match(text) else text


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a table: its names and texts as plain cells; what is a number stays one, as text too."""
    texts = {key for key, value in row.items() if isinstance(value, str) and not _is_number(value)}
    return {plain_cell(key): plain_cell(value) if key in texts else value for key, value in row.items()}


def _named(char: str) -> str:
    r"""A character; one that does not print, as it is written in code: \x1b."""
    prints = _prints(char) and char not in _LINE_BREAKS
    return char if prints else char.encode("unicode_escape", "surrogatepass").decode()


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", text) is not None


def _prints(char: str) -> bool:
    if char in _LINE_BREAKS:
        return True
    return unicodedata.category(char) not in {"Cc", "Cs"} and unicodedata.bidirectional(char) not in _TURNS
