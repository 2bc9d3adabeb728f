"""The commands of the card: typed as they stand there, and as people will type them."""

import re
from pathlib import Path

import pytest
from cli.harness import Ended, Kdal, RunFolder, run_installed

SAMPLERS = ["random", "entropy", "margin"]


def check_a_hundred_labels_a_round(ended: Ended) -> None:
    assert (ended.code, ended.err) == (0, "")
    assert [int(row["labels"]) for row in ended.run.table()] == [100, 200, 300, 400]
    assert (ended.run.path / "curve.png").exists()


@pytest.mark.slow
def test_al_loop_with_margin_and_a_hundred_labels_a_round_is_a_good_student(installed):
    ended = installed("al-loop", "sampler=margin", "budget=100")
    check_a_hundred_labels_a_round(ended)
    assert float(ended.run.table()[-1]["test_accuracy"]) > 0.95


def test_al_loop_with_margin_and_a_hundred_labels_a_round_with_short_trainings(kdal: Kdal):
    short = ("recipe.steps=4", "recipe.checks=1", "teacher.recipe.epochs=0.2", "teacher.recipe.checks=1")
    check_a_hundred_labels_a_round(kdal("al-loop", "sampler=margin", "budget=100", *short))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sweep is."""
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def sweep(place: Path) -> Ended:
    return run_installed(place, "al-loop", "-m", "sampler=random,entropy,margin", "budget=50,100", "experiment=smoke")


@pytest.fixture(scope="module")
def runs(place: Path, sweep: Ended) -> dict[tuple[str, int], RunFolder]:
    """{(sampler, labels a round): its folder}, in the order of the jobs."""
    assert (sweep.code, sweep.err) == (0, "")
    folders = sorted(path.parent for path in place.glob("outputs/multirun/al-loop/*/*/curve.csv"))
    found = [re.fullmatch(r"\d_budget\.query=(\d+),experiment=smoke,sampler=(\w+)", path.name) for path in folders]
    assert all(found), folders
    return {(words[2], int(words[1])): RunFolder(path) for words, path in zip(found, folders, strict=True) if words}


class TestASweepOfSamplersAndBudgets:
    def test_it_is_six_runs_in_folders_named_by_what_they_are(self, runs):
        assert list(runs) == [(sampler, query) for sampler in SAMPLERS for query in (50, 100)]

    def test_each_buys_as_many_labels_as_it_is_told(self, runs):
        for (_, query), run in runs.items():
            assert [int(row["labels"]) for row in run.table()] == [20, 20 + query, 20 + 2 * query]

    def test_round_0_is_bit_identical_whatever_the_sampler_and_the_query(self, runs):
        first = {(tuple(run.picks(0)), str(run.table()[0]), str(run.weights("round_000"))) for run in runs.values()}
        assert len(first) == 1

    def test_the_samplers_differ_from_round_1_on(self, runs):
        assert len({tuple(run.picks(1)) for (_, query), run in runs.items() if query == 50}) == 3
        assert len({str(run.weights("round_001")) for run in runs.values()}) == 6

    def test_the_teacher_is_trained_once_for_all_of_them(self, place: Path, sweep: Ended, runs):
        assert len(list(place.glob("outputs/teachers/*/teacher.safetensors"))) == 1
        assert sweep.out.count("teacher mlp: 20 steps\n") == 1

    def test_a_table_of_all_runs_ends_it(self, runs, sweep: Ended):
        rows = RunFolder(next(iter(runs.values())).path.parent).table("summary.csv")
        assert [(row["sampler"], row["budget.query"]) for row in rows] == [(s, str(q)) for s, q in runs]
        assert [row["labels"] for row in rows] == [run.table()[-1]["labels"] for run in runs.values()]
        assert {row["state"] for row in rows} == {"done"}
        assert (
            f"summary in {next(iter(runs.values())).path.parent.relative_to(sweep.here)}/summary.csv"
            in sweep.out.splitlines()
        )


def test_flags_may_stand_after_overrides(kdal: Kdal, here: Path):
    ended = kdal("al-loop", "experiment=smoke", "budget.rounds=1", "sampler=margin", "-m", "budget=5,10")
    assert (ended.code, ended.err) == (0, "")
    [summary] = here.glob("outputs/multirun/al-loop/*/summary.csv")
    assert [row["labels"] for row in RunFolder(summary.parent).table("summary.csv")] == ["25", "30"]


def test_a_sweep_over_seeds_shares_one_teacher_and_nothing_else(kdal: Kdal, here: Path):
    assert kdal("al-loop", "experiment=smoke", "budget.rounds=0", "-m", "seed=0,1").code == 0
    assert len(list(here.glob("outputs/teachers/*/teacher.safetensors"))) == 1
    first, second = (RunFolder(p.parent) for p in here.glob("outputs/multirun/al-loop/*/*/curve.csv"))
    assert first.picks(0) != second.picks(0)
    assert first.weights("round_000") != second.weights("round_000")
