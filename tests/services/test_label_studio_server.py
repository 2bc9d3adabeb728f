"""A whole run labelled in a real Label Studio, as `oracle=simulated` would have labelled it.

It needs a server of its own environment: `python -m venv V && V/bin/pip install label-studio`, and then
`KDAL_LABEL_STUDIO=V/bin/label-studio pytest tests/services`. The first start takes it minutes.
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from cli.harness import Kdal, RunFolder

from kdal_cli.data.blobs import blobs
from kdal_cli.types import Unwatched

PROGRAM = os.environ.get("KDAL_LABEL_STUDIO")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="KDAL_LABEL_STUDIO names no server")]

TOKEN = "0123456789abcdef" * 2 + "01234567"
SMALL = ("al-loop", "experiment=smoke", "budget.rounds=1", "sampler=margin", "loss=none", "teacher=none")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has just been made."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    who = ("--username", "a@b.c", "--password", "secret-123-long", "--enable-legacy-api-token", "--user-token", TOKEN)
    folder = str(tmp_path_factory.mktemp("label-studio"))
    where = ("--no-browser", "--internal-host", "127.0.0.1", "-p", str(port), "--data-dir", folder)
    quiet = {"LATEST_VERSION_CHECK": "false", "COLLECT_ANALYTICS": "false", "SENTRY_DSN": ""}
    process = subprocess.Popen([str(PROGRAM), "start", *where, *who], env={**os.environ, **quiet}, cwd=folder)
    address, patience = f"http://127.0.0.1:{port}", time.monotonic() + 900
    while True:
        try:
            urlopen(f"{address}/health", timeout=5).close()
            break
        except (URLError, OSError):
            assert process.poll() is None
            assert time.monotonic() < patience
            time.sleep(1)
    yield address
    process.terminate()
    process.wait(60)


def call(address: str, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    with urlopen(Request(address + path, data, headers), timeout=60) as reply:
        return json.load(reply)


def label_all(address: str) -> int:
    """Annotate every task that has no annotation, as the interface does; returns how many there were."""
    images = blobs(Unwatched(), train=512, test=256, classes=4)
    done = 0
    for project in call(address, "/api/projects/")["results"]:
        for task in call(address, f"/api/projects/{project['id']}/export?exportType=JSON&download_all_tasks=true"):
            if not task["annotations"]:
                id = int(task["data"]["kdal"].rpartition("/")[2])
                choice = {"choices": [images.classes[int(images.train.labels.all()[id])]]}
                result = [{"from_name": "label", "to_name": "image", "type": "choices", "value": choice}]
                call(address, f"/api/tasks/{task['id']}/annotations/", {"result": result, "lead_time": 2.5})
                done += 1
    return done


def test_a_run_labelled_there_is_the_one_that_is_simulated(server: str, kdal: Kdal, here: Path) -> None:
    simulated = kdal(*SMALL, "hydra.run.dir=simulated").run
    run, set_env = RunFolder(here / "run"), _Environment(server)
    words = (*SMALL, "oracle=label_studio", "oracle.wait=0", "hydra.run.dir=run")
    for count in (64, 20, 20):
        ended = kdal(*words, first=set_env)
        assert ended.code == 5, ended.err
        assert f"waiting for {count} labels: label them at {server}/projects/" in ended.err
        words = ("al-loop", "resume=run")
        assert kdal(*words, first=set_env).code == 5  # asks about the same, and makes nothing twice
        assert label_all(server) == count
    assert kdal(*words, first=set_env).code == 0
    ours, theirs = run.outcome(), simulated.outcome()
    assert all(ours[key] == theirs[key] for key in ("curve.csv", "checkpoints"))
    assert run.bought() == simulated.bought()
    assert {row["owner"] for row in run.table("ledger.csv")} == {"a@b.c"}
    assert {row["seconds"] for row in run.table("ledger.csv")} == {"2.5"}


class _Environment:
    """What a command does before: it sets where the server is, and the token."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self) -> None:
        os.environ["LABEL_STUDIO_URL"], os.environ["LABEL_STUDIO_API_KEY"] = self.address, TOKEN
