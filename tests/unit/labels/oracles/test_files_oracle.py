"""A query as a table: it lies there before anybody is asked, is read whole or not at all, and is never made anew."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from kdal_cli.errors import UserError
from kdal_cli.labels.desk import Desk
from kdal_cli.labels.oracle import Answer, NotYet, Occasion
from kdal_cli.labels.oracles.files import files
from kdal_cli.labels.oracles.page import page

IDS = torch.tensor([7, 3, 12])


def fill(desk: Desk, labels: dict[int, str], name: str = "round_003") -> Path:
    """Type labels into a table, as a spreadsheet would save it."""
    path = desk.folder / f"{name}.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"))))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"label": labels.get(int(row["id"]), "")} for row in rows)
    return path


def guess(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return ids % 3, torch.full((len(ids),), 0.75)


def test_a_query_is_laid_out_with_its_images_and_what_to_do(desk: Desk) -> None:
    answer = files(desk)(IDS, Occasion(3))
    assert isinstance(answer, NotYet)
    assert (answer.labels, answer.todo) == (3, f"fill in {desk.folder / 'round_003.csv'} and")
    rows = list(csv.DictReader(io.StringIO((desk.folder / "round_003.csv").read_bytes().decode("utf-8-sig"))))
    assert [row["id"] for row in rows] == ["7", "3", "12"]
    assert rows[0] == {
        "id": "7",
        "image": "1_id_7.png",
        "path": "photos/7.jpg",
        "width": "6",
        "height": "4",
        "label": "",
    }
    with Image.open(desk.folder / "round_003" / "1_id_7.png") as picture:
        assert picture.getpixel((0, 0)) == 70
    assert (desk.folder / "round_003.png").read_bytes() == b"sheet"
    assert "<b>shoe</b>" in (desk.folder / "README.txt").read_text()


def test_the_answer_has_the_order_of_the_query_and_its_price(desk: Desk) -> None:
    ask = files(desk, price=0.5, annotator="anna")
    ask(IDS, Occasion(3))
    fill(desk, {3: "hat", 7: "Dress", 12: "<b>shoe</b>"})
    answer = ask(IDS, Occasion(3))
    assert isinstance(answer, Answer)
    assert (answer.labels.tolist(), answer.costs.tolist(), answer.owner) == ([0, 1, 2], [0.5] * 3, "anna")


def test_what_nobody_can_tell_is_an_answer_without_a_label(desk: Desk) -> None:
    ask = files(desk)
    ask(IDS, Occasion(3))
    fill(desk, {7: "?", 3: "hat", 12: "none of these"})
    answer = ask(IDS, Occasion(3))
    assert isinstance(answer, Answer)
    assert (answer.labels.tolist(), answer.undecided) == ([1], {0: "cannot tell", 2: "none of these"})


def test_a_table_that_is_half_full_is_waited_for_and_stays_as_it_is(desk: Desk) -> None:
    ask = files(desk)
    ask(IDS, Occasion(3))
    path = fill(desk, {7: "hat"})
    before = path.read_bytes()
    assert ask(IDS, Occasion(3)) == NotYet(2, f"fill in {path} and")
    assert path.read_bytes() == before


def test_nothing_is_taken_from_a_table_with_a_problem_and_all_of_them_are_written_down(desk: Desk) -> None:
    ask, many = files(desk), torch.arange(12)
    ask(many, Occasion(3))
    path = fill(desk, dict.fromkeys(range(12), "sock"))
    with pytest.raises(UserError) as refused:
        ask(many, Occasion(3))
    problems = desk.folder / "round_003_problems.txt"
    assert str(refused.value).startswith("row 2: 'sock' is no class; row 3: ")
    assert f"and 6 more, all in {problems}" in str(refused.value)
    assert problems.read_text().splitlines() == [f"row {number}: 'sock' is no class" for number in range(2, 14)]
    fill(desk, dict.fromkeys(range(12), "hat"))
    assert isinstance(ask(many, Occasion(3)), Answer)
    assert not problems.exists()
    assert path.exists()


def test_hints_are_those_of_the_student_and_never_of_what_is_measured_on(desk: Desk) -> None:
    ask = files(desk, hints=True)
    for occasion in (Occasion(3, guess=guess), Occasion(0), Occasion(0, "validation", guess)):
        ask(IDS, occasion)
    heads = [
        (desk.folder / f"{name}.csv").read_bytes().decode("utf-8-sig").splitlines()[:2]
        for name in ("round_003", "round_000", "validation")
    ]
    assert [head[0].endswith("height,guess,p_guess,label") for head in heads] == [True, False, False]
    assert heads[0][1].endswith(",hat,0.75,")


def test_a_path_that_a_spreadsheet_would_compute_is_guarded(desk: Desk) -> None:
    ask = files(replace(desk, paths=("=cmd|' /C calc'!A0",) * 20))
    ask(IDS, Occasion(3))
    assert ",'=cmd|' /C calc'!A0," in (desk.folder / "round_003.csv").read_text(encoding="utf-8-sig")


def test_a_table_that_is_a_link_is_not_followed(desk: Desk, tmp_path: Path) -> None:
    ask = files(desk)
    ask(IDS, Occasion(3))
    path = desk.folder / "round_003.csv"
    path.rename(tmp_path / "elsewhere.csv")
    path.symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(UserError):
        ask(IDS, Occasion(3))


@pytest.mark.parametrize("name", ["", " ", "teacher", "a" * 201, "an\x1b[2Jna", "anna\n"])
@pytest.mark.parametrize("oracle", [files, page], ids=["files", "page"])
def test_whoever_answers_has_a_name_that_is_not_the_teachers(desk: Desk, oracle, name: str) -> None:
    with pytest.raises(UserError, match=r"^oracle\.annotator="):
        oracle(desk, annotator=name)


def test_a_name_that_is_no_class_is_kept_where_that_is_allowed(desk: Desk) -> None:
    ask, when = files(desk, new_classes=True), Occasion(3, proposed=("Tea pot",))
    ask(IDS, when)
    assert "a class that is missing here" in (desk.folder / "README.txt").read_text()
    fill(desk, {7: "tea POT", 3: "HAT", 12: "jug"})
    answer = ask(IDS, when)
    assert isinstance(answer, Answer)
    assert (answer.labels.tolist(), answer.proposed) == ([1], {0: "Tea pot", 2: "jug"})
    assert answer.undecided == {0: "none of these", 2: "none of these"}
    fill(desk, {7: "<script>", 3: "hat", 12: "?"})
    with pytest.raises(UserError, match="row 2: '<script>' is no class"):
        ask(IDS, when)
