"""What many runs say: the report of a sweep, lists of runs, and another run's queries bought again."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from cli.harness import Ended, Kdal, RunFolder

TINY = ("al-loop", "experiment=smoke", "budget.rounds=2", "recipe.steps=3", "recipe.checks=1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("many")


@pytest.fixture(scope="module")
def ended(place: Path) -> Ended:
    """Two samplers, with and without a teacher, two seeds."""
    words = ("-m", "sampler=random,margin", "loss=none,kd", "seeds=2", "hydra.sweep.dir=sweep")
    return Kdal(place)(*TINY, *words)


@pytest.fixture(scope="module")
def sweep(place: Path, ended: Ended) -> Path:
    assert (ended.code, ended.err) == (0, "")
    return place / "sweep"


def runs(sweep: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in sorted(sweep.iterdir()) if path.is_dir() and path.name[0].isdigit()]


def cells(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["cell"]: row for row in csv.DictReader(file)}


class TestReports:
    def test_a_sweep_ends_with_one(self, ended: Ended, sweep: Path):
        assert {"report.html", "curves.png", "curves.svg", "cells.csv", "summary.csv"} <= {
            p.name for p in sweep.iterdir()
        }
        assert ended.out.splitlines()[-1] == "report in sweep/report.html"
        assert "not enough seeds to rank" in ended.out
        assert "distillation makes active learning better early" in ended.out

    def test_the_page_asks_nothing_of_any_network(self, sweep: Path):
        page = (sweep / "report.html").read_text()
        asked = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!#|data:)([^"'\s)>]+)""", page)
        assert asked == []
        assert "<script" not in page

    def test_the_numbers_are_those_of_the_curves(self, sweep: Path):
        table = cells(sweep / "cells.csv")
        assert len(table) == 4
        for sampler in ("random", "margin"):
            alike = [
                run for run in runs(sweep) if f"sampler={sampler}," in run.path.name and "loss=none" in run.path.name
            ]
            last = [float(run.table()[-1]["test_accuracy"]) for run in alike]
            row = table[f"loss=none sampler={sampler}"]
            assert float(row["last_mean"]) == pytest.approx(sum(last) / 2)
            assert (row["last_n"], row["is_baseline"]) == ("2", str(int(sampler == "random")))

    def test_one_is_made_again_from_the_folders_against_another_baseline(self, place: Path, sweep: Path):
        told = Kdal(place)("report", "sweep", "--against", "loss=none", "--metric", "test_f1", "--out", "again")
        assert (told.code, told.err) == (0, "")
        table = cells(place / "again" / "summary.csv")
        assert {row["baseline"] for row in table.values()} == {
            "",
            "loss=none sampler=random",
            "loss=none sampler=margin",
        }
        assert {row["figure"] for row in table.values()} == {"test_f1"}

    def test_runs_that_are_not_finished_are_marked(self, place: Path, sweep: Path):
        shutil.copytree(sweep, place / "cut")
        (runs(place / "cut")[0].path / "result.json").unlink()
        told = Kdal(place)("report", "cut")
        assert (told.code, told.err) == (0, "")
        assert "unfinished" in (place / "cut" / "report" / "report.html").read_text()

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (["nowhere"], "no such folder (nowhere)"),
            (["."], "nothing has run here"),
            ([], "the following arguments are required"),
            (["sweep", "--against", "sampler=margn"], "did you mean 'margin'"),
            (["sweep", "--against", "recipe.lr=1"], "these runs do not differ in 'recipe.lr'"),
            (["sweep", "--metric", "test_acuracy"], "did you mean 'test_accuracy'"),
            (["sweep", "--x", "money"], "not every run has it"),
            (["sweep", "--target", "high"], "invalid float value"),
            (["sweep", "--nonsense"], "unrecognized arguments: --nonsense"),
        ],
    )
    def test_words_that_mean_nothing_are_refused(self, place: Path, sweep: Path, tmp_path: Path, words, reason: str):
        here = tmp_path if words == ["."] else place
        told = Kdal(here)("report", *words)
        assert told.code == 2
        assert reason in told.refusal


class TestLists:
    def test_runs_are_found_by_what_they_were_asked_for_and_sorted_by_what_they_reached(self, place: Path, sweep: Path):
        told = Kdal(place)("runs", "sweep", "sampler=margin", "--sort", "test_accuracy")
        assert (told.code, told.err) == (0, "")
        assert told.out.splitlines()[-1] == "4 of 8 runs below sweep"
        shown = [float(line.split()[-1]) for line in told.out.splitlines()[2:-1]]
        expected = [
            100 * float(run.table()[-1]["test_accuracy"]) for run in runs(sweep) if "sampler=margin" in run.path.name
        ]
        assert shown == pytest.approx(sorted(expected), abs=0.0051)

    def test_the_index_is_never_the_truth(self, place: Path, sweep: Path):
        assert Kdal(place)("runs", "sweep").out.splitlines()[-1] == "8 of 8 runs below sweep"
        (sweep / "index.sqlite").write_bytes(b"no database")
        assert Kdal(place)("runs", "sweep", "seed=1").out.splitlines()[-1] == "4 of 8 runs below sweep"

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (["nowhere"], "no such folder (nowhere)"),
            (["sweep", "--sort", "test_acuracy"], "did you mean 'test_accuracy'"),
            (["sweep", "other"], "kdal runs takes one"),
        ],
    )
    def test_words_that_mean_nothing_are_refused(self, place: Path, sweep: Path, words: list[str], reason: str):
        told = Kdal(place)("runs", *words)
        assert told.code == 2
        assert reason in told.refusal


class TestReplays:
    def test_another_student_learns_from_the_same_queries(self, place: Path, sweep: Path):
        before = next(
            run for run in runs(sweep) if "loss=none,recipe" in run.path.name and "sampler=margin" in run.path.name
        )
        words = (*TINY, "loss=none", "student.hidden=[16]", f"replay={before.path}", "sampler=random", "budget=3")
        told = Kdal(place)(*words)
        assert (told.code, told.err) == (0, "")
        assert told.run.bought() == before.bought()
        assert "replayed" in told.out
        manifest = json.loads((told.run.path / "manifest.json").read_text())
        assert manifest["config"]["sampler"] == {"name": "margin", "for": "mlp hidden=[128] dropout=0.0"}

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (["replay=nowhere"], "no run here (replay=nowhere)"),
            (["data=digits"], "that run is of other images than data=digits"),
            (["data.split.validation=100"], "that run bought images that are not in this pool"),
        ],
    )
    def test_a_run_that_cannot_be_replayed_is_refused(self, place: Path, sweep: Path, words: list[str], reason: str):
        told = Kdal(place)(*TINY, "loss=none", f"replay={runs(sweep)[0].path}", *words)
        assert told.code == 2
        assert reason in told.refusal


def test_a_run_folder_of_a_sweep_can_be_named_without_quotes(place: Path, sweep: Path):
    told = Kdal(place)("evaluate", "experiment=smoke", f"checkpoint=sweep/{runs(sweep)[0].path.name}")
    assert (told.code, told.err) == (0, "")
