"""Images on disk, ready to be read: whole or not there, checked when opened, one writer at a time.

A store is a folder: for `train` and `test` either pixels, `.npy`, (N, c, H, W) uint8 to be memory-mapped, or JPEGs one
behind the other, `.jpegs`, to be decoded on demand; beside each a table, `.rows.npy`, with a row an image; and
`index.json`, which says what was found out while they were decoded, and carries the seals of the others and its own.
Which file and which label a row has is not read from there: it follows from the listing. Links in a store are not
followed, and whatever the umask, nobody but the owner can write to it.
"""

import fcntl
import json
import math
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kdal_cli.errors import MachineError, UserError
from kdal_cli.images.decode import Found, Taken
from kdal_cli.images.depth import Ranges
from kdal_cli.images.packed import Packed
from kdal_cli.images.pixels import (
    FOLDER_MODE,
    HEAD,
    SIDES,
    make_folder,
    open_pack,
    open_pixels,
    open_table,
    reading,
    write_pack,
    write_pixels,
    write_table,
    writing,
)
from kdal_cli.images.seals import Seal
from kdal_cli.images.statistics import Twins
from kdal_cli.records.files import sha256, sync_folder, write_json
from kdal_cli.types import Watcher

INDEX, SPLITS = "index.json", ("train", "test")
COUNTS = ("transparent", "deep", "faint", "turned")
"""What is counted of the images of a part, see `images.decode.Found`."""


@dataclass(frozen=True)
class Part:
    """One split in a store: the seals of its images and of its table, and what was found out about its images."""

    images: Seal
    table: Seal
    found: Found


@dataclass(frozen=True)
class Index:
    """What a store holds. ranges: what became 0 to 255 of images of more than 8 bits. mean, std: of the training
    images, per channel, from 0 to 1."""

    train: Part
    test: Part
    ranges: Ranges
    mean: tuple[float, ...]
    std: tuple[float, ...]
    twins: Twins

    @property
    def found(self) -> Found:
        """Of both parts together."""
        return self.train.found.joined(self.test.found)


@dataclass(frozen=True)
class Form:
    """How images lie in a store: of `shape` (c, H, W), as pixels, or as JPEGs of a `quality` from 1 to 100."""

    shape: tuple[int, int, int]
    quality: int | None = None

    @property
    def columns(self) -> int:
        return 2 if self.quality is None else 4

    def file(self, split: str) -> str:
        return f"{split}.{'npy' if self.quality is None else 'jpegs'}"

    def write(self, home: Path, split: str, images: Iterable[Taken], about: Callable[[], Found]) -> Part:
        """Stream the images of a split. about: what came to light about them, asked when all are written."""
        path = home / self.file(split)
        if self.quality is None:
            seal, places = write_pixels(path, (taken.picture.pixels for taken in images), self.shape), None
        else:
            seal, places = write_pack(path, (taken.jpeg for taken in images))
        found = about()
        table = found.sizes if places is None else np.concatenate([found.sizes, places], 1)
        return Part(seal, write_table(home / _table(split), table.astype(np.int64)), found)

    def open(self, home: Path, split: str) -> Tensor | Packed:
        """The images of a split. Raises ValueError or OSError where the files hold anything else."""
        if self.quality is None:
            return open_pixels(home / self.file(split))
        return open_pack(home / self.file(split), open_table(home / _table(split)), self.shape)


@contextmanager
def locked(path: Path, watcher: Watcher) -> Iterator[None]:
    """Hold the lock file at `path`; wait, and say so, while another process holds it. It is released even by a kill."""
    make_folder(path.parent)
    with writing(path, 0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            watcher.say(f"another process is preparing the same data; waiting for it ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def building(home: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `home` when the block ends well, and vanishes when it does not.

    To be called under the lock of `home`: what a killed process left behind is swept first. A damaged `home` is
    replaced; whoever has it mapped keeps what they see. Raises MachineError when the disk is full or read-only.
    """
    draft = home.with_name(f"{home.name}.part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        make_folder(home.parent)
        draft.mkdir(FOLDER_MODE)
        yield draft
        sync_folder(draft)
        shutil.rmtree(home, ignore_errors=True)
        draft.replace(home)
        sync_folder(home.parent)
    except OSError as error:
        cure = "make room there, or set data.store to another folder"
        raise MachineError(f"decoded images cannot be written, {error.strerror}", where=home, cure=cure) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_index(home: Path, index: Index) -> None:
    body = {split: _told(getattr(index, split)) for split in SPLITS}
    body |= {"ranges": index.ranges, "mean": index.mean, "std": index.std, "twins": asdict(index.twins)}
    write_json(home / INDEX, {"sha256": sha256(body), "body": body})


def read_index(home: Path, paths: Mapping[str, Sequence[str]], form: Form, watcher: Watcher) -> Index | None:
    """The index of a store that is as it was written; None where there is none, with a word if damaged.

    paths: of the images that each split was made from.
    Raises UserError where the store, or a file in it, is a link.
    """
    for path in (home, *(home / name for split in SPLITS for name in (form.file(split), _table(split))), home / INDEX):
        if path.is_symlink():
            cure = "remove it, or set data.store to another folder"
            raise UserError("links in a store of images are not followed", where=path, cure=cure)
    if not home.exists():
        return None
    watcher.begin("checking decoded images", len(paths))
    try:
        index = _index(home)
        sound = all(_matches(home, split, getattr(index, split), paths[split], form, watcher) for split in SPLITS)
        if sound and len(index.mean) == len(index.std) == form.shape[0]:
            return index
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        pass  # whatever is wrong, it is not what was written
    finally:
        watcher.end()
    watcher.say(f"the decoded images in {home} are damaged; decoding again")
    return None


def damaged(home: Path) -> list[str]:
    """The files of a store that are not what was written there, after reading every byte; the index, if it is that."""
    try:
        index = _index(home)
        quality = None if (home / Form((0, 0, 0)).file("train")).exists() else 1
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return [INDEX]
    form, found = Form((0, 0, 0), quality), []
    for split in SPLITS:
        part: Part = getattr(index, split)
        for name, seal, skip in _files(split, part, form):
            try:
                with reading(home / name) as file:
                    sound = seal.fits(file, skip, whole=True)
            except OSError:
                sound = False
            found += [] if sound else [name]
    return found


def _table(split: str) -> str:
    return f"{split}.rows.npy"


def _files(split: str, part: Part, form: Form) -> Iterator[tuple[str, Seal, int]]:
    """(name, seal, bytes before what is sealed) of the files of a split."""
    yield form.file(split), part.images, HEAD if form.quality is None else 0
    yield _table(split), part.table, 0


def _matches(home: Path, split: str, part: Part, files: Sequence[str], form: Form, watcher: Watcher) -> bool:
    """Whether the images are those that were written, as many as the index leaves of those at paths `files`."""
    images, table = form.open(home, split), open_table(home / _table(split))
    rows = len(files) - len(part.found.broken)
    if not part.found.broken.keys() <= set(files) or images.shape != (rows, *form.shape):
        return False
    sides = table[:, SIDES]
    if table.shape != (rows, form.columns) or not ((sides > 0) & (sides < 2**31)).all():
        return False
    for name, seal, skip in _files(split, part, form):
        with reading(home / name) as file:
            if not seal.fits(file, skip):
                return False
    watcher.advance(1, rows)
    return True


def _told(part: Part) -> dict[str, Any]:
    """What is written of a part; what there is of each image is in its table."""
    counts = {name: getattr(part.found, name) for name in COUNTS}
    found = {"broken": part.found.broken, **counts}
    return {"images": asdict(part.images), "table": asdict(part.table), "found": found}


def _index(home: Path) -> Index:
    """Raises OSError, KeyError, TypeError or ValueError where something is not what it should be."""
    with reading(home / INDEX) as file:
        sealed = json.loads(file.read())
    body = sealed["body"]
    if sealed["sha256"] != sha256(body):
        raise ValueError(home)

    def part(split: str) -> Part:
        about = body[split]
        found = about["found"]
        broken = {str(path): str(reason) for path, reason in found["broken"].items()}
        sides = array("i", open_table(home / _table(split))[:, SIDES].astype(np.int32).tobytes())
        counts = (int(found[name]) for name in COUNTS)
        return Part(Seal.read(about["images"]), Seal.read(about["table"]), Found(broken, *counts, sides=sides))

    def figures(values: Iterable[Any]) -> tuple[float, ...]:
        numbers = tuple(map(float, values))
        if not all(map(math.isfinite, numbers)):
            raise ValueError(numbers)
        return numbers

    ends = {str(kind): figures(range) for kind, range in body["ranges"].items()}
    ranges = {kind: (low, high) for kind, (low, high) in ends.items()}
    same = Twins(*(int(body["twins"][field.name]) for field in fields(Twins)))
    return Index(part("train"), part("test"), ranges, figures(body["mean"]), figures(body["std"]), same)
