"""`devices=2` on a CPU: two processes, one run. What it buys and learns is what one process does; nobody is left over.

Precision is fp32 where numbers are compared: the networks have no batch-norm, so that only roundings differ.
"""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from cli.harness import Kdal, RunFolder, Running

TWO = ("device=cpu", "devices=2")
SMALL = ("al-loop", "experiment=smoke", "recipe.precision=fp32", "teacher.recipe.precision=fp32")
LONG = (*SMALL, *TWO, "recipe.steps=200", "recipe.checks=40", "hydra.run.dir=run")


def helpers(running: Running) -> list[int]:
    """The processes that a command has started and that are there still."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if int(parent) == running.process.pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def begun(kdal: Kdal, *words: str) -> tuple[Running, int]:
    """A command in the middle of its second round, and its helper."""
    running = kdal.start(*words)
    running.wait_for("round 1/2")
    running.wait_for_characters(len(running._said("out")) + 500)
    [helper] = helpers(running)
    return running, helper


def assert_gone(helper: int) -> None:
    patience = time.monotonic() + 10
    while not gone(helper):
        assert time.monotonic() < patience
        time.sleep(0.01)


def test_a_run_of_two_processes_buys_and_learns_what_one_does_and_writes_one_of_everything(kdal: Kdal) -> None:
    one, two = kdal(*SMALL), kdal(*SMALL, *TWO)
    assert (two.code, two.err) == (0, "")
    assert two.run.bought() == one.run.bought()
    assert [two.run.picks(round) for round in range(3)] == [one.run.picks(round) for round in range(3)]
    alone, together = one.run.outcome(), two.run.outcome()
    assert [record["ids"] for record in together["ledger.jsonl"] if "ids" in record] == [
        record["ids"] for record in alone["ledger.jsonl"] if "ids" in record
    ]
    assert together["timings.csv"] == ["0", "1", "2"]
    for ours, theirs in zip(two.run.table(), one.run.table(), strict=True):
        assert float(ours["test_accuracy"]) == pytest.approx(float(theirs["test_accuracy"]), abs=1 / 256)
        assert float(ours["test_nll"]) == pytest.approx(float(theirs["test_nll"]), rel=1e-4)
    [start] = json.loads((two.run.path / "manifest.json").read_text())["starts"]
    assert start["machine"]["devices"] == 2


def test_ctrl_c_stops_both_processes(kdal: Kdal) -> None:
    running, helper = begun(kdal, *LONG)
    running.signal(signal.SIGINT)
    stopped = running.ended()
    assert (stopped.code, len(stopped.err.splitlines())) == (130, 1)
    assert "go on with: kdal al-loop resume=run" in stopped.err
    assert gone(helper)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("devices=2", "device=cuda:1"), "device=cuda:1"),
        (("devices=0",), "devices=0: accepted: a whole number at least 1"),
        ((*TWO, "recipe.batch=15"), "recipe.batch=15 is not shared evenly (devices=2): a multiple of 2"),
    ],
    ids=["a named GPU", "none", "an odd batch"],
)
def test_what_cannot_be_divided_is_refused_before_anything_is_done(kdal: Kdal, here: Path, words, told: str) -> None:
    ended = kdal(*SMALL, *words)
    assert ended.code == 2
    assert told in ended.refusal
    assert not list(here.glob("outputs/al-loop/*"))


@pytest.mark.slow
def test_killed_and_resumed_it_ends_as_if_nothing_had_happened_and_its_helper_dies_with_it(kdal: Kdal) -> None:
    undisturbed = kdal(*LONG[:-1]).run.outcome()
    running, helper = begun(kdal, *LONG)
    running.signal(signal.SIGKILL)
    assert running.ended().code == -signal.SIGKILL
    assert_gone(helper)
    running, helper = begun(kdal, "al-loop", "resume=run")
    running.signal(signal.SIGTERM)
    assert running.ended().code == 128 + signal.SIGTERM
    assert gone(helper)
    assert kdal("al-loop", "resume=run").run.outcome() == undisturbed


@pytest.mark.slow
def test_a_helper_that_is_killed_ends_the_run_in_one_line_and_it_can_be_resumed(kdal: Kdal) -> None:
    running, helper = begun(kdal, *LONG)
    os.kill(helper, signal.SIGKILL)
    ended = running.ended()
    assert (ended.code, ended.refusal) == (3, "process 1 ended with exit code -9 (devices=2): resume the run")
    assert kdal("al-loop", "resume=run").code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")], ids=["basic", "joblib"]
)
def test_the_jobs_of_a_sweep_have_helpers_of_their_own(installed, kdal: Kdal, here: Path, launcher) -> None:
    alone = kdal(*SMALL, *TWO, "threads=1", "seed=1").run.outcome()
    ended = installed(
        *SMALL, *TWO, "threads=1", "-m", "seed=0,1", "hydra.sweep.dir=sweep", *launcher, PYTHONWARNINGS="default"
    )
    assert ended.code == 0, ended.err
    assert [row["state"] for row in RunFolder(here / "sweep").table("summary.csv")] == ["done", "done"]
    [run] = [RunFolder(path) for path in (here / "sweep").glob("1_*")]
    assert run.outcome() == alone


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("loss=vid", "student=small_cnn", "teacher=small_cnn"), ("teacher=peer",), ("loss=crd",)]
)
def test_a_distillation_scores_what_it_scores_in_one_process(kdal: Kdal, words: tuple[str, ...]) -> None:
    words = ("distill", *SMALL[1:], "recipe.steps=60", *words)
    results = [json.loads((run.path / "result.json").read_text()) for run in (kdal(*words).run, kdal(*words, *TWO).run)]
    accuracies = [result["student"]["accuracy"] for result in results]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.02)


OWN = """
from torch import nn

class Tiny(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.flat, self.last = nn.Flatten(), nn.Linear(shape.channels * shape.height * shape.width, shape.classes)
        {more}

    def forward(self, images):
        return self.last(self.flat(images))
"""


@pytest.mark.slow
def test_an_architecture_of_the_user_is_found_by_the_helper_and_a_lambda_in_it_is_refused(
    kdal: Kdal, here: Path
) -> None:
    words = ("al-loop", "experiment=smoke", "loss=none", *TWO, "student=custom", "student.name=own:Tiny", "trust=[own]")
    (here / "own.py").write_text(OWN.format(more=""))
    assert kdal(*words).code == 0
    (here / "own.py").write_text(OWN.format(more="self.scale = lambda x: x"))
    ended = kdal(*words)
    assert ended.code == 2
    assert "cannot be sent to another process" in ended.refusal
