"""The truth of a run: what was bought stays bought, a changed line is found, a torn one is put aside."""

import csv
import hashlib
import io
import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kdal_cli.dataset import Labels
from kdal_cli.errors import MachineError, UserError, Waiting
from kdal_cli.labels._record import ranges
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracle import Answer, NotYet
from kdal_cli.labels.oracles.simulated import simulated
from kdal_cli.plain import plain_cell

LABELS = torch.arange(100) * 37 % 11
CLASSES = [f"class {c}" for c in range(11)]


class Seller:
    """An oracle that remembers what it was asked, and answers when it is `ready`."""

    def __init__(self, ready: bool = True) -> None:
        self.ready, self.asked = ready, []

    def __call__(self, ids: Tensor) -> Answer | NotYet:
        self.asked.append(ids.tolist())
        return simulated(Labels.complete(LABELS), 11, price=0.25)(ids) if self.ready else NotYet(len(ids), "ask again")


def ids(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def scores(n: int) -> Tensor:
    return torch.linspace(1, 0, n)


def buy(ledger: Ledger, round: int, *numbers: int, purpose: str = "train", oracle=None):
    return ledger.buy(round, ids(*numbers), scores(len(numbers)), oracle or Seller(), purpose)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def bought(path: Path) -> Path:
    """A ledger of three purchases, six lines."""
    ledger = Ledger.open(path)
    buy(ledger, 0, 50, 51, purpose="validation")
    buy(ledger, 0, 9, 3, 7)
    buy(ledger, 1, 20, 4)
    return path


def contents(ledger: Ledger) -> list:
    return [
        (p.round, p.purpose, p.ids.tolist(), p.labels.tolist(), p.costs.tolist(), p.scores.tolist(), p.owner, p.time)
        for p in ledger.purchases
    ]


def test_a_ledger_that_is_not_there_is_empty(path: Path) -> None:
    ledger = Ledger.open(path)
    assert (ledger.purchases, ledger.cost(), ledger.asked(0)) == ([], 0, None)
    assert [part.dtype for part in ledger.bought()] == [torch.int64, torch.int64]
    assert not path.exists()


def test_a_purchase_keeps_the_order_picked_and_gets_the_labels_of_its_ids(path: Path) -> None:
    purchase = buy(Ledger.open(path), 2, 9, 3, 7)
    assert purchase.ids.tolist() == [9, 3, 7]
    assert purchase.labels.tolist() == [9 * 37 % 11, 3 * 37 % 11, 7 * 37 % 11]
    assert purchase.scores.tolist() == [1.0, 0.5, 0.0]
    assert purchase.costs.tolist() == [0.25] * 3
    assert (purchase.round, purchase.purpose, purchase.owner) == (2, "train", "simulated")


def test_what_was_bought_is_told_by_purpose_in_the_order_bought(bought: Path) -> None:
    ledger = Ledger.open(bought)
    found, labels = ledger.bought()
    assert found.tolist() == [9, 3, 7, 20, 4]
    assert torch.equal(labels, LABELS[found])
    assert ledger.bought("validation")[0].tolist() == [50, 51]
    assert ledger.of_round(1).ids.tolist() == [20, 4]
    assert ledger.of_round(1, "validation") is None


def test_validation_labels_are_paid_for_too(bought: Path) -> None:
    assert Ledger.open(bought).cost() == 7 * 0.25


def test_it_is_the_same_when_opened_again_and_opening_writes_nothing(bought: Path) -> None:
    before = bought.read_bytes()
    one, two = Ledger.open(bought), Ledger.open(bought)
    assert contents(one) == contents(two)
    assert bought.read_bytes() == before


def test_buying_goes_on_where_it_was(bought: Path) -> None:
    buy(Ledger.open(bought), 2, 60, 61)
    assert Ledger.open(bought).bought()[0].tolist() == [9, 3, 7, 20, 4, 60, 61]


def test_buying_nothing_leaves_ids_whole_numbers(path: Path) -> None:
    ledger = Ledger.open(path)
    ledger.buy(0, torch.zeros(0, dtype=torch.int64), torch.zeros(0), Seller())
    buy(ledger, 1, 5)
    assert [part.dtype for part in Ledger.open(path).bought()] == [torch.int64, torch.int64]


# The chain.


def test_each_line_carries_the_hash_of_the_line_before_it(bought: Path) -> None:
    lines = bought.read_bytes().splitlines()
    previous = "0" * 64
    for number, line in enumerate(lines, start=1):
        record = json.loads(line)
        assert (record["n"], record["previous"]) == (number, previous)
        previous = hashlib.sha256(line).hexdigest()
    assert [json.loads(line)["kind"] for line in lines] == ["request", "receipt"] * 3


@pytest.mark.parametrize("number", range(1, 7))
def test_a_line_changed_by_hand_is_refused_by_its_number(bought: Path, number: int) -> None:
    """Every line, the last one too, where a label would be easiest to change."""
    lines = bought.read_bytes().splitlines()
    record = json.loads(lines[number - 1])
    column = "ids" if record["kind"] == "request" else "labels"
    record[column] = [value + 1 for value in record[column]]
    lines[number - 1] = json.dumps(record).encode()
    bought.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(UserError, match=f"^line {number} ") as refused:
        Ledger.open(bought)
    assert str(bought) in str(refused.value)


@pytest.mark.parametrize("number", range(1, 7))
def test_no_byte_of_a_line_can_be_flipped_unnoticed(bought: Path, number: int) -> None:
    lines = bought.read_bytes().splitlines()
    whole = lines[number - 1]
    for place in range(0, len(whole), 3):
        lines[number - 1] = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        bought.write_bytes(b"\n".join(lines) + b"\n")
        with pytest.raises(UserError, match=f"^line {number} "):
            Ledger.open(bought)


@pytest.mark.parametrize("number", range(1, 6))
def test_a_line_written_anew_with_a_hash_of_its_own_is_betrayed_by_the_next(bought: Path, number: int) -> None:
    """Whoever changes a label must change every line after it, and there is no hiding that in a run that goes on."""
    lines = bought.read_bytes().splitlines()
    record = json.loads(lines[number - 1])
    del record["sha256"]
    record["time"] = "2020-01-01T00:00:00+00:00"
    record["sha256"] = hashlib.sha256(json.dumps(record).encode()).hexdigest()
    lines[number - 1] = json.dumps(record).encode()
    bought.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(UserError, match=f"^line {number + 1} "):
        Ledger.open(bought)


@pytest.mark.parametrize(
    ("what", "change", "number"),
    [
        ("a line taken out", lambda lines: lines[:2] + lines[3:], 3),
        ("two purchases exchanged", lambda lines: lines[2:4] + lines[:2] + lines[4:], 1),
        ("a line that comes twice", lambda lines: lines[:2] + lines[1:], 3),
        ("an empty line", lambda lines: [*lines[:3], b"", *lines[3:]], 4),
        ("a line that is no record", lambda lines: [*lines, b"[1, 2]"], 7),
        ("a line that is no JSON", lambda lines: [*lines, b"bought: 3"], 7),
        ("bytes that are no text", lambda lines: [*lines, b"\xff\xfe\x00"], 7),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_lines_that_do_not_follow_are_refused_by_number(bought: Path, what: str, change, number: int) -> None:
    bought.write_bytes(b"\n".join(change(bought.read_bytes().splitlines())) + b"\n")
    with pytest.raises(UserError, match=f"^line {number} "):
        Ledger.open(bought)


# Dying in between.


def test_a_torn_tail_is_kept_aside_and_cut_wherever_it_was_torn(bought: Path) -> None:
    whole = bought.read_bytes()
    start = whole.rfind(b"\n", 0, -1) + 1
    for end in range(start + 1, len(whole), 7):
        bought.write_bytes(whole[:end])
        ledger = Ledger.open(bought)
        assert bought.with_suffix(".torn").read_bytes() == whole[start:end]
        assert bought.read_bytes() == whole[:start]
        assert ledger.asked(1)[0].tolist() == [20, 4]


def test_after_a_torn_receipt_the_same_labels_are_asked_for_again(bought: Path) -> None:
    before = contents(Ledger.open(bought))
    bought.write_bytes(bought.read_bytes()[:-5])
    ledger, seller = Ledger.open(bought), Seller()
    ledger.buy(1, *ledger.asked(1)[:2], seller)
    assert seller.asked == [[20, 4]]
    assert [entry[:-1] for entry in contents(Ledger.open(bought))] == [entry[:-1] for entry in before]  # but the time


def test_a_request_is_on_disk_before_the_oracle_is_asked(path: Path) -> None:
    on_disk: list[str] = []

    def oracle(numbers: Tensor) -> Answer | NotYet:
        on_disk.append(path.read_text())
        return simulated(Labels.complete(LABELS), 11)(numbers)

    buy(Ledger.open(path), 0, 9, 3, oracle=oracle)
    assert json.loads(on_disk[0])["ids"] == [9, 3]


def test_a_request_without_a_receipt_is_asked_again_with_the_same_ids_and_scores(path: Path) -> None:
    person = Seller(ready=False)
    with pytest.raises(Waiting, match=r"^waiting for 3 labels: ask again$"):
        buy(Ledger.open(path), 4, 9, 3, 7, oracle=person)
    ledger = Ledger.open(path)
    again, with_scores, _ = ledger.asked(4)
    assert (again.tolist(), with_scores.tolist()) == ([9, 3, 7], [1.0, 0.5, 0.0])
    assert ledger.asked(4, "validation") is None
    assert ledger.asked(5) is None
    person.ready = True
    purchase = ledger.buy(4, again, with_scores, person)
    assert person.asked == [[9, 3, 7], [9, 3, 7]]
    assert torch.equal(purchase.labels, LABELS[[9, 3, 7]])
    assert len(path.read_text().splitlines()) == 2
    assert ledger.asked(4) is None


def test_an_answer_never_lands_on_other_ids_than_were_asked_for(path: Path) -> None:
    """A request is pending, and somebody comes with another one: refused, or answered as it was first asked."""
    with pytest.raises(Waiting):
        buy(Ledger.open(path), 0, 9, 3, oracle=Seller(ready=False))
    ledger = Ledger.open(path)
    try:
        buy(ledger, 0, 60, 61)
    except (MachineError, UserError):
        assert ledger.purchases == []
    found, labels = ledger.bought()
    assert torch.equal(labels, LABELS[found])


# Money.


@pytest.mark.parametrize(
    ("numbers", "what"),
    [((60, 61, 60), "twice in one query"), ((60, 3), "bought in a round before"), ((51,), "bought for validation")],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_no_label_is_paid_for_twice(bought: Path, numbers: tuple[int, ...], what: str) -> None:
    ledger, seller, before = Ledger.open(bought), Seller(), bought.read_bytes()
    with pytest.raises(MachineError, match="round 2 asks for a label twice"):
        buy(ledger, 2, *numbers, oracle=seller)
    assert seller.asked == []
    assert bought.read_bytes() == before


@pytest.mark.parametrize("labels", [1, 3])
def test_an_answer_of_another_length_is_refused_and_the_ledger_stays_readable(path: Path, labels: int) -> None:
    def forgetful(numbers: Tensor) -> Answer:
        return Answer(torch.zeros(labels, dtype=torch.int64), torch.ones(labels).double(), "forgetful")

    with pytest.raises((UserError, MachineError)):
        buy(Ledger.open(path), 0, 9, 3, oracle=forgetful)
    assert buy(Ledger.open(path), 0, 9, 3).labels.tolist() == LABELS[[9, 3]].tolist()


def test_the_simulated_oracle_sells_each_label_at_its_price() -> None:
    answer = simulated(Labels.complete(LABELS), 11, price=2.5)(ids(3, 50))
    assert answer.labels.tolist() == [LABELS[3], LABELS[50]]
    assert (answer.costs.tolist(), answer.costs.dtype, answer.owner) == ([2.5, 2.5], torch.float64, "simulated")


# What a sampler asks the teacher.


@pytest.fixture
def asked(bought: Path) -> Path:
    """A ledger of three purchases and of two rounds in which the teacher was asked; lines 7 and 8."""
    ledger = Ledger.open(bought)
    ledger.consult(1, ids(5, 6, 7, 30, 4), 0.1)
    ledger.consult(2, ids(6, 31, 30, 8), 0.1)
    return bought


def test_answers_are_of_the_images_asked_about_each_once_by_round(asked: Path) -> None:
    for ledger in (Ledger.open(asked), Ledger.open(asked)):
        assert ledger.teacher_ids().tolist() == [4, 5, 6, 7, 30, 8, 31]
        assert ledger.teacher_ids(through=1).tolist() == [4, 5, 6, 7, 30]
        assert ledger.teacher_ids(through=0).tolist() == []
        assert [(round, len(ids), cost) for round, ids, cost in ledger.answered] == [
            (1, 5, pytest.approx(0.5)),
            (2, 2, pytest.approx(0.2)),
        ]
    assert ledger.teacher_ids(0).dtype == ledger.teacher_ids().dtype == torch.int64


def test_the_answers_of_a_ledger_are_the_same_before_and_after_it_is_opened_again(bought: Path) -> None:
    ledger = Ledger.open(bought)
    for round, some in ((1, ids(50, 3, 2)), (3, ids(99, 2, 0))):
        ledger.consult(round, some, 0.25)
        again = Ledger.open(bought)
        assert torch.equal(again.teacher_ids(), ledger.teacher_ids())
        assert again.cost() == ledger.cost()
        assert contents(again) == contents(ledger)


def test_no_answer_is_paid_for_twice_and_asking_nothing_new_writes_nothing(asked: Path) -> None:
    ledger, before = Ledger.open(asked), asked.read_bytes()
    cost = ledger.cost()
    ledger.consult(3, ids(4, 5, 31), 5.0)
    ledger.consult(3, ids(), 5.0)
    assert asked.read_bytes() == before
    assert ledger.cost() == cost
    ledger.consult(3, ids(4, 9), 5.0)
    assert ledger.cost() == Ledger.open(asked).cost() == cost + 5.0


def test_the_cost_is_of_labels_and_answers(asked: Path) -> None:
    assert Ledger.open(asked).cost() == pytest.approx(7 * 0.25 + 7 * 0.1)


def test_answers_are_no_purchase_and_no_label(asked: Path) -> None:
    ledger = Ledger.open(asked)
    assert ledger.bought()[0].tolist() == [9, 3, 7, 20, 4]
    assert ledger.asked(1) is ledger.asked(2) is ledger.of_round(2) is None
    assert len(rows(ledger.view(CLASSES, []))) == 7
    buy(ledger, 2, 5, 6)  # the teacher has told about them, an oracle has not
    assert Ledger.open(asked).bought()[0].tolist() == [9, 3, 7, 20, 4, 5, 6]


def test_a_request_that_waits_goes_on_waiting_when_the_teacher_is_asked(path: Path) -> None:
    with pytest.raises(Waiting):
        buy(Ledger.open(path), 0, 9, 3, oracle=Seller(ready=False))
    ledger = Ledger.open(path)
    ledger.consult(0, ids(1, 2), 0.1)
    ledger.buy(0, *Ledger.open(path).asked(0)[:2], Seller())
    assert Ledger.open(path).bought()[0].tolist() == [9, 3]


@pytest.mark.parametrize("number", [7, 8])
def test_no_byte_of_a_line_of_answers_can_be_flipped_unnoticed(asked: Path, number: int) -> None:
    lines = asked.read_bytes().splitlines()
    assert json.loads(lines[number - 1])["kind"] == "answers"
    whole = lines[number - 1]
    for place in range(0, len(whole), 2):
        lines[number - 1] = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        asked.write_bytes(b"\n".join(lines) + b"\n")
        with pytest.raises(UserError, match=f"^line {number} "):
            Ledger.open(asked)


def test_a_line_of_answers_taken_out_is_missed(asked: Path) -> None:
    lines = asked.read_bytes().splitlines()
    asked.write_bytes(b"\n".join([*lines[:6], lines[7]]) + b"\n")
    with pytest.raises(UserError, match=r"^line 7 "):
        Ledger.open(asked)


def test_a_torn_line_of_answers_is_put_aside_and_the_teacher_is_asked_again(asked: Path) -> None:
    before = Ledger.open(asked)
    asked.write_bytes(asked.read_bytes()[:-9])
    ledger = Ledger.open(asked)
    assert ledger.teacher_ids().tolist() == [4, 5, 6, 7, 30]
    ledger.consult(2, ids(4, 5, 6, 7, 30, 8, 31), 0.1)
    assert torch.equal(Ledger.open(asked).teacher_ids(), before.teacher_ids())
    assert ledger.cost() == before.cost()


@given(st.sets(st.integers(0, 60), min_size=1))
def test_ranges_are_the_fewest_unbroken_stretches_and_hold_each_id_once(numbers: set[int]) -> None:
    found = ranges(torch.tensor(sorted(numbers)))
    assert [id for first, last in found for id in range(first, last + 1)] == sorted(numbers)
    assert all(first <= last for first, last in found)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(found))


def test_a_whole_pool_is_one_short_line(path: Path) -> None:
    Ledger.open(path).consult(1, torch.arange(1_000_000), 0.5)
    assert json.loads(path.read_text())["ids"] == [[0, 999_999]]
    assert Ledger.open(path).cost() == 500_000


# The view for people.


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_csv_has_a_line_a_label_with_all_that_is_known_of_it(bought: Path) -> None:
    view = rows(Ledger.open(bought).view(CLASSES, [f"img/{i}.png" for i in range(100)]))
    assert [int(row["id"]) for row in view] == [50, 51, 9, 3, 7, 20, 4]
    row = view[3]
    assert (row["round"], row["purpose"], row["owner"], row["cost"]) == ("0", "train", "simulated", "0.25")
    assert (row["label"], row["class"], row["path"]) == ("1", "class 1", "img/3.png")
    assert float(row["score"]) == 0.5
    assert row["time"].endswith("+00:00")


def test_images_without_files_have_an_empty_path(bought: Path) -> None:
    assert {row["path"] for row in rows(Ledger.open(bought).view(CLASSES, []))} == {""}


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", '=HYPERLINK("http://x","y")']


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("column", ["class", "path", "owner"])
def test_no_cell_of_the_csv_is_a_formula_to_a_spreadsheet(path: Path, text: str, column: str) -> None:
    def somebody(numbers: Tensor) -> Answer:
        return Answer(torch.zeros(1, dtype=torch.int64), torch.ones(1).double(), text if column == "owner" else "me")

    ledger = Ledger.open(path)
    buy(ledger, 0, 0, oracle=somebody)
    cell = rows(ledger.view([text], [text]))[0][column]
    assert cell == "'" + text


def test_a_carriage_return_stays_in_its_cell() -> None:
    assert plain_cell("\r=1") == r"\r=1"


@pytest.mark.parametrize("text", ["cat", 'a "cat", or two', "a\nb", "1+1", "", "é ü 猫", "a=b"])
def test_ordinary_text_comes_through_as_it_is(text: str) -> None:
    assert plain_cell(text) == text


def test_a_stopped_run_that_asks_the_teacher_again_is_told_the_same(path: Path) -> None:
    ledger = Ledger.open(path)
    assert ledger.consult(0, ids(1, 2, 3), 1.0) == 3
    assert ledger.consult(1, ids(3, 4, 5), 1.0) == 2
    assert Ledger.open(path).consult(1, ids(3, 4, 5), 1.0) == 2
    assert len(path.read_text().splitlines()) == 2


# What was computed.


def test_what_a_round_took_is_written_once(bought: Path) -> None:
    ledger = Ledger.open(bought)
    ledger.compute(1, "choose", 500, 0.25)
    ledger.compute(1, "train", 3000, 1.5)
    before = bought.read_bytes()
    ledger.compute(1, "train", 7, 99.0)  # done again after a stop
    Ledger.open(bought).compute(1, "choose", 7, 99.0)
    assert bought.read_bytes() == before
    record = json.loads(before.splitlines()[-1])
    assert {key: record[key] for key in ("kind", "round", "what", "flops", "seconds")} == {
        "kind": "compute",
        "round": 1,
        "what": "train",
        "flops": 3000,
        "seconds": 1.5,
    }


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["choose", "train"]), st.integers(0, 2**62)), max_size=12))
def test_operations_add_up_as_they_were_first_written(tmp_path_factory, drawn) -> None:
    path = tmp_path_factory.mktemp("computed") / "ledger.jsonl"
    ledger, first = Ledger.open(path), {}
    for round, what, flops in drawn:
        ledger.compute(round, what, flops, 0.0)
        first.setdefault((round, what), flops)
    assert ledger.flops() == Ledger.open(path).flops() == sum(first.values())
    assert ledger.computed == Ledger.open(path).computed == first


def test_the_chain_goes_through_what_was_computed(bought: Path) -> None:
    ledger = Ledger.open(bought)
    ledger.compute(0, "train", 3000, 1.5)
    buy(ledger, 2, 60, 61)
    assert contents(Ledger.open(bought))[-1][2] == [60, 61]
    whole = bought.read_bytes()
    bought.write_bytes(whole.replace(b'"flops": 3000', b'"flops": 2000'))
    with pytest.raises(UserError, match=r"^line 7 "):
        Ledger.open(bought)
    bought.write_bytes(b"\n".join(line for line in whole.splitlines() if b'"compute"' not in line) + b"\n")
    with pytest.raises(UserError, match=r"^line 7 "):
        Ledger.open(bought)


def test_computing_costs_no_money_and_a_request_waits_through_it(path: Path) -> None:
    ledger = Ledger.open(path)
    with pytest.raises(Waiting):
        buy(ledger, 0, 9, 3, oracle=Seller(ready=False))
    ledger.compute(0, "choose", 10**12, 1.0)
    again = Ledger.open(path)
    assert again.asked(0)[0].tolist() == [9, 3]
    assert again.cost() == 0


# Looking at another run's.


@pytest.mark.parametrize("cut", [0, 1, 60])
def test_looking_changes_nothing_and_passes_over_a_torn_tail(bought: Path, cut: int) -> None:
    whole = bought.read_bytes()
    bought.write_bytes(whole[: len(whole) - cut])
    before = {path.name: path.read_bytes() for path in bought.parent.iterdir()}
    seen = Ledger.look(bought)
    assert {path.name: path.read_bytes() for path in bought.parent.iterdir()} == before
    assert [p.ids.tolist() for p in seen.purchases] == [[50, 51], [9, 3, 7], [20, 4]][: 2 if cut else 3]


def test_looking_at_a_ledger_that_is_not_there_makes_none(path: Path) -> None:
    assert Ledger.look(path).purchases == []
    assert not path.exists()


def test_looking_refuses_a_line_that_was_changed(bought: Path) -> None:
    bought.write_bytes(bought.read_bytes().replace(b'"ids": [9, 3, 7]', b'"ids": [9, 3, 8]'))
    with pytest.raises(UserError, match=r"^line 3 "):
        Ledger.look(bought)
