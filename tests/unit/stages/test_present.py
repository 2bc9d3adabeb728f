"""The sentence that sums up a run of active learning."""

from kdal_cli.stages.present import learnt

FIRST = {"labels": 100, "test_accuracy": 0.95, "teacher_labels": 100, "labels_with_teacher": 100}
LAST = {"labels": 1400, "test_accuracy": 0.9834, "teacher_labels": 1400, "labels_with_teacher": 1400}


def test_one_round_has_nothing_to_be_compared_with() -> None:
    assert learnt([FIRST]) == "in short: with 100 labels the student reaches 95.00% test accuracy"


def test_the_gain_is_in_points_of_the_last_round_over_the_first() -> None:
    middle = LAST | {"test_accuracy": 0.2}
    assert learnt([FIRST, middle, LAST]).endswith(
        "reaches 98.34% test accuracy, +3.34 points over its first 100 labels"
    )
    assert ", -3.34 points over its first 1,400 labels" in learnt([LAST, FIRST])


def test_a_teacher_of_the_same_labels_is_told_from_one_that_had_others() -> None:
    taught = LAST | {"teacher_test_accuracy": 0.99}
    assert learnt([FIRST, taught]).endswith("; its teacher, trained on the same labels, reaches 99.00%")
    apart = taught | {"teacher_labels": 5000, "labels_with_teacher": 6400}
    assert learnt([FIRST, apart]).endswith("; its teacher, trained on 5,000 labels, reaches 99.00%")
