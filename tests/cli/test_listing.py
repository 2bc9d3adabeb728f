"""`kdal runs` on a narrow screen, in columns of one's choice, as CSV; `kdal report --figure`."""

import csv
import io

import pytest
from cli.harness import Kdal
from run_folders import run_folder


@pytest.fixture
def kdal(tmp_path) -> Kdal:
    for place, sampler in enumerate(("random", "margin", "entropy")):
        made = run_folder(tmp_path / "sweep", [0.5, 0.6 + place / 100, 0.7, 0.71, 0.72 + place / 100], sampler=sampler)
        made.rename(made.with_name(f"{place}_sampler={sampler},{'x' * 120}=1"))
    return Kdal(tmp_path)


def test_what_all_runs_share_is_left_out_and_jobs_are_their_numbers(kdal) -> None:
    told = kdal("runs", "sweep").out.splitlines()
    assert told[0].split() == ["run", "sampler", "labels", "test", "accuracy", "%"]
    assert told[2].split() == ["0_*", "random", "50", "72.00"]
    assert max(map(len, told)) <= 120
    assert told[-1] == "3 of 3 runs below sweep"


def test_columns_of_ones_choice(kdal) -> None:
    told = kdal("runs", "sweep", "--columns", "sampler,seed,test_nll", "--limit", "1").out.splitlines()
    assert told[2].split() == ["entropy", "0", "0.2600"]
    assert "did you mean 'sampler'" in kdal("runs", "sweep", "--columns", "samplr").refusal


def test_csv_is_whole_and_nothing_else(kdal) -> None:
    rows = list(csv.DictReader(io.StringIO(kdal("runs", "sweep", "--csv").out)))
    assert [row["sampler"] for row in rows] == ["random", "margin", "entropy"]
    assert [float(row["test_accuracy"]) for row in rows] == [0.72, 0.73, 0.74]
    assert rows[0]["run"].startswith("sweep/0_sampler=random,xxx")


def test_a_target_ahead_is_predicted_and_a_figure_is_drawn(kdal, tmp_path) -> None:
    said = kdal("report", "sweep", "--target", "0.9", "--figure", "c.pdf", "--width", "8cm").out
    assert said.count("90.00 % ") == 3
    assert "figure in c.pdf" in said
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (("--figure", "c.jpg"), ".pdf, .svg, .png"),
        (("--width", "wide"), "2in"),
        (("--width", "1in"), "from 2in to 20in"),
    ],
)
def test_a_figure_that_cannot_be_is_refused(kdal, words, cure) -> None:
    refused = kdal("report", "sweep", *words).refusal
    assert words[1] in refused
    assert cure in refused
