"""The one door to the files of a run, a store and an index. Standard library only.

Files are whole or not there: written beside, flushed, renamed; logs alone grow in place. No link is followed below a
folder that is held, and no folder is made but inside one: every path is opened from a descriptor of that folder, name
by name. What is not a regular file (a link, a pipe, a device) is refused before a byte of it is read or written.
"""

import hashlib
import itertools
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EIO, ELOOP, ENOENT, ENOTDIR, ENXIO
from pathlib import Path
from typing import Any

from kdal_cli.errors import MachineError, UserError

TEMPORARY = ".kdal-tmp"
"""How the name of a half-written file ends; one that is found was left by a killed process."""

LARGEST, LARGEST_JSON = 1 << 30, 1 << 24
"""Bytes of a file that is read into memory, unless its reader says otherwise."""

BLOCK = 1 << 16
"""Bytes that are looked through at a time."""

FILE_MODE, FOLDER_MODE = 0o644, 0o755
"""Whatever the umask allows others, nobody else writes."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_HERE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
"""No link is followed, and a pipe without a reader does not make us wait."""

_held: dict[str, tuple[int, int]] = {}
"""{path: device and inode} of the folders that this process works in: what it was and not what it is called."""


def hold(folder: Path) -> Path:
    """Work in `folder`, which may be reached through links, from now on; returns its real path.

    Whatever is put in its place later is another one, and what is written by its name then fails.
    """
    real = folder.resolve()
    about = real.stat()
    for path in (str(real), _absolute(folder)):
        _held[path] = about.st_dev, about.st_ino
    return real


def holds(folder: Path) -> bool:
    """Whether this process works in `folder`."""
    return _absolute(folder) in _held


def folder_below(root: Path, *names: str) -> Path:
    """A folder in a store: `root` is made where it is missing and held, and so is what is below, without following."""
    root.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    below = hold(root).joinpath(*names)
    with _opened_folder(below, make=True):
        return below


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` with `data`, all or nothing. Raises MachineError when the disk refuses.

    durable: it is on disk on return, and survives a power cut as it does a kill.
    """
    with refusals(path), _opened_folder(path.parent, make=True) as home:
        draft = f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}"
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _HERE, FILE_MODE, dir_fd=home)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(draft, path.name, src_dir_fd=home, dst_dir_fd=home)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=home)
            raise
        if durable:
            os.fsync(home)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, json_bytes(value))


def append(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Add `data` to the end of a log. Raises MachineError when the disk refuses."""
    with refusals(path), opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as handle:
        _write_all(handle, data)
        if durable:
            os.fsync(handle)


def cut(path: Path, size: int) -> None:
    """Shorten a log to `size` bytes."""
    with refusals(path), opened(path, os.O_WRONLY) as handle:
        os.ftruncate(handle, size)
        os.fsync(handle)


def lines(path: Path, longest: int) -> Iterator[bytes]:
    """The whole lines of a log, one after the other. Raises UserError for one of more than `longest` bytes."""
    with opened(path, os.O_RDONLY) as handle, os.fdopen(os.dup(handle), "rb") as file:
        for number in itertools.count(1):
            line = file.readline(longest + 1)
            if len(line) > longest:
                raise UserError(f"line {number} is longer than {longest:,} bytes", where=path, cure="restore a copy")
            if not line.endswith(b"\n"):
                return
            yield line[:-1]


def whole_lines(path: Path) -> int:
    """Bytes of a log up to the end of its last line that is whole."""
    with refusals(path), opened(path, os.O_RDONLY) as handle:
        end = os.fstat(handle).st_size
        while end:
            start = max(0, end - BLOCK)
            found = os.pread(handle, end - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def remove(path: Path) -> None:
    """Take away a file, if it is there; of a link, the link."""
    with refusals(path), _opened_folder(path.parent) as home, suppress(FileNotFoundError):
        os.unlink(path.name, dir_fd=home)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """A descriptor of a regular file, to be read, or written in place: that it is one, and has one name alone.

    Raises UserError for anything else. A second name would be a file of somebody else's that changes too.
    """
    with _opened_folder(path.parent, make=bool(flags & os.O_CREAT)) as home:
        try:
            handle = os.open(path.name, flags | _HERE, FILE_MODE, dir_fd=home)
        except OSError as error:
            if error.errno in (ELOOP, ENXIO):
                raise strange(path) from None
            raise
        try:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode) or (flags & (os.O_WRONLY | os.O_RDWR) and about.st_nlink > 1):
                raise strange(path)
            yield handle
        finally:
            os.close(handle)


def read_bytes(path: Path, most: int = LARGEST) -> bytes:
    """A file whole. Raises UserError for what is not a regular file, has more than `most` bytes, or cannot be read."""
    try:
        with opened(path, os.O_RDONLY) as handle:
            size = os.fstat(handle).st_size
            if size > most:
                raise UserError(f"{size:,} bytes are too many for this file", where=path, cure=f"{most:,} at most")
            with os.fdopen(os.dup(handle), "rb") as file:
                return file.read(size)
    except OSError as error:
        kind = MachineError if error.errno == EIO else UserError
        raise kind(f"cannot be read: {error.strerror}", where=path, cure="restore it from a copy") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises UserError naming the file when it is damaged."""
    return json_object(read_bytes(path, LARGEST_JSON), path)


def json_object(data: bytes, path: Path) -> dict[str, Any]:
    """A JSON object from what `path` holds. Raises UserError naming the file when it is none."""
    try:
        value = json.loads(data, parse_constant=_no_constant)
        if not isinstance(value, dict):
            raise TypeError(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            "this file is damaged", where=path, cure="restore it from a copy, or start a new run"
        ) from error
    return value


def json_bytes(value: Any) -> bytes:
    """A JSON value for people: valid JSON, in which a figure that is no finite number is null."""
    return (json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(
        errors="backslashreplace"
    )


def finite(value: Any) -> Any:
    """A JSON value with None for every number that is not finite: JSON has no word for those."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value


def shown(path: Path) -> Path:
    """A path as the user would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as fsync does for the contents of a file."""
    handle = os.open(folder, _FOLDER)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def strange(path: Path) -> UserError:
    """What is to be said of something that only looks like a file of ours."""
    return UserError("not a regular file but a link, a folder, a pipe or a device", where=path, cure="remove it")


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """What the disk refuses, in one line that names the file."""
    try:
        yield
    except OSError as error:
        cure = "make room, then resume the run"
        if error.errno in (ENOENT, ENOTDIR, ELOOP):
            cure = "the folder was moved or replaced: put it back, then resume the run"
        raise MachineError(f"cannot write: {error.strerror}", where=path, cure=cure) from error


@contextmanager
def _opened_folder(folder: Path, *, make: bool = False) -> Iterator[int]:
    """A descriptor of a folder. Below one that is held no link is followed and, with `make`, what lacks is made."""
    path = _absolute(folder)
    root = next((top for top in (path, *map(str, Path(path).parents)) if top in _held), path)
    handle = os.open(root, _FOLDER | (os.O_NOFOLLOW if make and root not in _held else 0))
    try:
        about = os.fstat(handle)
        if _held.get(root, (about.st_dev, about.st_ino)) != (about.st_dev, about.st_ino):
            raise FileNotFoundError(ENOENT, "another folder has taken its place", root)
        for name in Path(path).relative_to(root).parts:
            below = _step(handle, name, make)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _absolute(folder: Path) -> str:
    return os.path.abspath(folder)  # noqa: PTH100 (links stay in it)


def _step(parent: int, name: str, make: bool) -> int:
    """A descriptor of a folder in another one."""
    if make:
        with suppress(FileExistsError):
            os.mkdir(name, FOLDER_MODE, dir_fd=parent)
    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _no_constant(name: str) -> None:
    raise ValueError(name)
