"""Killed at any instant, any number of times, a run ends as if nothing had happened, and no label is paid for twice."""

import itertools
import random
import signal
import time

import pytest
from cli.harness import Ended, Kdal, RunFolder
from faults.conftest import SMALL
from faults.sabotage import DieBefore, TearLine, snapshot_at_every_check
from thinning import some


def assert_undisturbed(ended: Ended, run: RunFolder, reference) -> None:
    assert (ended.code, ended.err) == (0, "")
    assert run.outcome() == reference.outcome
    assert len(set(run.bought())) == len(run.bought())
    assert not run.half_written()


@pytest.mark.parametrize("seed", some(range(30), of=10))
def test_killed_at_random_moments_a_run_ends_as_if_nothing_had_happened(go_on, run, reference, seed: int):
    rng = random.Random(seed)
    codes = []
    for _ in range(rng.randint(1, 3)):  # the second and third hit a run that is being resumed
        running = go_on(first=snapshot_at_every_check)
        running.wait_for_characters(rng.randrange(int(0.8 * reference.characters)))
        time.sleep(rng.uniform(0, 0.05))
        running.signal(signal.SIGKILL)
        codes.append(running.ended().code)
    assert codes[0] == -signal.SIGKILL
    assert_undisturbed(go_on().ended(), run, reference)


def killed_at_steps(kdal: Kdal, reference, steps: itertools.count) -> tuple[int, dict[int, str]]:
    """Kill a run before each of these durable steps and resume it.

    Returns how many steps there were, and what went wrong after which.
    """
    wrong: dict[int, str] = {}
    for killed, step in enumerate(steps):
        run = RunFolder(kdal.here / str(step))
        store = f"teacher.store={step}/teachers"  # outside outputs/, and so named again by whoever resumes
        words = (*SMALL, f"hydra.run.dir={step}", store)
        ended = kdal(*words, first=DieBefore(step))
        if ended.code == 0:
            return killed, wrong
        assert ended.code == -signal.SIGKILL
        started = (run.path / "manifest.json").exists()
        again = kdal("al-loop", f"resume={step}", store) if started else kdal(*words)
        try:
            assert_undisturbed(again, run, reference)
        except AssertionError as error:
            wrong[step] = str(error)
    raise AssertionError("there is always a last step")


@pytest.mark.slow
def test_killed_before_one_fsync_or_rename_in_seventeen(kdal, reference):
    killed, wrong = killed_at_steps(kdal, reference, itertools.count(1, 17))
    assert killed > 6
    assert not wrong


@pytest.mark.slow
def test_killed_before_any_fsync_or_rename(kdal, reference):
    killed, wrong = killed_at_steps(kdal, reference, itertools.count(1))
    assert killed > 100
    assert not wrong


def test_killed_between_a_purchase_and_its_table_the_table_has_it_all_the_same(go_on, run, reference):
    go_on(first=DieBefore(7, of="ledger.csv")).ended()  # the fourth purchase, the last
    assert_undisturbed(go_on().ended(), run, reference)


@pytest.mark.parametrize(
    "number", [1, 4, 7, 10, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 5, 6, 8, 9))]
)
def test_a_torn_last_line_of_the_ledger_is_put_aside_and_asked_again(go_on, run, reference, number: int):
    assert go_on(first=TearLine(number)).ended().code == -signal.SIGKILL
    torn = (run.path / "ledger.jsonl").read_bytes().split(b"\n")[-1]
    assert torn
    assert_undisturbed(go_on().ended(), run, reference)
    assert (run.path / "ledger.torn").read_bytes() == torn


def test_the_picture_and_the_result_are_those_of_an_undisturbed_run_as_well(go_on, run, reference):
    go_on(first=DieBefore(7, of="curve.csv")).ended()
    assert len(run.table()) == 3
    assert go_on().ended().code == 0
    assert (run.path / "curve.png").read_bytes() == (reference.run.path / "curve.png").read_bytes()


def test_killed_after_the_last_round_the_result_is_that_of_an_undisturbed_run(go_on, run, reference):
    go_on(first=DieBefore(1, of="result.json")).ended()
    assert len(run.table()) == 4
    assert go_on().ended().code == 0
    assert (run.path / "result.json").read_text() == (reference.run.path / "result.json").read_text()


def test_a_killed_teacher_is_the_same_when_it_is_trained_at_last(kdal: Kdal, reference):
    words = ("train-teacher", "experiment=smoke", "recipe.checks=4", "teacher.recipe.checks=4")
    undisturbed = kdal(*words, "teacher.store=undisturbed").run.weights("teacher")
    for step in (3, 5, 7):
        killed = kdal(
            *words, f"hydra.run.dir={step}", f"teacher.store=killed/{step}", first=DieBefore(step, "snapshot")
        )
        assert killed.code == -signal.SIGKILL
        assert (kdal.here / str(step) / "training.snapshot").exists()
        again = kdal("train-teacher", f"resume={step}", f"teacher.store=killed/{step}")
        assert (again.code, again.err) == (0, "")
        assert "step 5/20" not in again.out  # it goes on from the snapshot, and does not start again
        assert RunFolder(kdal.here / str(step)).weights("teacher") == undisturbed


def test_a_killed_distillation_goes_on_to_the_same_students(kdal: Kdal):
    words = ("distill", "experiment=smoke", "compare=true", "recipe.checks=4")
    undisturbed = kdal(*words).run
    for step in (3, 7, 11, 15):
        run = RunFolder(kdal.here / str(step))
        killed = kdal(*words, f"hydra.run.dir={step}", first=DieBefore(step, "snapshot"))
        assert killed.code == -signal.SIGKILL
        again = kdal("distill", f"resume={step}")
        assert (again.code, again.err) == (0, "")
        for name in ("student", "student_alone"):
            assert run.weights(name) == undisturbed.weights(name)
