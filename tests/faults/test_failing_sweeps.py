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
    return [RunFolder(path) for path in sorted((here / "sweep").iterdir()) if path.name[0].isdigit()]


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
    assert [row["state"] for row in rows] == ["failed", "done"]
    assert [float(row["recipe.lr"]) for row in rows] == [1e30, 0.003]
    assert (rows[0]["exit_code"], rows[1]["labels"]) == ("3", "80")
    assert "not finite" in rows[0]["reason"]
    failed, summary = ended.out.splitlines()[-2:]
    assert failed == f"job 0 failed, exit code 3: {rows[0]['reason']}"
    assert summary == "summary in sweep/summary.csv"


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


def test_a_stopped_sweep_names_the_command_that_goes_on_and_does_what_is_left(kdal: Kdal, here: Path, reference):
    """Jobs that are done stay as they are, to the byte; one that had failed is tried again."""
    running = kdal.start(*SWEEP, "seed=1,0,2")
    while not (here / "sweep" / "summary.csv").exists():
        time.sleep(0.005)
    running.wait_until(lambda: len(jobs(here)) == 2 and list(jobs(here)[1].path.glob("curve.csv")))
    running.signal(signal.SIGTERM)
    stopped = running.ended()
    assert stopped.code == 128 + signal.SIGTERM
    first = jobs(here)[0].contents()
    command = stopped.err.strip().partition("go on with: kdal ")[2]
    assert command == f"al-loop -m resume={here / 'sweep'}"

    again = kdal(*command.split())
    assert (again.code, again.err) == (0, "")
    assert jobs(here)[0].contents() == first
    assert jobs(here)[1].outcome() == reference.outcome
    rows = RunFolder(here / "sweep").table("summary.csv")
    assert [(row["job"], row["seed"], row["state"]) for row in rows] == [
        ("0", "1", "done"),
        ("1", "0", "done"),
        ("2", "2", "done"),
    ]
    assert (here / "sweep" / "report.html").exists()


def test_what_is_no_sweep_cannot_go_on_as_one(kdal: Kdal, here: Path):
    (here / "empty").mkdir()
    assert "no sweep to resume here (empty)" in kdal("al-loop", "-m", "resume=empty").refusal
    assert "nothing beside it" in kdal("al-loop", "-m", "resume=empty", "seed=1").refusal


def test_a_number_of_seeds_is_a_sweep_over_them(kdal: Kdal, here: Path):
    assert kdal(*SMALL, "hydra.sweep.dir=sweep", "seeds=2").code == 0
    assert [row["seed"] for row in RunFolder(here / "sweep").table("summary.csv")] == ["0", "1"]


@pytest.mark.parametrize("seeds", ["0", "-1", "1.5", "all", "[1,2]", "", "2,3"])
def test_a_number_of_seeds_that_is_none_is_refused(kdal: Kdal, here: Path, seeds: str):
    refusal = kdal(*SMALL, f"seeds={seeds}").refusal
    assert f"seeds={seeds}" in refusal
    assert "whole number" in refusal
    assert list(here.iterdir()) == []


def test_a_job_of_a_sweep_can_be_resumed_by_itself(kdal: Kdal, here: Path, reference):
    running = kdal.start(*SWEEP, "seed=0,1")
    running.wait_for("round 2/3")
    running.signal(signal.SIGKILL)
    running.ended()
    assert kdal("al-loop", f"resume={jobs(here)[0].path}").code == 0
    assert jobs(here)[0].outcome() == reference.outcome
