"""Seals: that the files which a run is judged by are what was written there.

`seals.json` holds the SHA-256 of each, and its own. A seal is written before its file, beside that of the file as it
still is, so that a kill at any moment leaves a pair that fits. A run of an older version, or one made by hand, has no
seals; it is read as it is, and gets them as it goes on.
"""

import hashlib
from pathlib import Path
from typing import Any

from kdal_cli.errors import UserError
from kdal_cli.records.files import json_bytes, json_object, read_bytes, read_json, sha256, write_bytes

NAME = "seals.json"
LARGEST_TABLE = 1 << 28
"""Bytes of a table; one of a thousand classes has 100 in each line."""


def write(path: Path, data: bytes) -> None:
    """Replace a sealed file, all or nothing, durable on return."""
    seals, now = _seals(path.parent), [_digest(read_bytes(path))] if path.exists() else []
    seals[path.name] = [*now, _digest(data)]
    write_bytes(path.parent / NAME, json_bytes({"files": seals, "sha256": sha256(seals)}))
    write_bytes(path, data)


def write_json(path: Path, value: Any) -> None:
    write(path, json_bytes(value))


def read(path: Path) -> bytes:
    """A sealed file. Raises UserError naming it when it is not what was written there."""
    data = read_bytes(path, LARGEST_TABLE)
    known = _seals(path.parent).get(path.name)
    if known is not None and _digest(data) not in known:
        cure = "restore the file from a copy, or leave this run out"
        raise UserError("this is not what was written there: changed by hand or damaged", where=path, cure=cure)
    return data


def read_object(path: Path) -> dict[str, Any]:
    """A sealed JSON object. Raises UserError naming it when it is damaged."""
    return json_object(read(path), path)


def verify(folder: Path) -> None:
    """Raises UserError naming the first file of a run that is not what was written there."""
    for name in _seals(folder):
        if (folder / name).exists():
            read(folder / name)


def _seals(folder: Path) -> dict[str, list[str]]:
    path = folder / NAME
    if not path.exists():
        return {}
    content = read_json(path)
    seals = content.get("files")
    if not isinstance(seals, dict) or content.get("sha256") != sha256(seals) or not _are_seals(seals):
        raise UserError("this file is damaged", where=path, cure="restore it from a copy, or leave this run out")
    return seals


def _are_seals(value: dict[str, Any]) -> bool:
    """Whether these are lists of digests, by the names of files in the folder itself."""
    return all(name == Path(name).name and isinstance(digests, list) for name, digests in value.items())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
