"""A table of labels as it comes back from a spreadsheet, whatever that has made of it.

Encodings, separators, line ends, empty rows and columns, the order of rows, marks against formulas, numbers with a
decimal point, letters composed in another way: all of these change without anybody wanting it. What a person wants is
an id and a label in each row.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from kdal_cli.errors import printable
from kdal_cli.labels.naming import CANNOT_TELL, NONE_OF_THESE, UNDECIDED, Spelling, Unnameable, folded

LARGEST = 1 << 26
"""Bytes of a table that is read."""

SEPARATORS = ",;\t"
SIGNS = {"?": CANNOT_TELL, "-": NONE_OF_THESE}
"""What is typed for them."""

MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16")

WIDEST = 1 << 16
"""Characters of a cell."""


@dataclass
class Filled:
    """What a table says. labels: {id: class, or what was said instead of one}. problems: each with its row."""

    labels: dict[int, int | str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_table(data: bytes, wanted: Sequence[int], classes: Sequence[str], spelling: Spelling | None = None) -> Filled:
    """What a table says about the images `wanted`. Rows whose label is empty say nothing.

    spelling: of names, where one may be written that is no class: it is the label then.
    """
    filled, meant = Filled(), Meanings(classes, spelling)
    try:
        rows = list(_rows(_text(data)))
    except csv.Error as error:
        filled.problems.append(f"this is no table: {error}")
        return filled
    head = [cell.strip().strip("'").casefold() for cell in rows[0][1]] if rows else []
    if [head.count(name) for name in ("id", "label")] != [1, 1]:
        filled.problems.append("row 1: columns id and label are needed, once each")
        return filled
    first_at: dict[int, int] = {}
    known = set(wanted)
    for number, cells in rows[1:]:
        told = dict(zip(head, cells, strict=False))
        _take(number, told.get("id", ""), told.get("label", ""), filled, first_at, known, meant)
    missing = [id for id in wanted if id not in first_at]
    filled.problems += [f"image {id} has no row" for id in missing]
    return filled


class Meanings:
    """Class names by what may be typed for them: the name itself, or else one that differs in case, spaces or accents'
    composition; a number of a class that is called by one, with a decimal point or an exponent."""

    def __init__(self, classes: Sequence[str], spelling: Spelling | None = None) -> None:
        self.spelling = spelling
        self.exact: dict[str, int | str] = {**SIGNS, **{name: name for name in UNDECIDED}}
        self.exact |= {name: label for label, name in enumerate(classes)}
        several: dict[str, list[int | str]] = {}
        for name, meaning in self.exact.items():
            several.setdefault(folded(name), []).append(meaning)
        self.folded: Mapping[str, list[int | str]] = several

    def of(self, typed: str) -> int | str | None:
        """What was meant; None for nothing that is known, or for several."""
        for text in (typed, typed.strip(), _unguarded(typed)):
            if text in self.exact:
                return self.exact[text]
        number = _whole(typed)
        for text in (typed, _unguarded(typed), *([str(number)] if number is not None else [])):
            if len(found := self.folded.get(folded(text), [])) == 1:
                return found[0]
        with suppress(Unnameable):
            return self.spelling.meant(_unguarded(typed)) if self.spelling is not None else None
        return None


def _take(
    number: int,
    id_cell: str,
    label_cell: str,
    filled: Filled,
    first_at: dict[int, int],
    known: set[int],
    meant: Meanings,
) -> None:
    """A row of the table into what is known of it so far."""
    id = _whole(id_cell)
    if id is None or id not in known:
        told = f"{printable(id_cell)!r} is the id of no image that was asked about" if id_cell.strip() else "no id"
        filled.problems.append(f"row {number}: {told}")
        return
    label = meant.of(label_cell) if label_cell.strip() else None
    if label_cell.strip() and label is None:
        filled.problems.append(f"row {number}: {printable(label_cell)!r} is no class")
    if id in first_at and filled.labels.get(id) != label:
        filled.problems.append(f"row {number}: image {id} has another label in row {first_at[id]}")
    first_at.setdefault(id, number)
    if label is not None:
        filled.labels.setdefault(id, label)


def _text(data: bytes) -> str:
    for mark, encoding in zip(MARKS, ENCODINGS, strict=True):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    if data[1:2] == b"\0" or data[:1] == b"\0":
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """(number as a spreadsheet counts, cells) of each row that is not empty."""
    text = text.replace("\0", "")
    first = next((line for line in text.splitlines() if line.strip()), "")
    if named := re.fullmatch(r"sep=(.)", first.strip()):  # Excel's own first line
        separator, text = named.group(1), text.split("\n", 1)[-1]
    else:
        separator = max(SEPARATORS, key=first.count)
    before = csv.field_size_limit(WIDEST)
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=separator), 1):
            if any(cell.strip() for cell in cells):
                yield number, cells
    finally:
        csv.field_size_limit(before)


def _whole(cell: str) -> int | None:
    """12, 12.0, 12,0, 1.2E+01 and '12 are 12."""
    text = _unguarded(cell).replace(",", ".")
    if len(text) > 40 or not re.fullmatch(r"\d+(\.\d*)?([eE][+]?\d{1,2})?", text):
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return int(number) if number == number.to_integral_value() else None


def _unguarded(cell: str) -> str:
    return cell.strip().removeprefix("'").strip()
