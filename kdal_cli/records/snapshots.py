"""The state of a training that may be stopped, on disk: written now and then, read when the training goes on."""

import hashlib
import io
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kdal_cli.records.files import write_bytes

SNAPSHOT_SECONDS = 60.0


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
        """The state to go on from, if there is one."""
        if not self.path.exists():
            return None
        data = self.path.read_bytes()
        if hashlib.sha256(data[64:]).hexdigest().encode() != data[:64]:
            return None
        try:
            content = torch.load(io.BytesIO(data[64:]), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError):
            return None
        return content["state"] if content["label"] == self.label else None

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
