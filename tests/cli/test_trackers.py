"""Trackers of a whole run: they hold what the run folder holds, and no run depends on them."""

import importlib.util
import json
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cli.harness import Kdal, RunFolder

SMALL = ("al-loop", "experiment=smoke", "loss=none", "budget.rounds=3", "recipe.checks=4")
TRACKERS = ("tensorboard", "mlflow", "wandb")

FRAGILE = """
import json

class Book:
    def __init__(self, folder, fails_after):
        self.path, self.left = folder / "book.jsonl", fails_after

    def figures(self, values, step, what):
        if self.left == 0:
            raise ConnectionError("the line is dead")
        self.left -= 1
        with self.path.open("a") as file:
            file.write(json.dumps([what, step, values]) + "\\n")

    def close(self, state):
        with self.path.open("a") as file:
            file.write(json.dumps([state]) + "\\n")

def book(folder, config, *, fails_after: int = -1):
    if fails_after == -2:
        raise ConnectionError("nobody answers")
    return Book(folder, fails_after)
"""


def words(fails_after: int) -> tuple[str, ...]:
    return (*SMALL, "tracker.name=mine:book", f"+tracker.fails_after={fails_after}", "trust=[mine]")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What SMALL comes to without a tracker."""
    here = tmp_path_factory.mktemp("undisturbed") / "here"
    here.mkdir()
    return Kdal(here)(*SMALL).run.outcome()


@pytest.fixture
def own(here: Path) -> Path:
    """A folder with a tracker of one's own."""
    (here / "mine.py").write_text(FRAGILE)
    return here


def book(run: RunFolder) -> list[Any]:
    return [json.loads(line) for line in (run.path / "book.jsonl").read_text().splitlines()]


def hide(package: str) -> None:
    """As if it were not installed."""
    sys.modules[package] = None  # type: ignore[assignment]


class TestOfOnesOwn:
    def test_it_gets_every_figure_of_the_log_and_the_result_and_is_closed(self, kdal: Kdal, own: Path) -> None:
        run = kdal(*words(-1)).run
        *sent, result, end = book(run)
        logged = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
        assert [values for _, _, values in sent] == [
            {key: value for key, value in line.items() if key not in ("what", "step")} for line in logged
        ]
        assert [(what, step) for what, step, _ in sent if what.startswith("round_")] == [
            (line["what"].replace(" ", "_"), line["step"]) for line in logged if line["what"]
        ]
        assert [step for what, step, _ in sent if what == "curve"] == [int(row["labels"]) for row in run.table()]
        assert result == ["result", 0, json.loads((run.path / "result.json").read_text())]
        assert end == ["done"]

    @pytest.mark.parametrize("fails_after", [0, 3])
    def test_one_that_fails_is_told_once_and_the_run_is_what_it_would_have_been(
        self, kdal: Kdal, own: Path, undisturbed: dict, fails_after: int
    ) -> None:
        ended = kdal(*words(fails_after))
        assert ended.out.count("tracker=mine:book failed: the line is dead") == 1
        assert ended.run.outcome() == undisturbed

    def test_one_that_cannot_begin_refuses_the_run_which_leaves_nothing(self, kdal: Kdal, own: Path) -> None:
        ended = kdal(*words(-2), "hydra.run.dir=refused")
        assert ended.code == 2
        assert "nobody answers" in ended.refusal
        assert not (own / "refused").exists()

    def test_a_stopped_run_goes_on_without_one_that_has_gone(self, kdal: Kdal, own: Path, undisturbed: dict) -> None:
        running = kdal.start(*words(-1), "hydra.run.dir=run")
        running.wait_for("round 1/3")
        running.signal(15)
        running.ended()
        assert book(RunFolder(own / "run"))[-1] == ["stopped"]
        (own / "mine.py").write_text(FRAGILE.replace("fails_after == -2", "True"))
        ended = kdal("al-loop", "resume=run", "trust=[mine]")
        assert "nobody answers; the run goes on without it" in ended.out
        assert ended.run.outcome() == undisturbed


@pytest.mark.parametrize("tracker", TRACKERS)
class TestOfOthers:
    def test_one_whose_package_is_missing_is_refused_in_one_line(self, kdal: Kdal, here: Path, tracker: str) -> None:
        ended = kdal(*SMALL, f"tracker={tracker}", first=partial(hide, tracker))
        assert ended.code == 2
        assert ended.refusal == f"tracker={tracker} needs the package {tracker}: pip install 'kdal[{tracker}]'"
        assert not list((here / "outputs").glob("al-loop/*"))

    def test_a_run_with_it_is_the_run_without_it(self, kdal: Kdal, tracker: str, undisturbed: dict) -> None:
        if importlib.util.find_spec(tracker) is None:
            pytest.skip(f"{tracker} is not installed")
        theirs = partial(warnings.simplefilter, "error" if tracker == "tensorboard" else "ignore")
        ended = kdal(*SMALL, f"tracker={tracker}", first=theirs)
        assert (ended.code, ended.err) == (0, "")
        assert "failed" not in ended.out
        assert ended.run.outcome() == undisturbed


def test_tensorboard_has_the_curve_of_the_run(kdal: Kdal) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = kdal(*SMALL, "tracker=tensorboard").run
    events = EventAccumulator(str(run.path / "tensorboard" / "curve")).Reload()
    curve = [(event.step, pytest.approx(event.value)) for event in events.Scalars("test_accuracy")]
    assert curve == [(int(row["labels"]), float(row["test_accuracy"])) for row in run.table()]


def test_a_password_reaches_no_file(kdal: Kdal, here: Path) -> None:
    ended = kdal(*SMALL, "tracker=mlflow", "tracker.uri=http://me:hunter2@nowhere.example")
    assert ended.code == 2
    assert "hunter2" not in ended.out + ended.err
    assert not any(b"hunter2" in path.read_bytes() for path in here.rglob("*") if path.is_file())
