"""An index over many run folders, so that thousands of them are listed at once.

`index.sqlite` lies beside the runs and is never the truth: a row is made anew when a file of its run has changed, and
the whole is made anew when it is damaged or gone. Where it cannot be written, or another process holds it for long, the
runs are read without it.
"""

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from kdal_cli.errors import UserError
from kdal_cli.study.records import Record, read, run_folders

NAME = "index.sqlite"
FORMAT = 1
"""Raised when a row means something else than before."""

WATCHED = ("manifest.json", "curve.csv", "timings.csv", "result.json")
"""Files of a run by which it is seen to have changed."""


def index(top: Path) -> tuple[list[Record], list[str]]:
    """(every run below a folder in the order they started, what could not be read, in words).

    Reads anew what has changed since. Raises UserError where there is no such folder.
    """
    if not top.is_dir():
        raise UserError("no such folder", where=top, cure="name a folder of runs, such as outputs")
    try:
        return _brought_up_to_date(top, top / NAME)
    except sqlite3.OperationalError:
        pass
    except sqlite3.DatabaseError:
        with suppress(OSError):
            (top / NAME).unlink()
    return _brought_up_to_date(top, ":memory:")


def _brought_up_to_date(top: Path, path: Path | str) -> tuple[list[Record], list[str]]:
    damage: list[str] = []
    with closing(_connected(path)) as table:
        known = dict(table.execute("SELECT folder, stamp FROM runs"))
        there: set[str] = set()
        for folder in run_folders(top):
            name, stamp = str(folder.relative_to(top)), _stamp(folder)
            there.add(name)
            if known.get(name) != stamp:
                try:
                    row = json.dumps(_packed(read(folder)))
                except UserError as error:
                    damage.append(str(error))
                    there.discard(name)
                    continue
                table.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", (name, stamp, row))
        table.executemany("DELETE FROM runs WHERE folder = ?", [(name,) for name in known.keys() - there])
        rows = table.execute("SELECT folder, record FROM runs").fetchall()
        table.commit()
    records = [Record(top / folder, **json.loads(packed)) for folder, packed in rows]
    return sorted(records, key=lambda record: (record.started, record.folder)), damage


def _packed(record: Record) -> dict[str, object]:
    """What the index keeps of a run: of its rounds the last."""
    kept = {key: value for key, value in vars(record).items() if key not in ("folder", "rounds", "keys")}
    return {**kept, "rounds": record.rounds[-1:]}


def _stamp(folder: Path) -> str:
    """Changes when a file of the run does."""
    found = []
    for name in WATCHED:
        try:
            about = (folder / name).stat()
        except OSError:
            found.append("-")
        else:
            found.append(f"{about.st_mtime_ns}:{about.st_size}")
    return " ".join(found)


def _connected(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != FORMAT:
            connection.execute("DROP TABLE IF EXISTS runs")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("CREATE TABLE IF NOT EXISTS runs (folder TEXT PRIMARY KEY, stamp TEXT, record TEXT)")
    except BaseException:
        connection.close()
        raise
    return connection
