"""What is said against a study before its verdicts, of run folders."""

import pytest

from kdal_cli.study.compare import compare
from kdal_cli.study.doubts import doubts
from kdal_cli.study.records import find

ROUNDS = [0.5, 0.8]


@pytest.fixture
def told(plant, tmp_path):
    """`told(columns, config)`: the doubts about one run with these columns and settings."""

    def of(columns, config=None, **more) -> list[str]:
        plant(ROUNDS, columns=columns, config=config, sampler="margin", **more)
        return doubts(compare(find([tmp_path])))

    return of


def test_nothing_is_said_of_students_that_fit_and_are_above_their_baselines(told) -> None:
    good = {"train_accuracy": [1, 0.96], "logistic_test_accuracy": [0.9, 0.7], "teacher_labels": [0, 0]}
    assert told(good) == []


def test_students_that_have_not_fitted_their_labels(told) -> None:
    (line,) = told({"train_accuracy": [0.97, 0.53]})
    assert "margin" in line or "all runs" in line
    assert line.endswith("(53 to 97 % fitted)")


def test_a_label_that_the_teacher_contradicts_need_not_be_fitted(told) -> None:
    assert told({"train_accuracy": [0.9, 0.9], "train_fitted": [1, 0.99]}) == []
    (line,) = told({"train_accuracy": [0.9, 0.9], "train_fitted": [1, 0.94]})
    assert line.endswith("(94 to 100 % fitted)")


def test_cells_of_other_lengths_are_named_the_shortest_and_the_longest(plant, tmp_path) -> None:
    for sampler, steps in (("random", [150, 210]), ("entropy", [150, 400]), ("margin", [150, 700])):
        plant(ROUNDS, columns={"steps": steps}, sampler=sampler)
    (line,) = doubts(compare(find([tmp_path])))
    assert line.startswith("students trained for other lengths")
    assert line.endswith("random 180 steps a round, margin 425")


@pytest.mark.parametrize("steps", [[150, 200], [150, 600]])
def test_one_length_alone_and_lengths_that_are_alike_are_no_doubt(steps: list[int], plant, tmp_path) -> None:
    for sampler, own in (("random", steps), ("margin", [round(1.9 * step) for step in steps])):
        plant(ROUNDS, columns={"steps": own}, sampler=sampler)
    assert doubts(compare(find([tmp_path]))) == []


def test_students_that_end_below_the_best_simple_model(told) -> None:
    (line,) = told({"logistic_test_accuracy": [0, 0.81], "knn_test_accuracy": [0, 0.9], "tree_test_accuracy": [0, 0.1]})
    assert line.endswith("(80.00 %, knn 90.00 %)")


@pytest.mark.parametrize(
    ("config", "read"),
    [
        ({}, True),
        ({"data": {"split": {"teacher": None}}}, True),
        ({"data": {"split": {"teacher": 600}}}, False),
        ({"teacher": {"learns": "pool"}}, True),
        ({"teacher": {"learns": "auto"}}, False),
        ({"teacher": {"learns": "auto"}, "data": {"split": {"teacher": 600}}}, False),
        ({"teacher": {"learns": "auto", "checkpoint": "teacher.pth"}}, True),
        ({"teacher": {"learns": "auto", "checkpoint": "teacher.pth"}, "data": {"split": {"teacher": 600}}}, False),
        ({"teacher": {"learns": "bought"}}, False),
        ({"teacher": {"learns": "seed_set"}}, False),
    ],
)
def test_a_teacher_that_read_the_pool(told, config, read) -> None:
    lines = told({"teacher_labels": [1277, 1277]}, config)
    assert [line.endswith("(1,277 labels)") for line in lines] == [True] * read


def test_runs_that_measured_none_of_it_are_not_doubted(told) -> None:
    assert told({}) == []
