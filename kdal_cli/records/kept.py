"""What runs keep for later ones and could compute again: decoded images, teachers, their answers, features, what has
seen images without labels.

A folder counts as kept when its name is a hash and everything in it is of the names that are written there; one with
anything else in it is somebody's, and stays. Links are not followed.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from kdal_cli.records.files import opened

Kind = Literal["images", "teachers", "pretrained", "answers", "features"]
KINDS: tuple[Kind, ...] = get_args(Kind)

TRAINED = r"\.lock|metrics\.jsonl|seals\.json|timings\.csv|training\.snapshot|run\.log"
FORMS: dict[Kind, tuple[str, str, str]] = {
    "images": (r"[0-9a-f]{24}", r"(train|test)\.(npy|jpegs|rows\.npy)|index\.json", "index.json"),
    "teachers": (r"[0-9a-f]{16}", rf"teacher\.(safetensors|json)|{TRAINED}", "teacher.safetensors"),
    "pretrained": (
        r"[0-9a-f]{16}",
        rf"pretrained\.(safetensors|json)|features(_test)?\.npy|{TRAINED}",
        "pretrained.safetensors",
    ),
    "answers": (r"[0-9a-f]{16}", r"[\w-]+\.rows", ""),
    "features": (r"[0-9a-f]{16}", r"(train|test)(_[\w-]+)?\.rows", ""),
}
"""By kind: the name of a folder, the names of its files, and one that it must have."""

DEPTH = 4
"""Folders below the one that is looked through."""


@dataclass(frozen=True)
class Kept:
    """A folder of what was kept. size: bytes on the disk. used: seconds since the epoch, when it was last opened."""

    kind: Kind
    path: Path
    size: int
    used: float


def kept(folder: Path) -> Iterator[Kept]:
    """Everything that is kept at or below `folder`, in order of its path. Run folders are passed over."""
    yield from _below(folder, DEPTH)


def remove(one: Kept) -> bool:
    """Remove it, unless a process is writing it; whoever has it mapped keeps what they see. Returns whether it went."""
    lock = one.path / ".lock" if one.kind in ("teachers", "pretrained") else one.path.with_suffix(".lock")
    if not lock.exists():
        shutil.rmtree(one.path)
        return True
    with opened(lock, os.O_RDWR) as handle, suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(one.path)
        return True
    return False


def _below(folder: Path, depth: int) -> Iterator[Kept]:
    with suppress(PermissionError):
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        if any(entry.name == "manifest.json" for entry in entries):
            return
        if found := _kept(folder, entries):
            yield found
        elif depth:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _below(Path(entry.path), depth - 1)


def _kept(folder: Path, entries: list[os.DirEntry[str]]) -> Kept | None:
    names = [entry.name for entry in entries]
    if not names or not all(entry.is_file(follow_symlinks=False) for entry in entries):
        return None
    for kind, (name, file, needed) in FORMS.items():
        ours = re.fullmatch(name, folder.name) and all(re.fullmatch(file, each) for each in names)
        there = needed in names if needed else (folder.parent.name == "answers") == (kind == "answers")
        if ours and there:
            facts = [entry.stat(follow_symlinks=False) for entry in entries]
            size = sum(512 * fact.st_blocks for fact in facts)
            return Kept(kind, folder, size, max(max(fact.st_atime, fact.st_mtime) for fact in facts))
    return None
