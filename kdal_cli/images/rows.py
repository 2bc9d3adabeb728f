"""Images that are no files of their own, but values in rows of Parquet files."""

import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from kdal_cli.images.listing import Entry
from kdal_cli.images.opening import ROOM, Unreadable, regular

HELD = 4
"""Row groups in memory: as many as threads that decode in order are in at a time."""


class Rows:
    """What opens an entry: by its place, (file, row group, row in it), or, where it has none, its file below `root`.

    struct: whether the column is one of (bytes, path).
    """

    def __init__(self, root: Path, places: Mapping[str, tuple[Path, int, int]], column: str, struct: bool) -> None:
        self.root, self.places, self.column, self.struct = root, places, column, struct
        self._groups: OrderedDict[tuple[Path, int], Any] = OrderedDict()
        self._lock = Lock()

    @contextmanager
    def open(self, entry: Entry) -> Iterator[BinaryIO]:
        """The bytes of an image. Raises Unreadable for none, and for too many."""
        if entry.path not in self.places:
            with regular(entry.file(self.root)) as own:
                yield own
            return
        file, group, row = self.places[entry.path]
        value = self._group(file, group)[row].as_py()
        if not value:
            raise Unreadable("empty")
        if len(value) > ROOM:
            raise Unreadable(f"an image of {len(value):,} bytes")
        yield io.BytesIO(value)

    def _group(self, file: Path, group: int) -> Any:
        """The images of a row group, (rows,) of bytes."""
        import pyarrow.parquet as parquet

        with self._lock:
            key = (file, group)
            if key not in self._groups:
                name = f"{self.column}.bytes" if self.struct else self.column
                column = parquet.ParquetFile(file).read_row_group(group, columns=[name]).column(self.column)
                whole = column.combine_chunks()
                self._groups[key] = whole.field("bytes") if self.struct else whole
                while len(self._groups) > HELD:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(key)
            return self._groups[key]
