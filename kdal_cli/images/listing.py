"""What lies in a folder of images, before any is opened: `train/<class>/…` and `test/<class>/…`."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from kdal_cli.errors import UserError

SPLITS = ("train", "test")
WANTED = "images belong in train/<class>/ and test/<class>/"
SHOWN = 10
"""How many names a message lists before it counts the rest."""


@dataclass(frozen=True)
class Entry:
    """A file below the root: its path with "/", its class, size in bytes (-1: not a regular file) and mtime in ns."""

    path: str
    label: int
    size: int
    changed: int


@dataclass(frozen=True)
class Listing:
    """All there is below `root`: class names in label order, the files of each split in the order of their paths."""

    root: Path
    classes: tuple[str, ...]
    train: tuple[Entry, ...]
    test: tuple[Entry, ...]

    def key(self, *facts: object) -> str:
        """Names the decoded form: 24 hexadecimal digits of SHA-256 over the root, every file's facts, and `facts`.

        As with make and rsync, a file is taken for unchanged while its size and its time of change are.
        """
        files = [[astuple(entry) for entry in split] for split in (self.train, self.test)]
        text = json.dumps([str(self.root), self.classes, files, facts])
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def scan(root: Path) -> Listing:
    """List the images below `root`; hidden files and folders are passed over.

    Raises UserError naming what is wrong: no such folder or split, other classes in test than in train, fewer than two
    classes, one without files, a file of no class, a link out of the root or to a folder, a name that is not UTF-8.
    """
    try:
        if not root.is_dir():
            raise UserError("there is no such folder", where=root, cure=WANTED)
        classes, others = (_classes(root, split) for split in SPLITS)
        _same(classes, others, root)
        if len(classes) < 2:
            raise UserError(f"there are {len(classes)} class folders, at least 2 are needed", where=root, cure=WANTED)
        train, test = (_entries(root, split, classes) for split in SPLITS)
    except OSError as error:
        raise UserError(f"the folder cannot be read, {error.strerror}", where=error.filename or root) from error
    return Listing(root, classes, train, test)


def enumerated(names: list[str]) -> str:
    """The first names and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _classes(root: Path, split: str) -> tuple[str, ...]:
    """The class folders of a split, sorted."""
    if not (root / split).is_dir():
        found = enumerated(sorted(repr(path.name) for path in root.iterdir())) or "nothing"
        raise UserError(f"there is no folder {split}/", where=root, cure=f"{WANTED}; found: {found}")
    _stay(root / split, root)
    items = list(_visible(root / split, root))
    loose = sorted(repr(item.name) for item in items if not item.is_dir())
    if loose:
        raise UserError(f"{split}/ holds files of no class: {enumerated(loose)}", where=root, cure=WANTED)
    return tuple(sorted(item.name for item in items))


def _same(train: tuple[str, ...], test: tuple[str, ...], root: Path) -> None:
    missing, extra = sorted(set(train) - set(test)), sorted(set(test) - set(train))
    faults = [f"{enumerated([repr(name) for name in missing])} only in train/"] if missing else []
    faults += [f"{enumerated([repr(name) for name in extra])} only in test/"] if extra else []
    if faults:
        what = f"train/ and test/ hold other classes: {'; '.join(faults)}"
        raise UserError(what, where=root, cure="both must have the same class folders")


def _entries(root: Path, split: str, classes: tuple[str, ...]) -> tuple[Entry, ...]:
    files = [sorted(_files(root / split / name, label, root), key=_path) for label, name in enumerate(classes)]
    empty = [repr(name) for name, entries in zip(classes, files, strict=True) if not entries]
    if empty:
        raise UserError(f"{split}/ has classes without an image: {enumerated(empty)}", where=root, cure=WANTED)
    return tuple(entry for entries in files for entry in entries)


def _path(entry: Entry) -> str:
    return entry.path


def _files(folder: Path, label: int, root: Path) -> Iterator[Entry]:
    """Every visible file at or below `folder`."""
    for item in _visible(folder, root):
        if not item.is_dir():
            yield _entry(item, label, root)
        elif item.is_symlink():
            raise UserError(f"{_name(item, root)} is a link to a folder", where=root, cure="put the folder there")
        else:
            yield from _files(Path(item.path), label, root)


def _entry(item: os.DirEntry[str], label: int, root: Path) -> Entry:
    path = Path(item.path).relative_to(root).as_posix()
    try:
        facts = item.stat()
    except FileNotFoundError:  # a link to nothing
        return Entry(path, label, -1, 0)
    return Entry(path, label, facts.st_size if stat.S_ISREG(facts.st_mode) else -1, facts.st_mtime_ns)


def _visible(folder: Path, root: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as items:
        for item in items:
            if item.name.startswith("."):
                continue
            if not _is_text(item.name):
                raise UserError(f"the name {_name(item, root)} is not UTF-8", where=root, cure="rename it")
            if item.is_symlink():
                _stay(Path(item.path), root)
            yield item


def _stay(path: Path, root: Path) -> None:
    """Refuse what leads out of the root."""
    target = path.resolve()
    if not target.is_relative_to(root):
        what = f"{path.relative_to(root).as_posix()!r} is a link out of the folder, to {target.as_posix()!r}"
        raise UserError(what, where=root, cure="put the file itself there")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(item: os.DirEntry[str], root: Path) -> str:
    return repr(Path(item.path).relative_to(root).as_posix())
