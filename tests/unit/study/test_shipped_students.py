"""Which student to ship: the front by hand, and what is read from exports."""

import json
import math

import pytest
from run_folders import run_folder

from kdal_cli.errors import UserError
from kdal_cli.study.records import find
from kdal_cli.study.students import Student, front, students

FILE = {"format": "onnx", "test_accuracy": 0.9, "ms_1": 2.0, "mb": 1.5, "refused": None}


def student(accuracy: float, ms: float, mb: float = 1.0, data: str = "digits") -> Student:
    return Student("run", "onnx", data, accuracy, ms, mb, 100)


def test_the_front_is_what_nothing_beats() -> None:
    small, large, slow = student(0.90, 1), student(0.95, 3), student(0.90, 2)
    assert front([small, large, slow]) == [small, large]
    assert front([large, slow], ["mb"]) == [large]
    assert front([small, student(0.5, 9, data="mnist")]) == [small, student(0.5, 9, data="mnist")]
    assert front([small, student(0.99, math.nan)]) == [small]
    assert front([small, small]) == [small, small]


def exported(folder, files) -> None:
    (folder / "export").mkdir()
    (folder / "export" / "export.json").write_text(json.dumps({"files": files}))


def test_runs_and_their_files_are_students_and_refused_files_are_not(tmp_path) -> None:
    exported(run_folder(tmp_path, [0.5, 0.8]), [FILE, {"format": "int8", "refused": "loses 9"}])
    run_folder(tmp_path, [0.5, 0.7], sampler="margin")
    found = {s.form: s for s in students(find([tmp_path]))}
    assert found.keys() == {"onnx", "checkpoint"}
    assert (found["onnx"].accuracy, found["onnx"].ms, found["onnx"].labels) == (0.9, 2.0, 20)
    assert found["checkpoint"].accuracy == 0.7
    assert math.isnan(found["checkpoint"].ms)


def test_without_an_exported_file_nobody_asks(tmp_path) -> None:
    run_folder(tmp_path, [0.5, 0.8])
    assert students(find([tmp_path])) == []


@pytest.mark.parametrize("files", ["x", [1], [{}], [{**FILE, "ms_1": "fast"}], {"a": 1}])
def test_a_damaged_export_is_named(tmp_path, files) -> None:
    exported(run_folder(tmp_path, [0.5, 0.8]), files)
    with pytest.raises(UserError, match=r"export\.json"):
        students(find([tmp_path]))
