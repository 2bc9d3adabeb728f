"""Images in Parquet files, as Hugging Face's `datasets` lays them out: bytes, or the path of a file, and a label.

pyarrow is an extra, and imported when there is something to read.
"""

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from kdal_cli.errors import UserError, nearest, printable
from kdal_cli.images.links import Folder, Links
from kdal_cli.images.listing import Entry, Listing, enumerated, held_out
from kdal_cli.images.rows import Rows
from kdal_cli.images.table import COLUMNS, SPLITS, entry_at

CURE = "a Parquet file, or a folder of them named after their split: train-00000-of-00001.parquet"
IMAGES = (*COLUMNS["path"], "img")
LABELS = COLUMNS["label"]

LARGEST_GROUP = 1 << 30
"""Bytes of a row group once it is read: 100 or 1,000 images are customary."""


@dataclass(frozen=True)
class Columns:
    """Where a file has its images and, if it does, their labels. struct: whether images are (bytes, path).

    names: of the classes, where the file tells them.
    """

    image: str
    struct: bool
    label: str | None
    names: tuple[str, ...] = ()


def package() -> ModuleType:
    """pyarrow's `parquet`. Raises UserError where it is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError("data=parquet needs the package pyarrow", cure="pip install 'kdal[parquet]'")
    import pyarrow.parquet as module

    return module


def listed(
    path: Path,
    root: Path,
    links: Links,
    test_share: float,
    classes: Sequence[str],
    image: str | None,
    label: str | None,
) -> tuple[Listing, Rows]:
    """The images of a file or of all files below a folder, and what opens those that lie in rows.

    root: where paths of files start. classes: names, where the files tell none or images have no label. image, label:
    names of columns, where they are not told by type or name. Raises UserError, naming file and row, for what cannot
    be: other columns in one file than in another, a label that is no class, a test image without one.
    """
    read, parts = package(), {"train": [], "validation": [], "test": []}
    places: dict[str, tuple[Path, int, int]] = {}
    known: list[tuple[str, Entry, Any]] = []
    columns: Columns | None = None
    for split, file, shown in _files(path, links):
        table = _opened(read, file)
        own = _columns(table.schema_arrow, file, image, label)
        if columns is not None and own != columns:
            raise UserError("other columns or classes than in the files before", where=file, cure=CURE)
        columns = own
        with _sound(file):
            for place, entry, value in _rows(table, own, file, shown, root, links):
                known.append((split, entry, value))
                if place is not None:
                    places[entry.path] = place
    if columns is None or not known:
        raise UserError("there is no image in it", where=path, cure=CURE)
    named, numbers = _classes([value for *_, value in known], tuple(classes) or columns.names, path)
    for split, entry, value in known:
        parts[split].append(entry._replace(label=_number(value, numbers, len(named), entry.path)))
    blind = [e.path for part in (parts["validation"], parts["test"]) for e in part if e.label is None]
    if blind:
        cure = "what is measured on needs its labels: leave these files out"
        raise UserError(f"test or validation images without a label: {enumerated(blind)}", where=path, cure=cure)
    train, unknown = ([e for e in parts["train"] if (e.label is None) is gone] for gone in (False, True))
    listing = Listing(root, named, tuple(train), tuple(parts["validation"]), tuple(parts["test"]))
    if not parts["test"] and train:
        listing = held_out(listing, test_share)
    return replace(listing, train=(*listing.train, *unknown)), Rows(root, places, columns.image, columns.struct)


def _files(path: Path, links: Links) -> Iterator[tuple[str, Path, str]]:
    """(split, file, its name below the folder) of each, in the order of their names."""
    if path.is_file():
        yield "train", path.resolve(), path.name
        return
    if not path.is_dir():
        raise UserError("there is no such file or folder", where=path, cure=CURE)
    top = path.resolve()
    found = list(_below(Folder.top(top, replace(links, root=top))))
    if not found:
        raise UserError("there is no .parquet in this folder", where=path, cure=CURE)
    told = {name: _split_of(name) for name, _ in found}
    strange = [name for name, split in told.items() if split is None]
    if strange and len(strange) < len(found):
        raise UserError(f"of which split is {enumerated(strange)}", where=path, cure=CURE)
    yield from ((told[name] or "train", real, name) for name, real in found)


def _below(folder: Folder) -> Iterator[tuple[str, Path]]:
    for item in folder.items():
        if isinstance(item, Folder):
            yield from _below(item)
        elif item.name.endswith(".parquet"):
            yield item.path, item.target or folder.links.root / item.path


def _split_of(name: str) -> str | None:
    """By the first word of the file's name, or else of the folder next above that is called after one."""
    words = [re.split(r"[^a-z]+", part.lower(), maxsplit=1)[0] for part in reversed(name.split("/"))]
    return next((SPLITS[word] for word in words if word and word in SPLITS), None)


def _opened(read: ModuleType, file: Path) -> Any:
    """A Parquet file. Raises UserError for anything else, and for row groups too large to be read."""
    with _sound(file):
        table = read.ParquetFile(file)
        about = table.metadata
        size = max((about.row_group(n).total_byte_size for n in range(about.num_row_groups)), default=0)
    if size > LARGEST_GROUP:
        cure = "write it anew with a smaller row_group_size: 100"
        raise UserError(f"a row group of {size:,} bytes", where=file, cure=cure)
    return table


@contextmanager
def _sound(file: Path) -> Iterator[None]:
    """A file that is damaged is refused in a line, whatever pyarrow makes of it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"no Parquet file: {printable(reason, 120)}", where=file, cure=CURE) from None


def _columns(schema: Any, file: Path, image: str | None, label: str | None) -> Columns:
    """The columns of a file: those that are named, else by the features that `datasets` writes, else by usual names."""
    features = _features(schema)
    images = [name for name, about in features.items() if about.get("_type") == "Image"]
    labels = [name for name, about in features.items() if about.get("_type") == "ClassLabel"]
    image = _column("image", image, images or [name for name in schema.names if name.lower() in IMAGES], schema, file)
    usual = labels or [name for name in schema.names if name.lower() in LABELS and name != image]
    label = _column("label", label, usual, schema, file) if label or usual else None
    assert image is not None
    kind = schema.field(image).type
    inner = {kind.field(n).name for n in range(kind.num_fields)}
    if not {"bytes", "path"} <= inner and str(kind) not in ("string", "large_string", "binary", "large_binary"):
        raise UserError(f"column {image} holds {printable(kind)}", where=file, cure="bytes, paths, or both in a struct")
    names = features.get(label or "", {}).get("names")
    told = tuple(map(str, names)) if isinstance(names, list) else ()
    return Columns(image, bool(inner), label, told)


def _column(what: str, named: str | None, found: Sequence[str], schema: Any, file: Path) -> str:
    """The one column of its kind. Raises UserError for none, and for several of which none is named."""
    if named is not None:
        if named not in schema.names:
            where = f"no such column in {file}"
            raise UserError(f"data.{what}={named}", where=where, cure=nearest(named, schema.names))
        return named
    if len(found) != 1:
        told = f"several columns may be the {what}: {enumerated(list(found))}" if found else f"no column is the {what}"
        raise UserError(told, where=file, cure=f"name it: data.{what}=COLUMN, of {enumerated(schema.names)}")
    return found[0]


def _features(schema: Any) -> Mapping[str, Mapping[str, Any]]:
    """What `datasets` has written about the columns; empty where it has not, or cannot be read."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): each for name, each in about.items() if isinstance(each, dict) and name in schema.names}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _rows(
    table: Any, columns: Columns, file: Path, shown: str, root: Path, links: Links
) -> Iterator[tuple[tuple[Path, int, int] | None, Entry, Any]]:
    """(where its bytes are, entry, label as it is written) of each row; an image without bytes is the file it names."""
    facts, number = file.stat(), 0
    struct, named = columns.struct, [columns.label] if columns.label else []
    is_path = not struct and "string" in str(table.schema_arrow.field(columns.image).type)
    for group in range(table.num_row_groups):
        wanted = [*named, *([f"{columns.image}.path"] if struct else [columns.image] if is_path else [])]
        part = table.read_row_group(group, columns=wanted) if wanted else None
        count = table.metadata.row_group(group).num_rows
        labels = part.column(columns.label).to_pylist() if part is not None and columns.label else [None] * count
        images = part.column(columns.image).to_pylist() if part is not None and (struct or is_path) else [None] * count
        there = [not is_path] * count if not struct else _has_bytes(table, group, columns.image, count)
        for offset, (value, image, has_bytes) in enumerate(zip(labels, images, there, strict=True)):
            number += 1
            name = f"{shown}:{number}"
            if has_bytes:
                yield (file, group, offset), Entry(name, None, facts.st_size, facts.st_mtime_ns), value
                continue
            path = (image or {}).get("path") if struct else image
            entry = entry_at(path, f"row {number}", None, root, links, file) if path else Entry(name, None, 0, 0)
            yield None, entry, value


def _has_bytes(table: Any, group: int, image: str, count: int) -> list[bool]:
    """Of each row of a group, by its statistics where these tell, else by a look at all of them."""
    about = table.metadata.row_group(group)
    chunks = (about.column(n) for n in range(about.num_columns))
    facts = next((chunk.statistics for chunk in chunks if chunk.path_in_schema == f"{image}.bytes"), None)
    if facts is not None and facts.has_null_count and facts.null_count in (0, count):
        return [facts.null_count == 0] * count
    column = table.read_row_group(group, columns=[f"{image}.bytes"]).column(image).combine_chunks()
    return column.field("bytes").is_valid().to_pylist()


def _classes(values: Sequence[Any], names: tuple[str, ...], path: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """(class names, their numbers). Without names, those of the labels: texts in order, or whole numbers from 0."""
    texts = sorted({value for value in values if isinstance(value, str) and value})
    wholes = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    odd = next((value for value in values if not isinstance(value, str | int | None) or isinstance(value, bool)), None)
    if odd is not None or (texts and wholes):
        what = f"a label is {printable(repr(odd))}" if odd is not None else "labels are texts and numbers"
        raise UserError(what, where=path, cure="either texts, or whole numbers")
    names = names or tuple(texts) or tuple(str(n) for n in range(max(wholes, default=-1) + 1))
    if len(names) < 2:
        raise UserError("fewer than 2 classes", where=path, cure="name all classes: data.classes=[cat,dog]")
    return names, {name: number for number, name in enumerate(names)}


def _number(value: Any, numbers: Mapping[str, int], classes: int, where: str) -> int | None:
    """The class of a label as it is written; None where there is none: null, an empty text, or −1."""
    if value is None or value == "" or value == -1:
        return None
    if isinstance(value, str):
        if value not in numbers:
            raise UserError(f"{printable(value)!r} not in data.classes", where=where, cure="name all classes")
        return numbers[value]
    if not 0 <= value < classes:
        raise UserError(f"label {value}", where=where, cure=f"labels are from 0 to {classes - 1}, and -1 for none")
    return value
