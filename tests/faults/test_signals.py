"""Asked to stop, a run stops within seconds, says with which command it goes on, and that command does."""

import os
import re
import shlex
import signal
import time
from pathlib import Path

import pytest
from cli.harness import Ended, Kdal, RunFolder, run_installed, start_installed
from faults.conftest import SMALL

LONG = (*SMALL, "recipe.steps=200", "recipe.checks=50")
"""Four rounds of half a second each, so that there is time to be stopped in."""


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What LONG comes to when nobody stops it."""
    here = tmp_path_factory.mktemp("undisturbed") / "here"
    here.mkdir()
    return Kdal(here)(*LONG).run.outcome()


def command_told(ended: Ended) -> list[str]:
    """The words of the command in the one line on stderr, as a shell reads them.

    A signal may come between the opening of a file and what closes it: Python then warns, which only tests are shown.
    """
    line = ended.err.splitlines()[-1]
    assert ended.err.count("\n") == 1 or "ResourceWarning" in ended.err
    found = re.fullmatch(r"kdal: stopped by SIG\w+; go on with: kdal (.+)", line)
    assert found, line
    return shlex.split(found.group(1))


IGNORED = pytest.mark.skipif(
    signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, reason="hang-ups are ignored here, as nohup asks"
)
OTHERS = [
    pytest.param("SIGHUP", marks=[IGNORED, pytest.mark.slow]),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGUSR1", "SIGUSR2")),
]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", *OTHERS])
def test_a_signal_stops_a_run_and_the_command_that_it_names_goes_on(kdal: Kdal, run, undisturbed, name: str):
    number = signal.Signals[name]
    running = kdal.start(*LONG, f"hydra.run.dir={run.path}")
    running.wait_for("round 1/3")
    sent = time.monotonic()
    running.signal(number)
    stopped = running.ended()
    assert time.monotonic() - sent < 10
    assert stopped.code == 128 + number
    assert name in stopped.err
    assert len(run.table()) in (1, 2)

    again = kdal(*command_told(stopped))
    assert (again.code, again.err) == (0, "")
    assert run.outcome() == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=str)
def test_the_installed_command_stops_and_goes_on_like_that(here: Path, kdal: Kdal, undisturbed, number: int):
    process = start_installed(here, *LONG)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("round 1/3"):
            break
    sent = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - sent < 10
    assert process.returncode == 128 + number

    words = command_told(Ended(here, LONG, process.returncode, out, err))
    assert kdal(*words).code == 0
    assert RunFolder(here / words[-1].removeprefix("resume=")).outcome() == undisturbed


def test_the_command_that_is_told_can_be_pasted_into_a_shell_whatever_the_folder_is_called(kdal: Kdal, here: Path):
    running = kdal.start(*SMALL, "recipe.steps=400", r"hydra.run.dir='my run; $HOME'")
    running.wait_for("round 1/3")
    running.signal(signal.SIGTERM)
    assert command_told(running.ended()) == ["al-loop", "resume=my run; $HOME"]


def test_a_run_that_is_stopped_again_and_again_ends_all_the_same(kdal: Kdal, run, undisturbed):
    words = [*LONG, f"hydra.run.dir={run.path}"]
    for round in range(4):
        running = kdal.start(*words)
        running.wait_for(f"round {round}/3")
        running.signal(signal.SIGTERM)
        words = command_told(running.ended())
    assert kdal(*words).code == 0
    assert run.outcome() == undisturbed


def test_stopped_while_the_teacher_learns_a_run_goes_on_to_the_same_end(kdal: Kdal, run, undisturbed):
    running = kdal.start(*LONG, f"hydra.run.dir={run.path}", "teacher.recipe.steps=1000", "teacher.recipe.checks=100")
    running.wait_for("step 20/1,000")
    running.signal(signal.SIGTERM)
    again = kdal(*command_told(running.ended()))
    assert (again.code, again.err) == (0, "")
    assert len(run.table()) == 4


INTERRUPTER = """
import os, signal, sys

class Interrupter:
    seen = 0

    def find_spec(self, name, path=None, target=None):
        Interrupter.seen += 1
        if os.environ["INTERRUPT_AT"] in (name, str(Interrupter.seen)):
            os.kill(os.getpid(), getattr(signal, os.environ["INTERRUPT_BY"]))

sys.meta_path.insert(0, Interrupter())
"""
"""A signal at the import of a module, or at the n-th import of all."""


def check_signal_at_import(here: Path, at: str, name: str = "SIGINT") -> None:
    (here / "sitecustomize.py").write_text(INTERRUPTER)  # python imports it when it starts
    path = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])
    ended = run_installed(here, "al-loop", "experiment=smoke", PYTHONPATH=path, INTERRUPT_AT=at, INTERRUPT_BY=name)
    assert (ended.code, ended.err) == (128 + signal.Signals[name], "kdal: stopped\n")
    assert not (here / "outputs").exists()


@pytest.mark.parametrize("module", ["hydra.core", "torch.nn", "numpy.linalg"])
def test_a_signal_while_kdal_is_still_importing_is_one_line(here: Path, module: str):
    check_signal_at_import(here, module, "SIGTERM" if module == "torch.nn" else "SIGINT")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(150, 1350, 25))
def test_a_signal_at_any_import_is_one_line(here: Path, number: int):
    check_signal_at_import(here, str(number), "SIGTERM" if number % 2 else "SIGINT")


@pytest.mark.slow
def test_a_run_whose_helper_stands_still_stops_within_ten_seconds_and_leaves_no_process(here: Path):
    words = [*SMALL, "devices=2", "device=cpu", "recipe.steps=20000", "recipe.batch=16", "loss=none"]
    process = start_installed(here, *words)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("round 0/3"):
            break
    time.sleep(5)
    [helper] = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    os.kill(helper, signal.SIGSTOP)
    time.sleep(1)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - sent < 10
    assert process.returncode == 143
    assert command_told(Ended(here, (), process.returncode, out, err))[0] == "al-loop"
    time.sleep(1)
    state = Path(f"/proc/{helper}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_sweep_that_is_stopped_starts_no_other_job(kdal: Kdal, here: Path):
    running = kdal.start(*LONG, "-m", "seed=0,1,2", "hydra.sweep.dir=sweep")
    running.wait_for("round 1/3")
    running.signal(signal.SIGTERM)
    stopped = running.ended()
    assert stopped.code == 128 + signal.SIGTERM
    assert len(stopped.err.splitlines()) == 1
    assert [path.name[0] for path in (here / "sweep").iterdir() if path.is_dir()] == ["0"]
