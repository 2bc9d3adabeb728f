"""The picture of which student to ship, and its rows."""

import math

from kdal_cli.report.students_plot import students_png, students_rows
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
