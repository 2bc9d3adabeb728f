"""What a curve says of a student beside simple models."""

from kdal_cli.study.baselines import above, baselines, remark, spoken, verdict

ROW = {
    "test_accuracy": 0.8,
    "test_accuracy_at_best_val": 0.9,
    "teacher_test_accuracy": 0.99,
    "logistic_test_accuracy": 0.7,
}


def test_columns_of_baselines_are_neither_the_students_nor_the_teachers() -> None:
    assert baselines(ROW) == ["logistic_test_accuracy"]
    assert spoken("knn_teacher_soft_test_accuracy") == "knn teacher soft"


def test_only_a_student_that_is_below_is_remarked_the_best_first() -> None:
    assert remark(ROW) == ""
    better = ROW | {"logistic_test_accuracy": 0.81, "knn_test_accuracy": 0.85}
    assert above(better) == ["knn_test_accuracy", "logistic_test_accuracy"]
    assert remark(better).endswith("knn 85.00%, logistic 81.00%")
    assert above(ROW | {"logistic_test_accuracy": 0.8}) == []


def test_the_end_of_a_run_says_how_often_and_by_how_much() -> None:
    rows = [ROW | {"logistic_test_accuracy": 0.9}, ROW]
    assert verdict(rows) == [
        "the student ends 10.00 points above logistic on the same labels (70.00%); below it in 1 of 2 rounds"
    ]
    assert "level with" in verdict([ROW | {"logistic_test_accuracy": 0.8}])[0]
    assert verdict([{"test_accuracy": 0.5}]) == []
