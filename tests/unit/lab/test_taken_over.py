"""Answers of another run: those of people, as they hold, in the classes of this run; nothing that a folder makes up."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kdal_cli.errors import UserError
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.taken_over import KEPT, TakenOver, taken_over
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracle import FIRST, Answer, NotYet, Occasion

NONE = "none of these"
NOBODY = torch.empty(0, dtype=torch.int64)


def ids(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def manifest(folder: Path, lab: Lab, **more: object) -> None:
    about = {"data_sha256": lab.fingerprint, "config": {"data": {"classes": list(lab.data.classes)}}}
    (folder / "manifest.json").write_text(json.dumps(about | more))


@pytest.fixture
def lab(bench: Callable[..., Lab]) -> Lab:
    return bench("now")


@pytest.fixture
def before(tmp_path: Path, lab: Lab) -> Path:
    """Of images 1 to 5: 1 was reviewed, 2 is the teacher's, 3 cannot be told, 4 is a jug, 5 is as anna said first."""
    folder = tmp_path / "before"
    folder.mkdir()
    manifest(folder, lab)
    ledger = Ledger.open(folder / "ledger.jsonl")

    def buy(round: int, asked: torch.Tensor, labels: list[int], purpose: str = "train", again=NOBODY, **more) -> None:
        answer = Answer(ids(*labels), torch.ones(len(asked)).double(), "anna", **more)
        ledger.buy(round, asked, torch.zeros(len(asked)), lambda _: answer, purpose, again)

    told = {"undecided": {2: "cannot tell", 3: NONE}, "proposed": {3: "jug"}}
    who = ("anna", "teacher", "anna", "anna", "a\x1b[2Jb")
    buy(0, ids(1, 2, 3, 4, 5), [0, 1, 2], owners=who, times=("then",) * 5, seconds=(2.0,) * 5, **told)
    buy(1, ids(5), [0], again=ids(5))
    buy(2, ids(1), [2], "review", times=("later",))
    return folder


def nobody(asked: torch.Tensor, occasion: Occasion = FIRST) -> Answer:
    raise AssertionError(asked)


def test_what_people_said_holds_as_it_does_there_and_a_jug_is_a_jug_where_there_are_jugs(lab: Lab, before) -> None:
    more = replace(lab, data=replace(lab.data, classes=("Jug", *lab.data.classes)))
    taken = taken_over(before, more)
    assert taken.ids.tolist() == [1, 5, 3, 4]
    answer = taken.before(nobody)(ids(4, 1, 3, 5))
    assert isinstance(answer, Answer)
    assert (answer.labels.tolist(), answer.undecided) == ([0, 3, 3], {2: "cannot tell"})
    assert (answer.costs.sum(), answer.taken, answer.proposed) == (0, (0, 1, 2, 3), {})
    assert answer.owners == ("anna", "anna", "anna", "a?[2Jb")
    assert (answer.times[0], answer.seconds[0]) == ("then", 2.0)
    same = taken_over(before, replace(lab, run=replace_folder(lab, before.parent / "third"))).before(nobody)(ids(4))
    assert isinstance(same, Answer)
    assert (same.proposed, same.undecided) == ({0: "jug"}, {0: NONE})


def replace_folder(lab: Lab, folder: Path):
    folder.mkdir()
    return type(lab.run)(folder)


def test_others_are_asked_what_is_not_answered_is_asked_again_or_reviewed(lab: Lab, before: Path) -> None:
    asked: list[tuple[list[int], str]] = []

    def person(wanted: torch.Tensor, occasion: Occasion = FIRST) -> Answer | NotYet:
        asked.append((wanted.tolist(), occasion.purpose))
        return Answer(ids(*[2] * len(wanted)), torch.full((len(wanted),), 3.0).double(), "ben")

    oracle = taken_over(before, lab).before(person)
    answer = oracle(ids(7, 1, 5, 8), Occasion(3, again={5: ("anna",)}))
    oracle(ids(1, 4), Occasion(3, "review"))
    assert asked == [([7, 5, 8], "train"), ([1, 4], "review")]
    assert isinstance(answer, Answer)
    assert (answer.taken, answer.costs.tolist(), answer.owners) == ((1,), [3, 0, 3, 3], ("ben", "anna", "ben", "ben"))
    ledger = Ledger.open(lab.run.folder / "ledger.jsonl")
    ledger.buy(0, ids(7, 1, 5, 8), torch.zeros(4), lambda _: answer)
    assert [row.rsplit(",", 1)[1] for row in ledger.view("abc", ()).splitlines()] == ["taken_over", "", "yes", "", ""]
    assert [fact.time == "later" for fact in ledger.purchases[0].facts()] == [False, True, False, False]
    assert all(fact.time for fact in ledger.purchases[0].facts())


def test_they_are_kept_from_the_first_question_on(lab: Lab, before: Path) -> None:
    first = taken_over(before, lab)
    assert not (lab.run.folder / KEPT).exists()
    first.before(nobody)(ids(1))
    before.rename(before.with_name("elsewhere"))
    again = taken_over(before, lab)
    assert again.before(nobody)(ids(1, 4)).costs.tolist() == [0, 0]  # type: ignore[union-attr]
    kept = lab.run.folder / KEPT
    kept.write_text(kept.read_text().replace("jug", "mug"))
    with pytest.raises(UserError, match="not what was written there"):
        taken_over(before, lab)
    (lab.run.folder / "seals.json").unlink()
    kept.write_text(kept.read_text().replace("mug", "<b>"))
    with pytest.raises(UserError, match="not what was kept there"):
        taken_over(before, lab)


def test_a_folder_that_makes_things_up_is_refused_in_one_line(lab: Lab, before: Path) -> None:
    def refused(told: str) -> None:
        with pytest.raises(UserError, match=told) as error:
            taken_over(before, lab)
        assert "\n" not in str(error.value)

    for config in ({"data": {"classes": [[], {}]}}, {"data": {"classes": ["x", "y"]}}):
        manifest(before, lab, config=config)
        refused("of other images")
    manifest(before, lab, config=[7])  # then they come with the images
    assert isinstance(taken_over(before, lab), TakenOver)
    for asked, said, told in (
        (ids(10**9), {"labels": ids(0)}, "cannot be about these images"),
        (ids(6), {"labels": ids(77)}, "cannot be about these images"),
        (ids(6), {"labels": ids(), "undecided": {0: "<script>"}}, "nobody can have given"),
    ):
        whole = (before / "ledger.jsonl").read_bytes()
        answer = Answer(**said, costs=torch.ones(1).double(), owner="x")
        Ledger.open(before / "ledger.jsonl").buy(5, asked, torch.zeros(1), lambda _, answer=answer: answer)
        refused(told)
        (before / "ledger.jsonl").write_bytes(whole)
    (before / "ledger.jsonl").write_bytes(b"")
    refused("nobody has answered anything")
