"""MLflow: a run in a database or on a server; `mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db` shows it.

MLflow's client is called directly: no run is active in this process, and nothing is logged but what is given.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kdal_cli.errors import UserError
from kdal_cli.records.files import write_bytes
from kdal_cli.records.tracking import State, flat

ENDED = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}

AT_ONCE = 100
"""Parameters that MLflow takes in one call."""

PATIENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
}
"""Nothing is sent but to `uri`, and a training does not wait for a server. What the environment says goes first."""


def mlflow(
    folder: Path, config: Mapping[str, Any], *, uri: str = "sqlite:///outputs/mlflow.db", experiment: str = "kdal"
) -> "Entry":
    """The run of a run folder, begun or gone on with: its id is kept there, in `mlflow.id`.

    uri: of the store, http:// or sqlite:///. experiment: under which the run is filed; made where it is new.
    Raises UserError for a password in `uri`: the configuration is saved with the run.
    """
    if urlsplit(uri).password:
        cure = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise UserError("tracker.uri has a password in it", where="it would be saved with the run", cure=cure)
    for key, value in PATIENT.items():
        os.environ.setdefault(key, value)
    library = import_module("mlflow")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    known = folder / "mlflow.id"
    with _alone(uri):
        client = library.MlflowClient(uri)
        if known.exists():
            id = known.read_text(encoding="utf-8")
            client.update_run(id, "RUNNING")
        else:
            id = _begin(client, experiment, "/".join(folder.parts[-2:]), config)
            write_bytes(known, id.encode())
    return Entry(client, id)


class Entry:
    """A `kdal_cli.records.tracking.Tracker`: a metric is `round_3/loss`, at the step that it was measured at."""

    def __init__(self, client: Any, id: str) -> None:
        self._client, self._id = client, id

    def figures(self, values: Mapping[str, float], step: int, what: str) -> None:
        metric, now = import_module("mlflow.entities").Metric, round(time.time() * 1000)  # ms
        metrics = [metric(f"{what}/{name}", float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics)

    def close(self, state: State) -> None:
        self._client.set_terminated(self._id, ENDED[state])


def _begin(client: Any, experiment: str, name: str, config: Mapping[str, Any]) -> str:
    """The id of a new run with the configuration as its parameters."""
    param = import_module("mlflow.entities").Param
    found = client.get_experiment_by_name(experiment)
    filed = found.experiment_id if found is not None else client.create_experiment(experiment)
    id = client.create_run(filed, run_name=name).info.run_id
    params = [param(key, str(value)) for key, value in flat(config).items()]
    for start in range(0, len(params), AT_ONCE):
        client.log_batch(id, params=params[start : start + AT_ONCE])
    return id


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One process at a time, where the store is a file: two jobs of a sweep cannot both make its tables."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
