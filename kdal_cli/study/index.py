"""An index over many run folders, so that thousands of them are listed at once.

`index.sqlite` lies beside the runs and is never the truth: a row is made anew when a file of its run has changed, or
when the row is not what was written there. The file is read whole and replaced whole, so that nothing is ever locked.
One that is not ours stays as it is, and where none can be written the runs are read without.
"""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from kdal_cli.errors import KdalError, UserError
from kdal_cli.records.files import hold, read_bytes, sha256, write_bytes
from kdal_cli.records.seals import NAME as SEALS
from kdal_cli.study.records import Record, read, run_folders

NAME = "index.sqlite"
FORMAT = 2
"""Raised when a row means something else than before."""

OURS = int.from_bytes(b"kdal")
"""The application that SQLite is told the file belongs to."""

TABLE = "CREATE TABLE runs (folder TEXT PRIMARY KEY, stamp TEXT, record TEXT, sha256 TEXT)"

LARGEST = 1 << 28
"""Bytes of an index: of a hundred thousand runs."""

WATCHED = ("manifest.json", "curve.csv", "timings.csv", "classes.csv", "result.json", SEALS)
"""Files of a run by which it is seen to have changed."""

KINDS = {"stage": str, "seed": int, "done": bool, "settings": dict, "choices": dict, "started": str, "rounds": list}
"""What the fields of a record are."""

Rows = dict[str, tuple[str, str]]
"""{folder: (stamp, record as JSON, with the last round alone)}"""


def index(top: Path) -> tuple[list[Record], list[str]]:
    """(every run below a folder in the order they started, what could not be read, in words).

    Reads anew what has changed since. Raises UserError where there is no such folder.
    """
    if not top.is_dir():
        raise UserError("no such folder", where=top, cure="name a folder of runs, such as outputs")
    known, notes = _kept(top / NAME)
    rows: Rows = {}
    records = []
    for folder in run_folders(top):
        name, stamp = str(folder.relative_to(top)), _stamp(folder)
        before, packed = (known or {}).get(name, ("", ""))
        packed = packed if before == stamp else ""
        record = _unpacked(folder, packed)
        if record is None:
            try:
                whole = read(folder)
            except KdalError as error:
                notes.append(str(error))
                continue
            record = replace(whole, rounds=whole.rounds[-1:])
            packed = json.dumps({key: value for key, value in vars(record).items() if key not in ("folder", "keys")})
        records.append(record)
        rows[name] = stamp, packed
    if known is not None and rows != known:
        _keep(top, rows)
    return sorted(records, key=lambda record: (record.started, record.folder)), notes


def _kept(path: Path) -> tuple[Rows | None, list[str]]:
    """(what an index holds, notes). None for a file that is not ours: it is neither read nor replaced."""
    if not path.exists():
        return {}, []
    try:
        data = read_bytes(path, LARGEST)
    except KdalError as error:
        return None, [f"no index: {error}"]
    if data[68:72] != OURS.to_bytes(4):  # where the file format of SQLite has the application
        return None, [f"no index: {path} belongs to something else; it stays as it is"]
    try:
        return _rows(data), []
    except (sqlite3.Error, ValueError, TypeError):
        return {}, []


def _rows(data: bytes) -> Rows:
    """The rows that are what was written there. Raises sqlite3.Error or ValueError for another database."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(data)
        connection.execute("PRAGMA trusted_schema = OFF")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        schema = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
        if version != FORMAT or schema != [(TABLE,)]:
            raise ValueError("of another version")
        found = connection.execute("SELECT folder, stamp, record, sha256 FROM runs").fetchall()
    return {folder: (stamp, record) for folder, stamp, record, digest in found if digest == sha256([stamp, record])}


def _keep(top: Path, rows: Rows) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"PRAGMA application_id = {OURS}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute(TABLE)
        lines = [(folder, stamp, record, sha256([stamp, record])) for folder, (stamp, record) in rows.items()]
        connection.executemany("INSERT INTO runs VALUES (?, ?, ?, ?)", lines)
        connection.commit()
        data = connection.serialize()
    try:
        write_bytes(hold(top) / NAME, data)
    except KdalError:
        return  # read-only, or full: the runs are read again next time


def _unpacked(folder: Path, packed: str) -> Record | None:
    """The run that a row is about, or None for what nobody has packed: who sends a folder may have made its index."""
    try:
        record = Record(folder, **json.loads(packed))
        sound = all(isinstance(getattr(record, key), kind) for key, kind in KINDS.items())
        numbers = [*record.result.values(), *(value for row in record.rounds for value in row.values())]
        values = [*record.settings.values(), *record.choices.values()]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    sound = sound and all(isinstance(number, int | float) for number in numbers)
    return record if sound and not any(isinstance(value, dict | list) for value in values) else None


def _stamp(folder: Path) -> str:
    """Changes when a file of the run does."""
    found = []
    for name in WATCHED:
        try:
            about = (folder / name).lstat()
        except OSError:
            found.append("-")
        else:
            found.append(f"{about.st_mtime_ns}:{about.st_size}")
    return " ".join(found)
