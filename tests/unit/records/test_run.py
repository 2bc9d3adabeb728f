"""The folder of a run: one process at a time, one configuration for ever, a snapshot that is whole or nothing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from kdal_cli.errors import InUse, UserError
from kdal_cli.records.files import TEMPORARY
from kdal_cli.records.run import Log, Request, Run, claim
from kdal_cli.records.snapshots import Snapshots

CONFIG = {"seed": 3, "data": {"name": "blobs"}, "recipe": {"lr": 0.1}}
MACHINE = {"device": "cpu", "threads": 1}

HOLDER = """
import fcntl, pathlib, sys, time
file = open(pathlib.Path(sys.argv[1]) / ".lock", "a")
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("held", flush=True)
time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen]:
    """One that tries to hold the folder; what it prints says whether it does."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield process
        process.kill()


# The claim.


def test_a_folder_that_another_process_runs_in_is_refused(tmp_path: Path) -> None:
    with another_process(tmp_path) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InUse, match="another process is running in this folder"), claim(tmp_path):
            pass


def test_while_it_is_held_no_other_process_gets_it_and_afterwards_one_does(tmp_path: Path) -> None:
    with claim(tmp_path), another_process(tmp_path) as other:
        assert other.stdout.readline() == ""
    with another_process(tmp_path) as other:
        assert other.stdout.readline() == "held\n"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with another_process(tmp_path) as other:
        other.stdout.readline()
        other.kill()
        other.wait()
        with claim(tmp_path) as run:
            assert run.folder == tmp_path


def test_it_is_let_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claim(tmp_path):
        _ = 1 // 0
    with claim(tmp_path):
        pass


def test_one_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    with claim(tmp_path), pytest.raises(InUse), claim(tmp_path):
        pass


def test_claiming_makes_the_folder_and_sweeps_what_killed_writers_left(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with claim(folder):
        (folder / f".curve.csv.x{TEMPORARY}").write_text("half")
    with claim(folder):
        assert names(folder) == [".lock"]


def test_a_folder_that_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=r"cannot write here: .*choose another hydra\.run\.dir"), claim(folder):
            pass


# What it says of itself.


def describe(folder: Path, config: dict = CONFIG, data: str = "d" * 64, machine: dict = MACHINE) -> dict:
    Run(folder).describe(config, data, Request("al-loop", "kdal al-loop", {"sampler": "margin"}), machine)
    return json.loads((folder / "manifest.json").read_text())


def test_the_manifest_names_command_versions_machine_and_seed(tmp_path: Path) -> None:
    manifest = describe(tmp_path)
    (start,) = manifest["starts"]
    assert (manifest["seed"], manifest["data_sha256"]) == (3, "d" * 64)
    assert (start["command"], start["machine"]) == ("kdal al-loop", MACHINE)
    assert start["versions"]["torch"] == torch.__version__
    assert {"kdal", "python", "numpy", "hydra-core"} <= set(start["versions"])


def test_a_resumed_run_adds_its_start_even_on_another_machine(tmp_path: Path) -> None:
    describe(tmp_path)
    manifest = describe(tmp_path, machine={"device": "cuda", "threads": 8})
    assert [start["machine"]["device"] for start in manifest["starts"]] == ["cpu", "cuda"]


def test_the_order_of_the_keys_is_no_change(tmp_path: Path) -> None:
    describe(tmp_path)
    assert len(describe(tmp_path, config=dict(reversed(CONFIG.items())))["starts"]) == 2


@pytest.mark.parametrize(
    ("what", "changed"),
    [("configuration", {"config": {**CONFIG, "recipe": {"lr": 0.2}}}), ("data", {"data": "e" * 64})],
)
def test_a_resumed_run_with_another_configuration_or_other_data_is_refused(
    tmp_path: Path, what: str, changed: dict
) -> None:
    before = describe(tmp_path)
    with pytest.raises(UserError, match=f"^the {what} "):
        describe(tmp_path, **changed)
    assert json.loads((tmp_path / "manifest.json").read_text()) == before


def test_done_is_when_the_result_is_written(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.result is None
    run.finish({"test_accuracy": 0.75})
    assert Run(tmp_path).result == {"test_accuracy": 0.75}


@pytest.mark.parametrize("content", ["", "{", "[1]"])
@pytest.mark.parametrize("name", ["manifest.json", "result.json"])
def test_a_file_of_the_run_that_was_damaged_is_refused_by_name(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        _ = describe(tmp_path) if name == "manifest.json" else Run(tmp_path).result


def test_files_are_written_as_text_or_bytes_into_folders_of_their_own(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.write("picks/round_000.csv", "é\n").read_bytes() == "é\n".encode()
    assert run.write("curve.png", b"\x89").read_bytes() == b"\x89"


# The log.


def test_every_figure_is_a_line_with_its_work_and_step(tmp_path: Path) -> None:
    log = Log(Run(tmp_path))
    log.begin("round 0", 10)
    log.advance(4, 256)
    log.figures({"loss": 1.5})
    log.advance(6, 384)
    log.figures({"loss": 0.5})
    log.end()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"what": "round 0", "step": 4, "loss": 1.5}, {"what": "round 0", "step": 10, "loss": 0.5}]


def test_a_line_that_a_kill_tore_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    Log(Run(tmp_path)).figures({"loss": 1.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"what": "round 0", "lo')
    Log(Run(tmp_path)).figures({"loss": 0.5})
    lines = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [1.5, 0.5]


def test_what_was_said_is_kept_with_its_time(tmp_path: Path) -> None:
    log = Log(Run(tmp_path))
    log.say("hello")
    log.say("again")
    times, words = zip(*(line.split(" ", 1) for line in (tmp_path / "run.log").read_text().splitlines()), strict=True)
    assert words == ("hello", "again")
    assert all(time.endswith("+00:00") for time in times)


# Snapshots.

STATE = {"step": 40, "learners": {"w": torch.arange(6.0)}, "best": None, "best_accuracy": 0.5}


def snapshots(tmp_path: Path, label: str = "round 1", every: float = 0.0) -> Snapshots:
    return Snapshots(tmp_path / "training.snapshot", label, every)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    snapshots(tmp_path).offer(STATE)
    return tmp_path


def test_a_snapshot_comes_back_as_it_was(saved: Path) -> None:
    state = snapshots(saved).load()
    assert {key: state[key] for key in ("step", "best", "best_accuracy")} == {
        "step": 40,
        "best": None,
        "best_accuracy": 0.5,
    }
    assert torch.equal(state["learners"]["w"], torch.arange(6.0))


def test_there_is_none_before_it_is_time_and_none_after_it_is_cleared(tmp_path: Path) -> None:
    patient = snapshots(tmp_path, every=60.0)
    patient.offer(STATE)
    assert patient.load() is None
    eager = snapshots(tmp_path)
    eager.offer(STATE)
    eager.clear()
    eager.clear()
    assert eager.load() is None


def test_after_a_snapshot_the_next_one_waits_its_turn(tmp_path: Path) -> None:
    keeper = snapshots(tmp_path)
    keeper.offer(STATE)
    keeper.every = 60.0
    keeper.offer({**STATE, "step": 80})
    assert keeper.load()["step"] == 40


def test_a_snapshot_of_another_training_is_not_read(saved: Path) -> None:
    assert snapshots(saved, label="round 2").load() is None


def test_a_damaged_snapshot_is_ignored_whatever_was_done_to_it(saved: Path) -> None:
    path = saved / "training.snapshot"
    whole = path.read_bytes()
    for length in range(0, len(whole), 29):
        path.write_bytes(whole[:length])
        assert snapshots(saved).load() is None
    for bit in range(0, 8 * len(whole), 101):
        byte, mask = divmod(bit, 8)
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << mask]) + whole[byte + 1 :])
        assert snapshots(saved).load() is None
    path.write_bytes(whole)
    assert snapshots(saved).load() is not None


def test_the_last_good_snapshot_stays_while_the_next_is_written(saved: Path) -> None:
    with (saved / "training.snapshot").open("rb") as before:
        snapshots(saved).offer({**STATE, "step": 80})
        assert len(before.read()) > 64
    assert snapshots(saved).load()["step"] == 80
