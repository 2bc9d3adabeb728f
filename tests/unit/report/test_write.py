"""What a report leaves in a folder: tables without formulas, and nothing of anybody else's overwritten."""

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console
from run_folders import run_folder, study

from kdal_cli.errors import UserError
from kdal_cli.report.display import Display
from kdal_cli.report.write import write_report
from kdal_cli.study.study import Study

FORMULA = "=HYPERLINK('http://x')"


@pytest.fixture
def told(tmp_path: Path) -> Study:
    for sampler in ("random", FORMULA):
        for seed in range(2):
            run_folder(tmp_path / "runs", [0.5, 0.6], seed=seed, sampler=sampler)
    return study(tmp_path / "runs")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def write(told: Study, folder: Path) -> None:
    write_report(told, folder, Display(Console(file=io.StringIO())))


def test_no_cell_of_the_table_is_a_formula_and_numbers_are_numbers(told: Study, out: Path) -> None:
    write(told, out)
    with (out / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["sampler"] for row in rows} == {"random", "'" + FORMULA}
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "@", "+"))]
    assert all(float(row["last_mean"]) == pytest.approx(0.6) for row in rows)


def test_a_report_replaces_another_one(told: Study, out: Path) -> None:
    for _ in range(2):
        write(told, out)
    assert (out / "report.html").exists()


@pytest.mark.parametrize("name", ["summary.csv", "report.html", "curves.png", "critical_difference.png"])
def test_nothing_of_somebody_elses_is_overwritten(told: Study, out: Path, name: str) -> None:
    (out / name).write_text("four years of work")
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        write(told, out)
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == "four years of work"


def test_a_report_that_was_killed_on_its_way_is_no_obstacle(told: Study, out: Path) -> None:
    write(told, out)
    for name in ("summary.csv", "curves.png"):
        (out / name).unlink()
    write(told, out)
    assert (out / "summary.csv").exists()
