"""A table of images: the path of each, its class where that is known, and its split. Read as data, within bounds."""

import csv
import io
import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kdal_cli.errors import UserError, printable
from kdal_cli.images.links import Links
from kdal_cli.images.listing import VALIDATION, Entry, Listing, enumerated, held_out

LARGEST = 256 << 20
"""Bytes of a table."""

COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "filepath"),
    "label": ("label", "class", "category", "target"),
    "split": ("split", "subset", "set"),
}
"""What columns may be called, whatever the case."""

SPLITS = {"": "train", "train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    VALIDATION, "validation"
)

CURE = "a table has the columns path and label, and split if you like: train, val, test"


@dataclass(frozen=True)
class Row:
    """A line of a table. number: as an editor counts. label: None where it is empty."""

    number: int
    path: str
    label: str | None
    split: str


def read(file: Path) -> list[Row]:
    """The rows of a file of comma-, semicolon- or tab-separated values, with a header; empty lines are passed over.

    UTF-8 with or without a mark, or UTF-16 with one. Raises UserError for anything else, and for unknown splits.
    """
    text = _text(file)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    rows, columns = [], None
    try:
        for cells in lines:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if columns is None:
                columns = _columns(cells, file)
                continue
            rows.append(_row(lines.line_num, cells, columns, file))
    except csv.Error as error:
        raise UserError(f"line {lines.line_num} cannot be read, {error}", where=file, cure=CURE) from None
    if not rows:
        raise UserError("this table has no image", where=file, cure=CURE)
    return rows


def listed(file: Path, root: Path, links: Links, test_share: float, named: Sequence[str]) -> Listing:
    """The images of a table, whose paths start at `root`. named: the classes, where rows name none or not all.

    Raises UserError, naming lines, for a path that leads out of the root, a file twice with two labels, a test or
    validation image without a label, and fewer than two classes.
    """
    rows, repeated = _once(read(file), file)
    found = {row.label for row in rows if row.label is not None}
    classes = tuple(named) or tuple(sorted(found))
    strange = sorted(found - set(classes))
    if strange or len(classes) < 2:
        what = (
            f"{enumerated([repr(name) for name in strange])} not in data.classes" if strange else "fewer than 2 classes"
        )
        raise UserError(what, where=file, cure="name all classes: data.classes=[cat,dog]")
    blind = [str(row.number) for row in rows if row.label is None and row.split != "train"]
    if blind:
        what = f"test or validation images without a label, in lines {enumerated(blind)}"
        raise UserError(what, where=file, cure="what is measured on needs its labels; leave split empty, or train")
    numbers = {name: label for label, name in enumerate(classes)}
    parts: dict[str, list[Entry]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        parts[row.split].append(_entry(row, numbers, root, links, file))
    known, unknown = ([e for e in parts["train"] if (e.label is None) is part] for part in (False, True))
    notes = (f"{repeated:,} images stand in {file.name} more than once, and count once",) if repeated else ()
    train, validation, test = (
        tuple(sorted(part, key=lambda e: (e.label or 0, e.path)))
        for part in (known, parts["validation"], parts["test"])
    )
    listing = Listing(root, classes, train, validation, test, notes)
    if not test and train:
        listing = held_out(listing, test_share)
    return replace(listing, train=(*listing.train, *sorted(unknown, key=lambda e: e.path)))


def _text(file: Path) -> str:
    try:
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise UserError("not a file", where=file, cure=CURE)
        if facts.st_size > LARGEST:
            raise UserError(f"a table of {facts.st_size:,} bytes", where=file, cure=f"at most {LARGEST:,} are read")
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"the table cannot be read, {error.strerror}", where=file, cure=CURE) from error
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"line {line} is not UTF-8", where=file, cure="save it as UTF-8") from None


def _delimiter(text: str) -> str:
    """Whichever of three separates the most columns of the header."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


def _columns(cells: list[str], file: Path) -> dict[str, int]:
    """{what: its place} of the columns that are read."""
    places: dict[str, int] = {}
    for what, names in COLUMNS.items():
        found = [place for place, cell in enumerate(cells) if cell.lower() in names]
        if len(found) > 1:
            raise UserError(
                f"two columns for {what}: {', '.join(cells[place] for place in found)}", where=file, cure=CURE
            )
        if found:
            places[what] = found[0]
    missing = [what for what in ("path", "label") if what not in places]
    if missing:
        what = f"no column {' and '.join(missing)} among {enumerated([repr(printable(cell)) for cell in cells])}"
        raise UserError(what, where=file, cure=CURE)
    return places


def _row(number: int, cells: list[str], columns: dict[str, int], file: Path) -> Row:
    def cell(what: str) -> str:
        place = columns.get(what, len(cells))
        return cells[place] if place < len(cells) else ""

    path, split = cell("path"), cell("split").lower()
    if not path:
        raise UserError(f"line {number} names no image", where=file, cure=CURE)
    if split not in SPLITS:
        raise UserError(f"line {number}: split {printable(split)!r}", where=file, cure="train, val or test")
    return Row(number, path, unicodedata.normalize("NFC", cell("label")) or None, SPLITS[split])


def _once(rows: list[Row], file: Path) -> tuple[list[Row], int]:
    """Each path once, and how many stood there again. Raises UserError where its rows disagree."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.path].append(row)
    for path, same in groups.items():
        if len({(row.label, row.split) for row in same}) > 1:
            lines = " and ".join(str(row.number) for row in same[:3])
            what = f"{printable(path)!r} has another label or split in lines {lines}"
            raise UserError(what, where=file, cure="one row for each image")
    return [same[0] for same in groups.values()], len(rows) - len(groups)


def _entry(row: Row, numbers: dict[str, int], root: Path, links: Links, file: Path) -> Entry:
    label = None if row.label is None else numbers[row.label]
    return entry_at(row.path, f"line {row.number}", label, root, links, file)


def entry_at(named: str, place: str, label: int | None, root: Path, links: Links, file: Path) -> Entry:
    """The file that a table names at a place. Raises UserError where it lies outside the root; one that is not there is
    a broken image."""
    path = Path(os.path.normpath(root / named))
    if "\0" in named or not path.is_relative_to(root):
        what = f"{place}: {printable(named)!r} leads out of {root}"
        raise UserError(what, where=file, cure="paths start at data.root, which is the folder of the table if not set")
    shown, real = path.relative_to(root).as_posix(), path.resolve()
    target = str(links.target(shown, path)) if real != path else ""
    try:
        facts = real.stat()
    except OSError:
        facts = None
    size = facts.st_size if facts is not None and stat.S_ISREG(facts.st_mode) else -1
    return Entry(shown, label, size, facts.st_mtime_ns if facts is not None else 0, target)
