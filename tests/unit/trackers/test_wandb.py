"""The files of Weights & Biases offline, read back record by record: nothing of a run is lost before it is sent."""

import json
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from kdal_cli.trackers.wandb import wandb

pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries that it stands on

BLOCK, HEADER = 32768, 7


def records(path: Path) -> list[Any]:
    """The records of a log in the format of LevelDB: fragments with a checksum, a length and a kind, in blocks."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole, found = path.read_bytes(), HEADER, b"", []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # all of it, or its last fragment
            found.append(Record.FromString(whole))
            whole = b""
    return found


def ended(folder: Path) -> list[Any]:
    """The records of every start, in order; a process of the library writes the last ones a moment after the end."""
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        patience = time.monotonic() + 30
        while not any(record.WhichOneof("record_type") == "exit" for record in records(path)):
            assert time.monotonic() < patience, f"{path} has no end"
            time.sleep(0.05)
        found += records(path)
    return found


def of_kind(folder: Path, kind: str) -> list[Any]:
    return [getattr(record, kind) for record in ended(folder) if record.WhichOneof("record_type") == kind]


def history(folder: Path) -> list[dict[str, float]]:
    """Every line that was logged, without what the library adds."""
    lines = []
    for line in of_kind(folder, "history"):
        items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in line.item}
        lines.append({key: value for key, value in items.items() if not key.startswith("_")})
    return lines


def test_figures_are_in_the_file_against_a_step_of_their_own(tmp_path: Path) -> None:
    board = wandb(tmp_path, {"seed": 3})
    board.figures({"loss": 1.5}, 10, "round_0")
    board.figures({"test_accuracy": 0.9}, 20, "curve")
    board.figures({"loss": 0.5}, 20, "round_0")
    board.close("done")
    assert history(tmp_path) == [
        {"round_0/step": 10, "round_0/loss": 1.5},
        {"curve/step": 20, "curve/test_accuracy": 0.9},
        {"round_0/step": 20, "round_0/loss": 0.5},
    ]
    axes = {metric.glob_name: metric.step_metric for metric in of_kind(tmp_path, "metric") if metric.glob_name}
    assert axes == {"round_0/*": "round_0/step", "curve/*": "curve/step"}


def test_the_configuration_is_there_and_git_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    who = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    for words in (("init", "-q"), (*who, "commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    wandb(tmp_path, {"recipe": {"lr": 0.125}}, project="mine").close("done")
    [run] = of_kind(tmp_path, "run")
    assert {item.key: json.loads(item.value_json) for item in run.config.update}["recipe"] == {"lr": 0.125}
    assert (run.project, run.display_name) == ("mine", "/".join(tmp_path.parts[-2:]))
    assert (run.git.commit, run.git.remote_url) == ("", "")


def test_a_run_that_goes_on_has_the_same_id(tmp_path: Path) -> None:
    for labels, state in ((20, "stopped"), (40, "done")):
        board = wandb(tmp_path, {})
        board.figures({"test_accuracy": labels / 100}, labels, "curve")
        board.close(state)
        time.sleep(1.1)  # a start has a folder by its second
    assert {run.run_id for run in of_kind(tmp_path, "run")} == {(tmp_path / "wandb.id").read_text()}
    assert [line["curve/step"] for line in history(tmp_path)] == [20, 40]
    assert [done.exit_code for done in of_kind(tmp_path, "exit")] == [1, 0]
