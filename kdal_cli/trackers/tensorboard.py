"""TensorBoard: event files in the run folder.

`tensorboard --logdir outputs` shows every run below; each training is a run of its own there, so that the losses of all
rounds lie over each other in one chart, and the curves of a sweep in another.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard.writer import SummaryWriter

OPEN = 8
"""Event files that are open at once: each has a thread."""


def tensorboard(folder: Path, config: Mapping[str, Any]) -> "EventFiles":
    """Event files in `tensorboard/<training>` of a run folder, and the configuration as a text."""
    events = EventFiles(folder / "tensorboard")
    text = json.dumps(config, indent=2, ensure_ascii=False, default=str)
    events.writer("config").add_text("config", "".join(f"    {line}\n" for line in text.splitlines()))
    return events


class EventFiles:
    """A `kdal_cli.records.tracking.Tracker`; what a killed run had written stays, and is read before what follows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, SummaryWriter] = {}  # the one used last comes last

    def writer(self, what: str) -> SummaryWriter:
        writer = self._writers.pop(what, None) or SummaryWriter(str(self._folder / what))
        self._writers[what] = writer
        if len(self._writers) > OPEN:
            self._writers.pop(next(iter(self._writers))).close()
        return writer

    def figures(self, values: Mapping[str, float], step: int, what: str) -> None:
        writer = self.writer(what)
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def close(self, state: str) -> None:
        for writer in self._writers.values():
            writer.close()
