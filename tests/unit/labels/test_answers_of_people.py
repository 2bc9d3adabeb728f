"""Answers one by one: on disk at once, read back after a kill, and nothing in their file is believed unseen."""

import json
from pathlib import Path

import pytest

from kdal_cli.errors import UserError
from kdal_cli.labels.answers import Answers

CLASSES = ("dress", "hat", "shoe")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "round_001.jsonl"


def opened(path: Path) -> Answers:
    return Answers.open(path, [7, 3, 12], CLASSES)


def test_each_answer_is_on_disk_when_it_is_given_and_there_again_after_a_kill(path: Path) -> None:
    answers = opened(path)
    answers.add(3, 1, "", 2.5, "anna")
    assert len(path.read_text().splitlines()) == 1
    again = opened(path)
    assert (again.missing, again.now[3].label, again.spent) == (2, 1, {3: 2.5})
    again.add(7, None, "cannot tell", 4.0, "anna")
    again.add(12, 2, "", 1.0, "ben")
    answer = opened(path).answer(1.0, None, "person")
    assert (answer.labels.tolist(), answer.undecided) == ([1, 2], {0: "cannot tell"})
    assert (answer.owners, answer.seconds) == (("anna", "anna", "ben"), (4.0, 2.5, 1.0))
    assert answer.costs.tolist() == [1.0, 1.0, 1.0]


def test_a_price_for_the_hour_is_paid_for_all_the_time_that_an_image_took(path: Path) -> None:
    answers = opened(path)
    for id in (7, 3, 12):
        answers.add(id, 0, "", 36.0, "anna")
    answers.add(3, None, "", 0.0, "anna")  # taken back
    assert answers.missing == 1
    answers.add(3, 1, "", 36.0, "anna")
    answer = answers.answer(1.0, 100.0, "anna")
    assert answer.labels.tolist() == [0, 1, 0]
    assert answer.costs.tolist() == pytest.approx([1.0, 2.0, 1.0])


def test_a_line_that_a_kill_tore_was_not_answered(path: Path) -> None:
    answers = opened(path)
    answers.add(3, 1, "", 1.0, "anna")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id": 7, "label": 0')
    assert opened(path).missing == 2
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "change",
    [
        {"id": 8},
        {"id": True},
        {"id": "3"},
        {"label": 3},
        {"label": -1},
        {"label": True},
        {"label": 1, "word": "cannot tell"},
        {"label": None, "word": "dress"},
        {"seconds": -1},
        {"seconds": 1e9},
        {"seconds": "1"},
        {"by": 3},
        {"by": "a" * 201},
        {"more": 1},
    ],
    ids=str,
)
def test_a_file_that_says_what_cannot_have_been_said_is_refused_by_its_line(path: Path, change: dict) -> None:
    opened(path).add(3, 1, "", 1.0, "anna")
    record = json.loads(path.read_text()) | change
    path.write_text(path.read_text() + json.dumps(record) + "\n")
    with pytest.raises(UserError, match=r"^line 2 is no answer to this query"):
        opened(path)


def test_what_cannot_be_said_is_not_written(path: Path) -> None:
    for said in ((8, 1, ""), (3, 3, ""), (3, None, "dress"), (3, 0, "cannot tell")):
        with pytest.raises(ValueError, match=r"."):
            opened(path).add(*said, 1.0, "anna")
    assert not path.exists()
