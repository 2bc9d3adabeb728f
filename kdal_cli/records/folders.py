"""Whose a folder is: ours when this start made it or found it empty, or when a run of ours has left its mark in it.

Names say nothing: others write a `run.log`, too. What was begun here is known by its inode, what earlier starts began
by the content of its `.lock` or of its manifest.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from kdal_cli.errors import KdalError, UserError
from kdal_cli.records.files import FOLDER_MODE, TEMPORARY, opened, read_bytes, read_json, strange

LOCK = ".lock"
MARK = b"kdal runs here, one process at a time\n"
"""What `.lock` says from the moment on that a run begins in a folder."""

REQUEST = {".hydra", LOCK, "manifest.json", "seals.json", "run.log"}
"""All that a run has written that was refused before it did anything."""

GUESTS = {"wandb"}
"""Folders in a run folder that others keep, links among their files."""

GROWING = (".jsonl", ".log", LOCK)
"""Files that are written in place: under another name as well, they would be somebody else's file too."""

_begun: dict[tuple[int, int], tuple[Path, list[Path]]] = {}
"""{device and inode of a folder that was made, or found empty, in this start: it, and the folders made for it}."""


def enter(folder: Path) -> None:
    """Make a folder for a run, or find that there may be one in it; nothing is written into it.

    Raises UserError for one that holds something else, or that cannot be made.
    """
    try:
        missing = [path for path in (folder.absolute(), *folder.absolute().parents) if not path.exists()]
        if missing:
            _make(folder)
        elif not is_empty(folder) and not _has_run(folder):
            cure = "take an empty or a new folder: hydra.run.dir=…"
            raise UserError("this folder holds files that are not those of a run", where=folder, cure=cure)
        if missing or is_empty(folder):
            _begun.setdefault(_identity(folder), (folder.absolute(), missing))
    except OSError as error:
        cure = "choose another hydra.run.dir"
        raise UserError(f"cannot write here: {error.strerror}", where=folder, cure=cure) from None


def made_for_us(folder: Path) -> None:
    """The folder of a job was made by Hydra, a moment ago: with the job it goes again, if it is still empty."""
    with suppress(OSError):
        if is_empty(folder):
            _begun.setdefault(_identity(folder), (folder.absolute(), [folder]))


def is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder, or nothing but the lock of a start that was killed before it could mark it."""
    names = list(folder.iterdir())
    return not names or (names == [folder / LOCK] and names[0].lstat().st_size == 0)


def begun(folder: Path) -> bool:
    """Whether a folder was made, or found empty, in this start."""
    return folder.is_dir() and _identity(folder) in _begun


def forget() -> None:
    """Take away every folder that was begun, and in which nothing has."""
    for folder, _ in list(_begun.values()):
        if not (folder / "manifest.json").exists():
            discard(folder)


def discard(folder: Path) -> bool:
    """Take away what a run wrote that this start began, unless it has done something; say whether that is so.

    The folder goes too if it was made for the run, and so do those above it.
    """
    if not begun(folder) or not {path.name for path in folder.iterdir()} <= REQUEST:
        return False
    with suppress(BlockingIOError):  # somebody else has come in
        if (folder / LOCK).exists():
            with opened(folder / LOCK, os.O_WRONLY) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _take_away(folder)
        else:
            _take_away(folder)
    return True


def _take_away(folder: Path) -> None:
    _, made = _begun.pop(_identity(folder))
    for path in [*folder.glob(".hydra/*.yaml"), *(folder / name for name in sorted(REQUEST - {".hydra"}))]:
        path.unlink(missing_ok=True)
    with suppress(OSError):  # what is not empty was not only ours
        if (folder / ".hydra").exists():
            (folder / ".hydra").rmdir()
        for path in made:
            path.rmdir()


def inspect(folder: Path) -> None:
    """Take away what killed writers left half-written in a run folder. Raises UserError for a link or a pipe in it."""
    below = [folder]
    while below:
        with os.scandir(below.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    below += [] if entry.name in GUESTS else [path]
                elif not entry.is_file(follow_symlinks=False) or _has_other_names(entry):
                    raise strange(path)
                elif entry.name.startswith(".") and entry.name.endswith(TEMPORARY):
                    path.unlink(missing_ok=True)


def _has_other_names(entry: os.DirEntry) -> bool:
    return entry.name.endswith(GROWING) and entry.stat(follow_symlinks=False).st_nlink > 1


def _has_run(folder: Path) -> bool:
    """Whether a run of ours began in a folder; those of older versions are known by their manifest alone."""
    with suppress(KdalError):
        if read_bytes(folder / LOCK, len(MARK)) == MARK:
            return True
    with suppress(KdalError):
        return {"config_sha256", "starts"} <= read_json(folder / "manifest.json").keys()
    return False


def _make(folder: Path) -> None:
    """Make a folder and those above it; another process may take one of them away as it is refused."""
    for _ in range(8):
        with suppress(FileNotFoundError):
            folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            return
    folder.mkdir(FOLDER_MODE, parents=True)


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino
