"""The teacher where it is sure, people elsewhere: who is asked what, that it stays so, and that an audit ends it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.labels.desk import Desk
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracle import TEACHER, Answer, NotYet, Occasion
from kdal_cli.labels.oracles.mixed import mixed

TRUTH = torch.arange(1_000) % 3
KNOWN = torch.arange(600, 1_000)


def teacher(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Sure, and right, of even ids; elsewhere neither."""
    even = ids % 2 == 0
    return torch.where(even, TRUTH[ids], (TRUTH[ids] + 1) % 3), torch.where(even, 0.99, 0.4).double()


class Person:
    """Somebody who knows, is paid, and remembers what they were asked; says nothing before being `ready`."""

    def __init__(self, ready: bool = True, wrong: bool = False) -> None:
        self.asked: list[list[int]] = []
        self.ready, self.wrong = ready, wrong

    def __call__(self, ids: Tensor, occasion: Occasion = Occasion()) -> Answer | NotYet:  # noqa: B008
        self.asked.append(ids.tolist())
        if not self.ready:
            return NotYet(len(ids), "ask again and")
        said = (TRUTH[ids] + self.wrong) % 3
        return Answer(said, torch.full((len(ids),), 2.0).double(), "anna", seconds=(3.0,) * len(ids))


@pytest.fixture
def occasion() -> Occasion:
    return Occasion(2, teacher=teacher, validation=(KNOWN, TRUTH[KNOWN]))


IDS = torch.arange(100)


def test_people_are_asked_where_the_teacher_is_not_sure_and_each_label_has_its_owner(desk: Desk, occasion) -> None:
    person = Person()
    answer = mixed(desk, person=person, audit=0.0, price=0.25)(IDS, occasion)
    assert isinstance(answer, Answer)
    assert person.asked == [list(range(1, 100, 2))]
    assert torch.equal(answer.labels, TRUTH[:100])
    assert answer.owners == (TEACHER, "anna") * 50
    assert answer.costs.tolist() == [0.25, 2.0] * 50
    assert answer.seconds == (0.0, 3.0) * 50


def test_some_of_what_the_teacher_is_sure_of_is_asked_all_the_same(desk: Desk, occasion) -> None:
    person = Person()
    answer = mixed(desk, person=person, audit=0.3)(IDS, occasion)
    assert isinstance(answer, Answer)
    even = [id for id in person.asked[0] if id % 2 == 0]
    assert 5 <= len(even) <= 25
    assert dict(answer.audited) == {id: int(TRUTH[id]) for id in even}
    assert person.asked[0] == sorted(person.asked[0])  # nothing tells which they are
    assert all(answer.owners[id] == "anna" for id in even)


def test_the_ledger_keeps_apart_who_gave_which_label_and_what_audits_found(desk: Desk, occasion, tmp_path) -> None:
    ledger, person = Ledger.open(tmp_path / "ledger.jsonl"), Person(wrong=True)
    oracle = mixed(desk, person=person, audit=0.3)
    ledger.buy(2, IDS, torch.zeros(100), lambda ids: oracle(ids, occasion))
    audits = sum(id % 2 == 0 for id in person.asked[0])
    for read in (ledger, Ledger.open(ledger.path)):
        assert read.by_teacher() == 50 - audits
        assert read.audits() == (False,) * audits
        assert read.cost() == 2.0 * (50 + audits)


def test_who_is_asked_stays_the_same_until_they_have_answered(desk: Desk, occasion: Occasion) -> None:
    person = Person(ready=False)
    oracle = mixed(desk, person=person, audit=0.3)
    assert isinstance(oracle(IDS, occasion), NotYet)
    person.ready = True
    other = replace(
        occasion, teacher=lambda ids: (TRUTH[ids], torch.zeros(len(ids)).double())
    )  # it has changed its mind
    assert isinstance(oracle(IDS, other), Answer)
    assert person.asked[0] == person.asked[1]


@pytest.mark.parametrize(
    "change",
    [
        {"teacher": None},
        {"validation": (KNOWN[:0], TRUTH[:0])},
        {"validation": (KNOWN[:40], TRUTH[KNOWN[:40]])},  # too few to promise anything
        {"audits": (False, False, True)},  # the promise is broken
        {"purpose": "validation"},
        {"purpose": "test"},
    ],
    ids=str,
)
def test_people_answer_everything_where_nothing_is_promised(desk: Desk, occasion: Occasion, change: dict) -> None:
    person = Person()
    answer = mixed(desk, person=person)(IDS, replace(occasion, **change))
    assert isinstance(answer, Answer)
    assert person.asked == [IDS.tolist()]
    assert TEACHER not in answer.owners
    assert not answer.audited


def test_nobody_is_asked_when_the_teacher_is_sure_of_all(desk: Desk, occasion: Occasion) -> None:
    person = Person()
    answer = mixed(desk, person=person, audit=0.0)(IDS[::2], occasion)
    assert isinstance(answer, Answer)
    assert (person.asked, set(answer.owners)) == ([], {TEACHER})


@pytest.mark.parametrize(
    ("old", "new"),
    [('"ids": [', '"ids": [5,'), ('"by_teacher"', '"others"'), ('"0": 0', '"0": 7'), ('"0": 0', '"x": 0')],
)
def test_what_was_settled_is_believed_only_as_it_was_written(desk: Desk, occasion, old: str, new: str) -> None:
    oracle = mixed(desk, person=Person(ready=False), audit=0.0)
    oracle(IDS, occasion)
    path: Path = desk.folder / "round_002_teacher.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match="not about this query"):
        oracle(IDS, occasion)


def test_a_threshold_that_is_none_is_kept_as_none(desk: Desk) -> None:
    oracle = mixed(desk, person=Person())
    for _ in range(2):
        assert isinstance(oracle(IDS, Occasion(0)), Answer)
    assert '"threshold": null' in (desk.folder / "round_000_teacher.json").read_text()
