"""Which image files a person means: files, folders, patterns, lists; found one by one, and never held in memory.

What is typed is trusted, so a link that is typed is followed. A link that is found in a folder is not: it comes back
as a path, and whoever opens it says what it is.
"""

import csv
import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from kdal_cli.errors import UserError

LONGEST = 1 << 14
"""Characters of a line of a list."""

PATHS = ("path", "file", "filename", "image")
"""Names of the column of paths, in the order in which they are looked for."""

STDIN = "-"
ACCEPTED = "a file, a folder, a pattern such as 'photos/*.jpg', a .csv with a column of paths, or - for a list"


def image_files(words: Iterable[str]) -> Iterator[Path]:
    """Every file that the words stand for, in order; visible ones alone where a folder is named.

    Raises UserError for a word that stands for nothing, before the first file is given where that can be told.
    """
    checked = [(word, _there(word)) for word in words]
    return (path for word, there in checked for path in _of(word, there))


def _there(word: str) -> Path | None:
    """The path that a word is, or that it leads to; None for a pattern and for the standard input."""
    if word == STDIN:
        return None
    path = Path(os.path.expanduser(word))  # noqa: PTH111 (a user who is not there is no error)
    if path.exists():
        return path.resolve() if path.is_symlink() else path
    if glob.has_magic(word) and next(glob.iglob(word, recursive=True), None) is not None:  # noqa: PTH207 (a generator)
        return None
    raise UserError(f"{word} is not there", cure=f"accepted: {ACCEPTED}")


def _of(word: str, there: Path | None) -> Iterator[Path]:
    if word == STDIN:
        yield from _listed(sys.stdin)
    elif there is None:
        for name in glob.iglob(word, recursive=True):  # noqa: PTH207
            path = Path(name)
            yield from _below(path) if path.is_dir() and not path.is_symlink() else (path,)
    elif there.is_dir():
        yield from _below(there)
    elif there.suffix.lower() == ".csv":
        yield from _of_csv(there)
    else:
        yield there


def _below(folder: Path) -> Iterator[Path]:
    """Every visible thing at or below a folder that is no folder itself, a folder at a time."""
    try:
        with os.scandir(folder) as items:
            found = sorted((item.name, item.is_dir(follow_symlinks=False)) for item in items if item.name[0] != ".")
    except OSError as error:
        raise UserError(f"the folder cannot be read: {error.strerror}", where=folder) from error
    for name, is_folder in found:
        if is_folder:
            yield from _below(folder / name)
        else:
            yield folder / name


def _listed(lines: TextIO) -> Iterator[Path]:
    """A path a line; empty lines are passed over."""
    number = 0
    while line := lines.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise UserError(
                f"line {number} is longer than {LONGEST:,} characters", where="the list", cure="a path a line"
            )
        if path := line.rstrip("\r\n"):
            yield Path(path)


def _of_csv(file: Path) -> Iterator[Path]:
    """The paths in a table with a header; relative ones start where the table is."""
    try:
        opened = file.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise UserError(f"this table cannot be read: {error.strerror}", where=file, cure="allow it") from None
    with opened as table:
        rows = csv.reader(_bounded(table, file))
        try:
            header = [name.strip().lower() for name in next(rows, [])]
            column = next((header.index(name) for name in PATHS if name in header), None)
            if column is None:
                cure = f"a header with one of {', '.join(PATHS)}"
                raise UserError("this table has no column of paths", where=file, cure=cure)
            for row in rows:
                if len(row) > column and row[column]:
                    yield file.parent / row[column]
        except csv.Error as error:
            raise UserError(
                f"line {rows.line_num} cannot be read: {error}", where=file, cure="save it as CSV"
            ) from None


def _bounded(table: TextIO, file: Path) -> Iterator[str]:
    while line := table.readline(LONGEST + 1):
        if len(line) > LONGEST:
            raise UserError(f"a line is longer than {LONGEST:,} characters", where=file, cure="save it as CSV")
        yield line
