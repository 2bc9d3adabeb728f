"""The state of a training that may be stopped, on disk: written now and then, read when the training goes on."""

import hashlib
import io
import os
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kdal_cli.records.files import opened, remove, write_bytes

SNAPSHOT_SECONDS = 60.0

DIGEST = 64
"""Characters of a SHA-256."""

LARGEST = 1 << 35
"""Bytes of a snapshot that is read."""


class Snapshots:
    """The state of a training that is under way, so that a stop costs a minute and not a night.

    One file, replaced atomically, with its SHA-256 in front; one that does not match is ignored, and the training
    starts again to the same end. `label` tells trainings apart: a snapshot of another one is not read.
    """

    def __init__(self, path: Path, label: str, every: float = SNAPSHOT_SECONDS) -> None:
        self.path, self.label, self.every = path, label, every
        self._saved = time.monotonic()

    def offer(self, state: Mapping[str, Any]) -> None:
        """Save `state` when it is time again."""
        if time.monotonic() - self._saved >= self.every:
            buffer = io.BytesIO()
            torch.save({"label": self.label, "state": dict(state)}, buffer)
            payload = buffer.getvalue()
            write_bytes(self.path, hashlib.sha256(payload).hexdigest().encode() + payload)
            self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state to go on from, if there is one. Raises UserError for what is not a regular file."""
        if not self.path.exists():
            return None
        payload = self._payload()
        if payload is None or not _is_plain(payload):
            return None
        payload.seek(0)
        try:
            content = torch.load(payload, map_location="cpu", weights_only=True)
        except Exception:  # a damaged pickle can raise anything
            return None
        if not isinstance(content, dict) or content.get("label") != self.label:
            return None
        state = content.get("state")
        return state if isinstance(state, dict) else None

    def clear(self) -> None:
        remove(self.path)

    def _payload(self) -> io.BytesIO | None:
        """What follows the SHA-256, if that is right: it is held against the file before anything is in memory."""
        with opened(self.path, os.O_RDONLY) as handle, os.fdopen(os.dup(handle), "rb") as file:
            digest = file.read(DIGEST)
            if os.fstat(handle).st_size > LARGEST or hashlib.file_digest(file, "sha256").hexdigest().encode() != digest:
                return None
            file.seek(DIGEST)
            return io.BytesIO(file.read())


def _is_plain(payload: io.BytesIO) -> bool:
    """Whether this is an archive as torch.save makes it: nothing in it is compressed, nor larger than all of it."""
    try:
        with zipfile.ZipFile(payload) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return False
    size = sum(entry.file_size for entry in entries)
    return size <= payload.getbuffer().nbytes and all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
