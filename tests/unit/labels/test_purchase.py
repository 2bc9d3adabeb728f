"""What people say beside a class, who and how long it took: recorded, read back, and told in the table."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kdal_cli.errors import MachineError, Waiting
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.opinions import disputed, matrix, standing
from kdal_cli.labels.oracle import Answer, NotYet
from kdal_cli.labels.purchase import table


def ids(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def said(labels: list[int], *, costs: int | None = None, **more) -> Answer:
    count = len(labels) + len(more.get("undecided", ())) if costs is None else costs
    return Answer(ids(*labels), torch.ones(count).double(), "anna", **more)


def buy(ledger: Ledger, round: int, asked: torch.Tensor, answer: Answer, purpose: str = "train"):
    return ledger.buy(round, asked, torch.zeros(len(asked)), lambda _: answer, purpose)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "ledger.jsonl")


def test_an_image_that_nobody_can_name_is_paid_for_and_closed_but_has_no_label(ledger: Ledger) -> None:
    buy(ledger, 0, ids(5, 6, 7), said([2, 0], undecided={1: "cannot tell"}))
    for read in (ledger, Ledger.open(ledger.path)):
        found, labels = read.bought()
        assert (found.tolist(), labels.tolist()) == ([5, 7], [2, 0])
        assert read.closed().tolist() == [5, 6, 7]
        assert read.cost() == 3.0
        (purchase,) = read.purchases
        assert [(fact.id, fact.said) for fact in purchase.undecided] == [(6, "cannot tell")]
    with pytest.raises(MachineError, match="twice"):
        buy(ledger, 1, ids(6), said([1]))


def test_who_when_and_how_long_are_kept_for_each_image(ledger: Ledger) -> None:
    columns = {"owners": ("anna", "ben", "anna"), "times": ("t1", "t2", "t3"), "seconds": (1.5, 2.0, math.nan)}
    buy(ledger, 0, ids(5, 6, 7), said([2, 0], undecided={1: "none of these"}, **columns))
    (purchase,) = Ledger.open(ledger.path).purchases
    told = [(f.id, f.label, f.said, f.owner, f.time) for f in purchase.facts()]
    assert told == [(5, 2, "", "anna", "t1"), (7, 0, "", "anna", "t3"), (6, None, "none of these", "ben", "t2")]
    assert purchase.seconds[0] == 1.5
    assert math.isnan(purchase.seconds[1])
    assert purchase.undecided[0].seconds == 2.0


def test_the_table_has_seconds_where_they_were_counted_and_is_as_ever_where_not(ledger: Ledger) -> None:
    buy(ledger, 0, ids(0), said([1]))
    assert table(ledger.purchases, ["a", "b"], []).splitlines()[0] == (
        "round,purpose,id,label,class,owner,cost,score,time,path"
    )
    buy(ledger, 1, ids(1, 2), said([0], undecided={0: "cannot tell"}, seconds=(3.25, 1.0)))
    head, first, second, third = table(ledger.purchases, ["a", "b"], ["x", "y", "=z"]).splitlines()
    assert head.endswith(",path,seconds")
    assert first.endswith(",x,")
    assert second.startswith("1,train,2,0,a,anna,1,0,")
    assert second.endswith(",'=z,1.0")
    assert third.startswith("1,train,1,,cannot tell,anna,1,0,")
    assert third.endswith(",y,3.2")


@pytest.mark.parametrize(
    "answer",
    [
        said([1]),
        said([1, 2, 0]),
        said([1, 2], costs=3),
        said([1], undecided={0: "cannot tell", 1: "cannot tell"}),
        said([1, 2], owners=("anna",)),
        said([1, 2], seconds=(1.0, 2.0, 3.0)),
    ],
)
def test_an_answer_of_another_length_leaves_the_ledger_as_it_was(ledger: Ledger, answer: Answer) -> None:
    with pytest.raises(MachineError):
        buy(ledger, 0, ids(5, 6), answer)
    assert Ledger.open(ledger.path).asked(0)[0].tolist() == [5, 6]  # type: ignore[index]


# Asked again.


@pytest.fixture
def bought(ledger: Ledger) -> Ledger:
    buy(ledger, 0, ids(5, 6, 7), said([2, 0, 1]))
    return ledger


def labels_of(ledger: Ledger, through: int | None = None) -> dict[int, int]:
    found, labels = ledger.bought(through=through)
    return dict(zip(found.tolist(), labels.tolist(), strict=True))


def ask_again(ledger: Ledger, round: int, asked: torch.Tensor, again: torch.Tensor, answer: Answer):
    return ledger.buy(round, asked, torch.zeros(len(asked)), lambda _: answer, again=again)


def test_the_majority_decides_and_of_a_tie_the_first_answer(bought: Ledger) -> None:
    """New images and other opinions come in one query; each answer is a label that was bought, and a cost."""
    ask_again(bought, 1, ids(8, 6), ids(6), said([3, 2]))
    assert labels_of(bought) == {5: 2, 6: 0, 7: 1, 8: 3}
    ask_again(bought, 2, ids(6, 9), ids(6), said([2, 0]))
    read = Ledger.open(bought.path)
    assert labels_of(read) == {5: 2, 6: 2, 7: 1, 8: 3, 9: 0}
    assert labels_of(read, through=1) == {5: 2, 6: 0, 7: 1, 8: 3}
    assert (read.labels(), read.cost(), disputed(read.votes())) == (7, 7.0, [6])
    purposes = [line.split(",")[:3] for line in read.view(list("abcd"), []).splitlines()[4:]]
    assert purposes == [["1", "train", "8"], ["1", "again", "6"], ["2", "again", "6"], ["2", "train", "9"]]


def test_another_opinion_that_names_no_class_is_paid_for_and_changes_nothing(bought: Ledger) -> None:
    ask_again(bought, 1, ids(6), ids(6), said([], undecided={0: "cannot tell"}))
    assert labels_of(bought) == {5: 2, 6: 0, 7: 1}
    assert (bought.labels(), bought.cost()) == (3, 4.0)


def test_people_who_are_asked_about_an_image_of_the_teacher_have_the_last_word(ledger: Ledger) -> None:
    buy(ledger, 0, ids(5, 6), replace(said([2, 0]), owners=("teacher", "anna")))
    ask_again(ledger, 1, ids(5), ids(5), said([1]))
    assert labels_of(ledger) == {5: 1, 6: 0}
    assert (ledger.labels(), ledger.by_teacher()) == (2, 1)


def test_a_query_that_waits_is_asked_again_with_what_it_asks_again(bought: Ledger) -> None:
    with pytest.raises(Waiting):
        bought.buy(1, ids(8, 6), torch.zeros(2), lambda _: NotYet(2, "wait"), again=ids(6))
    read = Ledger.open(bought.path)
    assert [part.tolist() for part in read.asked(1) or ()] == [[8, 6], [0.0, 0.0], [6]]
    ask_again(read, 1, ids(8, 6), ids(6), said([3, 2]))
    assert len(Ledger.open(bought.path).votes()[6]) == 2


def test_what_was_settled_holds_from_its_round_on_until_it_is_reviewed(bought: Ledger) -> None:
    ask_again(bought, 1, ids(6), ids(6), said([2]))
    bought.settle(1, {6: 2, 7: 3})
    bought.settle(1, {6: 1})  # once
    assert labels_of(bought, through=0) == {5: 2, 6: 0, 7: 1}
    read = Ledger.open(bought.path)
    assert labels_of(read) == {5: 2, 6: 2, 7: 3}
    buy(read, 2, ids(7), said([0]), "review")
    assert labels_of(read) == {5: 2, 6: 2, 7: 0}
    read.settle(2, {})
    assert labels_of(read) == {5: 2, 6: 0, 7: 0}


def test_who_agrees_least_with_the_others_comes_first(ledger: Ledger) -> None:
    buy(ledger, 0, ids(5, 6, 7), replace(said([2, 0, 1]), owners=("anna", "ben", "ben")))
    ask_again(ledger, 1, ids(5, 6), ids(5, 6), replace(said([2, 1]), owners=("ben", "anna")))
    ask_again(ledger, 2, ids(6), ids(6), replace(said([1]), owners=("carl",)))
    rows = standing(ledger.votes(), labels_of(ledger))
    assert rows == [("ben", 3, 2, 1), ("anna", 2, 2, 2), ("carl", 1, 1, 1)]
    answers, annotators = matrix(ledger.votes(), [6, 7])
    assert (annotators, answers.tolist()) == (("ben", "anna", "carl"), [[0, 1, 1], [1, -1, -1]])
    ask_again(ledger, 3, ids(6), ids(6), replace(said([0]), owners=("anna",)))
    answers, annotators = matrix(ledger.votes(), [6])
    assert (annotators, answers.tolist()) == (("ben", "anna", "carl", "anna (2)"), [[0, 1, 1, 0]])


def test_a_review_replaces_the_label_from_its_round_on_and_what_was_before_stays_known(bought: Ledger) -> None:
    buy(bought, 1, ids(6, 7), said([1], undecided={1: "cannot tell"}), "review")
    assert labels_of(bought) == {5: 2, 6: 1}
    assert labels_of(bought, through=0) == {5: 2, 6: 0, 7: 1}
    assert bought.cost() == 5.0
    assert [p.labels.tolist() for p in Ledger.open(bought.path).purchases] == [[2, 0, 1], [1]]


def test_only_what_was_asked_about_can_be_asked_about_again_and_only_on_purpose(bought: Ledger) -> None:
    with pytest.raises(MachineError):
        buy(bought, 1, ids(6, 8), said([1, 1]), "review")
    for again in (ids(6, 8), ids(8), ids()):
        with pytest.raises(MachineError):
            ask_again(bought, 1, ids(6, 8), again, said([1, 1]))
