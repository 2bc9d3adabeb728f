"""What people say beside a class, who and how long it took: recorded, read back, and told in the table."""

import math
from pathlib import Path

import pytest
import torch

from kdal_cli.errors import MachineError
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracle import Answer
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


def test_the_majority_decides_and_of_a_tie_the_first_answer(bought: Ledger) -> None:
    buy(bought, 1, ids(6), said([2]), "again")
    assert labels_of(bought) == {5: 2, 6: 0, 7: 1}
    buy(bought, 2, ids(6), said([2]), "again")
    assert labels_of(Ledger.open(bought.path)) == {5: 2, 6: 2, 7: 1}


def test_a_review_replaces_the_label_from_its_round_on_and_what_was_before_stays_known(bought: Ledger) -> None:
    buy(bought, 1, ids(6, 7), said([1], undecided={1: "cannot tell"}), "review")
    assert labels_of(bought) == {5: 2, 6: 1}
    assert labels_of(bought, through=0) == {5: 2, 6: 0, 7: 1}
    assert bought.cost() == 5.0
    assert [p.labels.tolist() for p in Ledger.open(bought.path).purchases] == [[2, 0, 1], [1]]


@pytest.mark.parametrize("purpose", ["again", "review"])
def test_only_what_was_asked_about_can_be_asked_about_again(bought: Ledger, purpose: str) -> None:
    with pytest.raises(MachineError):
        buy(bought, 1, ids(6, 8), said([1, 1]), purpose)
