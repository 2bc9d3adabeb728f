"""Sweeps of which something fails: the other jobs run, what failed is told, and the sweep can be typed again."""

import signal
import time
from pathlib import Path

import pytest
from cli.harness import Ended, Kdal, RunFolder
from faults.conftest import SMALL

SWEEP = (*SMALL, "-m", "hydra.sweep.dir=sweep")


def jobs(here: Path) -> list[RunFolder]:
    """The run folders of the sweep, in order."""
    return [RunFolder(path) for path in sorted((here / "sweep").iterdir()) if path.is_dir()]


def errors(ended: Ended) -> list[str]:
    """The lines on stderr; each must be one of ours."""
    lines = ended.err.splitlines()
    assert all(line.startswith("kdal: error: ") for line in lines), ended.err
    return lines


@pytest.mark.parametrize("values", ["5,100000,10", "100000,5,10"])
def test_a_job_with_a_bad_value_does_not_stop_the_others(kdal: Kdal, here: Path, values: str):
    ended = kdal(*SWEEP, f"budget.initial={values}")
    assert ended.code == 2
    [line] = errors(ended)
    assert "budget.initial=100000" in line
    assert [run.table()[0]["labels"] for run in jobs(here)] == ["5", "10"]
    assert all((run.path / "result.json").exists() for run in jobs(here))


def test_a_job_that_the_machine_fails_does_not_stop_the_others(kdal: Kdal, here: Path):
    ended = kdal(*SWEEP, "recipe.lr=1e30,0.003")
    assert ended.code == 3
    [line] = errors(ended)
    assert "not finite" in line
    failed, done = jobs(here)
    assert not (failed.path / "result.json").exists()
    assert "Traceback" in (failed.path / "run.log").read_text()
    assert len(done.table()) == 4


def test_every_job_that_fails_is_told_once(kdal: Kdal, here: Path):
    ended = kdal(*SWEEP, "budget.initial=100000,5,200000")
    assert ended.code == 2
    assert ["100000" in line or "200000" in line for line in errors(ended)] == [True, True]
    assert len(jobs(here)) == 1


def test_an_unknown_option_of_a_later_job_is_refused_before_the_first_one_runs(kdal: Kdal, here: Path):
    ended = kdal(*SWEEP, "sampler=random,margn")
    assert ended.code == 2
    assert "did you mean 'margin'" in ended.refusal
    assert not (here / "outputs").exists()
    assert jobs(here) == []


def test_the_summary_of_a_sweep_names_the_jobs_that_are_done_and_those_that_are_not(kdal: Kdal, here: Path):
    ended = kdal(*SWEEP, "recipe.lr=1e30,0.003")
    rows = RunFolder(here / "sweep").table("summary.csv")
    assert [row["state"] for row in rows] == ["not done", "done"]
    assert [float(row["recipe.lr"]) for row in rows] == [1e30, 0.003]
    assert rows[1]["labels"] == "80"
    assert "summary" in ended.out.splitlines()[-1]


def test_a_killed_sweep_that_is_typed_again_goes_on_where_it_was(kdal: Kdal, here: Path, reference):
    words = (*SWEEP, "seed=1,0,2")
    running = kdal.start(*words)
    running.wait_for("round 1/3")
    while len(jobs(here)) < 2 or not list(jobs(here)[1].path.glob("curve.csv")):
        time.sleep(0.005)
    running.signal(signal.SIGKILL)
    assert running.ended().code == -signal.SIGKILL
    first = jobs(here)[0].contents()
    assert not (jobs(here)[1].path / "result.json").exists()

    again = kdal(*words)
    assert (again.code, again.err) == (0, "")
    assert jobs(here)[0].contents() == first
    assert jobs(here)[1].outcome() == reference.outcome
    assert len(jobs(here)) == 3


def test_a_job_of_a_sweep_can_be_resumed_by_itself(kdal: Kdal, here: Path, reference):
    running = kdal.start(*SWEEP, "seed=0,1")
    running.wait_for("round 2/3")
    running.signal(signal.SIGKILL)
    running.ended()
    assert kdal("al-loop", f"resume={jobs(here)[0].path}").code == 0
    assert jobs(here)[0].outcome() == reference.outcome
