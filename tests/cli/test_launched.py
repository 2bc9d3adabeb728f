"""A run by torchrun: one machine, two machines, and what becomes of it when one of them is gone.

A machine is a PID namespace with an address of its own: its processes see none of the files that those of another have
open, and all of them end with it.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cli.harness import Kdal

SMALL = ("al-loop", "experiment=smoke", "recipe.precision=fp32", "teacher.recipe.precision=fp32", "threads=1")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
APART = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
QUIET = {"TORCHELASTIC_ERROR_FILE": "", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def launched(folder: Path, *words: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, str(processes), "--master-port", free_port(), "-m", "kdal_cli", *words]
    return subprocess.run(command, cwd=folder, env=os.environ | QUIET, capture_output=True, text=True)


def machine(folder: Path, number: int, port: str, *words: str) -> subprocess.Popen[str]:
    """An agent of a job of two machines, a process each."""
    meeting = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test"]
    command = [*APART, *TORCHRUN, "1", *meeting, "--local-addr", f"127.0.0.{number + 1}", "-m", "kdal_cli", *words]
    pipe, out = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | QUIET, stdout=pipe, stderr=out, text=True, start_new_session=True
    )


@pytest.fixture
def machines(kdal: Kdal) -> Iterator[Callable[..., list[subprocess.Popen[str]]]]:
    """machines(*words): two agents, each on a machine of its own, that are gone after the test."""
    agents: list[subprocess.Popen[str]] = []

    def started(*words: str) -> list[subprocess.Popen[str]]:
        port = free_port()
        agents.extend(machine(kdal.here, number, port, *words) for number in range(2))
        return agents

    yield started
    for agent in agents:
        with suppress(ProcessLookupError):
            os.killpg(agent.pid, signal.SIGKILL)
        agent.communicate()


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def weights(run: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((run / "checkpoints").glob("round_*.safetensors"))]


def test_two_processes_of_torchrun_buy_and_learn_what_devices_2_does(kdal: Kdal) -> None:
    there = launched(kdal.here, *SMALL, "hydra.run.dir=there")
    assert there.returncode == 0, there.stderr
    assert there.stdout.count("round 2: 60 labels") == 1
    here = kdal(*SMALL, "device=cpu", "devices=2", "hydra.run.dir=here")
    assert here.code == 0
    assert weights(kdal.here / "there") == weights(kdal.here / "here")
    assert len(weights(kdal.here / "there")) == 3


@pytest.mark.slow
def test_without_torchruns_store_number_0_keeps_one_and_everybody_ends_well(kdal: Kdal) -> None:
    port = free_port()
    several = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-m", "kdal_cli", *SMALL, "hydra.run.dir=by_hand"]
    started = [
        subprocess.Popen(command, cwd=kdal.here, env=os.environ | several | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]
    assert [process.wait(300) for process in started] == [0, 0]
    here = kdal(*SMALL, "device=cpu", "devices=2", "hydra.run.dir=here")
    assert here.code == 0
    assert weights(kdal.here / "by_hand") == weights(kdal.here / "here")


def test_an_error_is_told_once_and_nobody_is_left(kdal: Kdal) -> None:
    wrong = launched(kdal.here, "al-loop", "typo=1")
    assert wrong.returncode != 0
    assert wrong.stderr.count("kdal: error: typo") == 1
    assert "exitcode  : 2" in wrong.stderr


@pytest.mark.slow
def test_what_needs_no_helper_ends_without_any(kdal: Kdal) -> None:
    assert launched(kdal.here, "al-loop", "--cfg", "job").returncode == 0
    version = launched(kdal.here, "--version")
    assert (version.returncode, version.stdout.count("kdal")) == (0, 1)


@pytest.mark.slow
def test_a_number_of_devices_that_torchrun_has_not_started_is_refused(kdal: Kdal) -> None:
    wrong = launched(kdal.here, *SMALL, "devices=3")
    assert "devices=3: 2, as torchrun has started, or leave it out" in wrong.stderr


@pytest.mark.slow
def test_two_machines_that_share_no_memory_learn_the_same(kdal: Kdal, machines) -> None:
    agents = machines(*SMALL, "hydra.run.dir=apart")
    said = [agent.communicate(timeout=300)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    together = kdal(*SMALL, "device=cpu", "devices=2", "hydra.run.dir=here")
    assert together.code == 0
    assert weights(kdal.here / "apart") == weights(kdal.here / "here")


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_when_a_machine_is_lost_the_run_ends_within_a_minute_and_another_team_goes_on(
    kdal: Kdal, machines, lost: int
) -> None:
    run = kdal.here / "run"
    agents = machines(*SMALL, "recipe.steps=300", "hydra.run.dir=run")
    patience = time.monotonic() + 200
    while not (run / "curve.csv").exists():
        assert time.monotonic() < patience
        time.sleep(0.2)
    os.killpg(agents[lost].pid, signal.SIGKILL)
    said = [agent.communicate(timeout=60)[0] for agent in agents]
    assert 0 not in [agent.returncode for agent in agents], said
    uneven = launched(kdal.here, "al-loop", "resume=run", processes=3)
    assert "recipe.batch=16" in uneven.stderr
    resumed = launched(kdal.here, "al-loop", "resume=run", processes=4)
    assert resumed.returncode == 0, resumed.stderr
    assert len(weights(run)) == 3
