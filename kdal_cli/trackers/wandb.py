"""Weights & Biases: a run in the run folder, `wandb sync <folder>/wandb/offline-run-*` sends it; or on its server."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from kdal_cli.records.files import write_bytes
from kdal_cli.records.tracking import State


def wandb(
    folder: Path,
    config: Mapping[str, Any],
    *,
    mode: Literal["offline", "online"] = "offline",
    project: str = "kdal",
    entity: str | None = None,
) -> "Board":
    """The run of a run folder, begun or gone on with: its id is kept there, in `wandb.id`.

    mode: only `online` reaches the network; the key comes from `wandb login` or WANDB_API_KEY, never from here.
    entity: the team or user that the project belongs to. Neither the output nor the code nor git is recorded.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # offline means that nothing is sent
    library, known = import_module("wandb"), folder / "wandb.id"
    if not known.exists():
        write_bytes(known, uuid4().hex.encode())
    quiet = library.Settings(silent=True, console="off", disable_git=True, disable_code=True)
    run = library.init(
        entity=entity,
        project=project,
        id=known.read_text(encoding="utf-8"),
        name="/".join(folder.parts[-2:]),
        config=dict(config),
        dir=str(folder),
        mode=mode,
        resume="allow" if mode == "online" else None,
        settings=quiet,
    )
    return Board(run)


class Board:
    """A `kdal_cli.records.tracking.Tracker`: `round_3/loss` is drawn against `round_3/step`."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._seen: set[str] = set()

    def figures(self, values: Mapping[str, float], step: int, what: str) -> None:
        if what not in self._seen:
            self._seen.add(what)
            self._run.define_metric(f"{what}/*", step_metric=f"{what}/step")
        self._run.log({f"{what}/step": step, **{f"{what}/{name}": value for name, value in values.items()}})

    def close(self, state: State) -> None:
        self._run.finish(exit_code=0 if state == "done" else 1)
