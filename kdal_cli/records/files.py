"""Files that are whole or not there: written beside, flushed, renamed, never edited in place. Standard library only."""

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdal_cli.errors import MachineError, UserError

TEMPORARY = ".kdal-tmp"
"""How the name of a half-written file ends; one that is found was left by a killed process."""


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` with `data`, all or nothing, durable on return. Raises MachineError when the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise MachineError(
            f"cannot write: {error.strerror}", where=path, cure="make room, then resume the run"
        ) from error


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises UserError naming the file when it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise TypeError(value)
    except (ValueError, TypeError) as error:
        raise UserError(
            "this file is damaged", where=path, cure="restore it from a copy, or start a new run"
        ) from error
    return value


def shown(path: Path) -> Path:
    """A path as the user would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as fsync does for the contents of a file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed writers left half-written below `folder`."""
    for orphan in folder.rglob(f".*{TEMPORARY}"):
        orphan.unlink(missing_ok=True)


def discard(folder: Path) -> bool:
    """Remove a run folder that holds nothing but the request to run, and say whether that was so."""
    request = {".hydra", ".lock", "manifest.json", "run.log"}
    if not folder.is_dir() or not {path.name for path in folder.iterdir()} <= request:
        return False
    for path in [*folder.glob(".hydra/*.yaml"), *(folder / name for name in request - {".hydra"})]:
        path.unlink(missing_ok=True)
    with suppress(OSError):  # what is not empty was not only ours
        (folder / ".hydra").rmdir()
        folder.rmdir()
    return True


def sha256(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
