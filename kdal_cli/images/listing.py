"""What lies in a folder of images, before any is opened: folders of classes, divided or not, and files of no class."""

import hashlib
import json
import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from kdal_cli.errors import UserError
from kdal_cli.images.links import Folder, Links
from kdal_cli.streams import Streams

VALIDATION = ("val", "valid", "validation")
"""Names of the folder of validation images, of which there may be one."""

UNLABELLED = ("unlabelled", "unlabeled")
"""Names of the folder of images without a label, of which there may be one."""

WANTED = "images belong in train/<class>/ and test/<class>/, and in val/<class>/ and unlabelled/ if you like"
SHOWN = 10
"""How many names a message lists before it counts the rest."""


class Entry(NamedTuple):
    """A file below the root: its path with "/", its class, size in bytes (-1: not a regular file) and mtime in ns.

    label: None where the class is not known. target: where it really lies, when a link led there; empty for a file that
    is what it seems.
    """

    path: str
    label: int | None
    size: int
    changed: int
    target: str = ""

    def file(self, root: Path) -> Path:
        """What is to be opened."""
        return Path(self.target) if self.target else root / self.path


PATH = attrgetter("path")


@dataclass(frozen=True)
class Listing:
    """All there is below `root`: class names in label order, the files of each split in the order of their paths.

    train: those without a label come last. notes: what the user should know of it, though nothing is wrong.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[Entry, ...]
    validation: tuple[Entry, ...]
    test: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    def key(self, *facts: object) -> str:
        """Names the decoded form: 24 hexadecimal digits of SHA-256 over the root, every file's facts, and `facts`.

        As with make and rsync, a file is taken for unchanged while its size and its time of change are.
        """
        digest = hashlib.sha256(json.dumps([str(self.root), self.classes, facts]).encode())
        for split in (self.train, self.validation, self.test):
            digest.update(f"{len(split)}\0".encode())
            for e in split:
                digest.update(f"{e.path}\0{e.label}\0{e.size}\0{e.changed}\0{e.target}\0".encode())
        return digest.hexdigest()[:24]


def scan(root: Path, links: Links, test_share: float, named: Sequence[str] = ()) -> Listing:
    """List the images below `root`, a path without links; hidden files and folders are passed over.

    Folders of classes without train/ around them are training images, and files alone are images without a label.
    Where there is no test/, a share of each class of the training images is the test set. Class names are compared and
    shown in Unicode's composed form (NFC); `named` are those of images without a label, where no folder tells.
    Raises UserError naming what is wrong: no such folder, other classes in one split than in another, fewer than two
    classes, one without files, a file of no class, a link, a name that is not UTF-8.
    """
    try:
        if not root.is_dir():
            raise UserError("there is no such folder", where=root, cure=WANTED)
        splits, unlabelled = _splits(root, links)
        folders = {split: _classes(folder) for split, folder in splits.items()}
        classes = _same(folders, root) if folders else tuple(named)
        if len(classes) < 2:
            what = f"there are {len(classes)} class folders, at least 2 are needed"
            cure = WANTED if folders else "name the classes of images without a label: data.classes=[cat,dog]"
            raise UserError(what, where=root, cure=cure)
        entries = {split: _entries(split, own, classes, root) for split, own in folders.items()}
        unknown = tuple(sorted(_files(unlabelled, None), key=PATH)) if unlabelled is not None else ()
    except OSError as error:
        raise UserError(f"the folder cannot be read, {error.strerror}", where=error.filename or root) from error
    validation = next((entries[name] for name in VALIDATION if name in entries), ())
    train, test = entries.get("train", ()), entries.get("test", ())
    listing = Listing(root, classes, train, validation, test, _notes(folders))
    if "test" not in entries and train:
        listing = held_out(listing, test_share)
    return replace(listing, train=(*listing.train, *unknown))


def enumerated(names: list[str]) -> str:
    """The first names and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _splits(root: Path, links: Links) -> tuple[dict[str, Folder], Folder | None]:
    """The folders that the data set is divided into, the training images first, and that of images without a label."""
    names, top = ("train", *VALIDATION, "test"), Folder.top(root, links)
    found = {folder.name: folder for folder in top.folders((*names, *UNLABELLED))}
    if not found:
        items = list(top.items())
        if not items:
            raise UserError("there is nothing in this folder", where=root, cure=WANTED)
        divided = any(isinstance(item, Folder) for item in items)
        return ({"train": top}, None) if divided else ({}, top)
    for group, what in ((VALIDATION, "validation images"), (UNLABELLED, "images without a label")):
        several = [f"{name}/" for name in group if name in found]
        if len(several) > 1:
            raise UserError(f"there are {' and '.join(several)}", where=root, cure=f"one folder of {what}")
    unlabelled = next((found[name] for name in UNLABELLED if name in found), None)
    if "train" not in found and unlabelled is None:
        there = enumerated(sorted(repr(path.name) for path in root.iterdir()))
        raise UserError("there is no folder train/", where=root, cure=f"{WANTED}; found: {there}")
    return {name: found[name] for name in names if name in found}, unlabelled


Classes = dict[str, list[Folder]]
"""The folders of each class, by its composed name: several where names differ in their Unicode form alone."""


def _classes(split: Folder) -> Classes:
    loose, found = [], defaultdict(list)
    for item in split.items():
        if isinstance(item, Folder):
            found[unicodedata.normalize("NFC", item.name)].append(item)
        else:
            loose.append(repr(item.name))
    if loose:
        what = f"{split.path or '.'}/ holds files of no class: {enumerated(sorted(loose))}"
        raise UserError(what, where=split.links.root, cure=WANTED)
    return found


def _same(folders: dict[str, Classes], root: Path) -> tuple[str, ...]:
    """The class names, sorted, which every split must have."""
    first, known = next(iter(folders.items()))
    for split, own in folders.items():
        missing, extra = (sorted(repr(name) for name in a.keys() - b.keys()) for a, b in ((known, own), (own, known)))
        faults = [f"{enumerated(missing)} only in {first}/"] if missing else []
        faults += [f"{enumerated(extra)} only in {split}/"] if extra else []
        if faults:
            what = f"{first}/ and {split}/ hold other classes: {'; '.join(faults)}"
            alike = _alike({*(known.keys() - own.keys()), *(own.keys() - known.keys())})
            cure = "both must have the same class folders" + (f"; {alike[0]}" if alike else "")
            raise UserError(what, where=root, cure=cure)
    return tuple(sorted(known))


def _alike(names: Iterable[str]) -> list[str]:
    """A sentence for each group of names that people would take for one."""
    groups = defaultdict(list)
    for name in sorted(names):
        groups[unicodedata.normalize("NFKC", name).casefold().strip()].append(repr(name))
    return [f"{' and '.join(group)} differ in case or spacing alone" for group in groups.values() if len(group) > 1]


def _notes(folders: dict[str, Classes]) -> tuple[str, ...]:
    names = {folder.name for own in folders.values() for group in own.values() for folder in group}
    forms: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        forms[unicodedata.normalize("NFC", name)].add(name)
    several = [repr(name) for name in sorted(forms) if len(forms[name]) > 1]
    what = f"{enumerated(several)}: spelt in two Unicode forms, taken for one class each"
    return (*([what] if several else []), *(f"classes {sentence}" for sentence in _alike(forms)))


def _entries(split: str, folders: Classes, classes: tuple[str, ...], root: Path) -> tuple[Entry, ...]:
    files = [
        sorted((entry for folder in folders[name] for entry in _files(folder, label)), key=PATH)
        for label, name in enumerate(classes)
    ]
    empty = [repr(name) for name, entries in zip(classes, files, strict=True) if not entries]
    if empty:
        raise UserError(f"{split}/ has classes without an image: {enumerated(empty)}", where=root, cure=WANTED)
    return tuple(entry for entries in files for entry in entries)


def _files(folder: Folder, label: int | None) -> Iterator[Entry]:
    """Every visible file at or below `folder`."""
    for item in folder.items():
        if isinstance(item, Folder):
            yield from _files(item, label)
            continue
        facts = item.facts
        size = facts.st_size if facts is not None and stat.S_ISREG(facts.st_mode) else -1
        changed = facts.st_mtime_ns if facts is not None else 0
        yield Entry(item.path, label, size, changed, os.fspath(item.target or ""))


def held_out(listing: Listing, share: float) -> Listing:
    """A share of each class of train/, if any, as the test set, chosen by the names of the files: a fact of the data,
    not of a run, that a file more or less hardly changes."""
    if not share:
        return listing
    root = listing.root
    streams, chosen = Streams(0).under("test_share"), set()
    for label, name in enumerate(listing.classes):
        paths = sorted((e.path for e in listing.train if e.label == label), key=lambda path: streams.key(path))
        count = min(max(1, round(share * len(paths))), len(paths) - 1)
        if not count:
            what = f"there is no folder test/, and train/ has one image of {name!r}"
            raise UserError(what, where=root, cure="add images of it")
        chosen.update(paths[:count])
    train, test = (tuple(e for e in listing.train if (e.path in chosen) is part) for part in (False, True))
    what = f"no test/: {len(test):,} of the {len(listing.train):,} images of train/ are the test set"
    note = f"{what} (data.test_share={share:g})"
    return replace(listing, train=train, test=test, notes=(*listing.notes, note))
