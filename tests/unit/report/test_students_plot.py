"""The picture of which student to ship, and its rows."""

import json
import math

import pytest
from run_folders import run_folder, study

from kdal_cli.cli.listing import report
from kdal_cli.errors import UserError
from kdal_cli.report.page import page
from kdal_cli.report.students_plot import _ticks, students_png, students_rows
from kdal_cli.study.students import Student

FOUND = [
    Student("a", "checkpoint", "digits", 0.9, math.nan, 2.0, 100),
    Student("a", "onnx", "digits", 0.9, 1.0, 2.0, 100),
    Student("a", "int8", "digits", 0.89, 0.5, 0.6, 100),
    Student("b", "onnx", "digits", 0.8, 2.0, 2.5, 100),
]


def test_a_picture_is_the_same_bytes_for_the_same_students() -> None:
    assert students_png(FOUND)[:4] == b"\x89PNG"
    assert students_png(FOUND) == students_png(FOUND)


def test_rows_are_ranked_and_say_who_is_on_the_front() -> None:
    rows = students_rows(FOUND)
    assert [row["test_accuracy"] for row in rows] == [0.9, 0.9, 0.89, 0.8]
    assert [row["front"] for row in rows] == ["", "yes", "yes", ""]
    assert rows[0]["ms"] is None


def test_the_page_has_them_where_a_run_was_exported_and_nothing_where_none_was(tmp_path) -> None:
    folder = run_folder(tmp_path, [0.5, 0.8])
    assert "Which student to ship" not in page(study(tmp_path))
    (folder / "export").mkdir()
    row = {"format": "int8", "test_accuracy": 0.7654, "ms_1": 2.5, "mb": 1.25, "refused": None}
    (folder / "export" / "export.json").write_text(json.dumps({"files": [row]}))
    told = page(study(tmp_path))
    assert "Which student to ship" in told
    assert "76.54" in told


def test_axes_have_round_numbers_around_what_is_shown() -> None:
    assert _ticks([0.66, 48.0]) == [0.5, 1, 2, 5, 10, 20, 50]
    assert _ticks([300.0]) == [200, 500]
    assert _ticks([100.0]) == [100]
    assert _ticks([0.002, 7000.0]) == [10.0**n for n in range(-3, 5)]


def test_students_of_several_stages_are_compared_where_one_was_exported(tmp_path) -> None:
    one, two = run_folder(tmp_path, [0.5, 0.8]), run_folder(tmp_path, [0.9], seed=1, stage="distill")
    words = [str(one), str(two), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="several stages"):
        report(words)
    (one / "export").mkdir()
    row = {"format": "int8", "test_accuracy": 0.7654, "ms_1": 2.5, "mb": 1.25, "refused": None}
    (one / "export" / "export.json").write_text(json.dumps({"files": [row]}))
    report(words)
    report(words)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["students.csv", "students.png"]
    (tmp_path / "out" / "students.csv").write_text("mine")
    with pytest.raises(UserError, match="not of a report"):
        report(words)
