"""What spreadsheets make of a table: what nobody wanted changes nothing, what cannot be right is told by row."""

import csv
import io
import unicodedata
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.labels.oracles._table import Filled, read_table

CLASSES = ("dress", "T-Shirt", "café crème", "=SUM(A1)", "7", "a, b")
IDS = (100_000, 3, 12)
GIVEN = {100_000: "café crème", 3: "T-Shirt", 12: "=SUM(A1)"}
MEANT = {100_000: 2, 3: 1, 12: 3}


def table(rows: Sequence[Sequence[object]], head: Sequence[str] = ("id", "path", "label"), **form: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, **{"lineterminator": "\n", **form})
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def rows(labels: dict[int, str]) -> list[list[object]]:
    return [[id, f"photos/{id}.jpg", label] for id, label in labels.items()]


PLAIN = table(rows(GIVEN))


def read(data: bytes | str, ids: Sequence[int] = IDS) -> Filled:
    return read_table(data.encode() if isinstance(data, str) else data, ids, CLASSES)


CHANGES: dict[str, Callable[[], bytes]] = {
    "as it was": lambda: PLAIN.encode(),
    "a mark of UTF-8": lambda: PLAIN.encode("utf-8-sig"),
    "UTF-16 with a mark": lambda: PLAIN.encode("utf-16"),
    "big-endian UTF-16": lambda: b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-16 without a mark": lambda: PLAIN.encode("utf-16-le"),
    "Windows-1252": lambda: PLAIN.encode("cp1252"),
    "semicolons": lambda: table(rows(GIVEN), delimiter=";").encode(),
    "tabs": lambda: table(rows(GIVEN), delimiter="\t").encode(),
    "a line that names the separator": lambda: b"sep=;\r\n" + table(rows(GIVEN), delimiter=";").encode(),
    "CRLF": lambda: table(rows(GIVEN), lineterminator="\r\n").encode(),
    "CR alone": lambda: PLAIN.replace("\n", "\r").encode(),
    "everything in quotes": lambda: table(rows(GIVEN), quoting=csv.QUOTE_ALL).encode(),  # type: ignore[arg-type]
    "line breaks within a cell": lambda: PLAIN.replace("photos/3.jpg", '"photos\n3\r\n.jpg"').encode(),
    "empty rows after it": lambda: (PLAIN + ",,\n,,\n\n").encode(),
    "empty columns beside it": lambda: PLAIN.replace("\n", ",,,\n").encode(),
    "numbers with a point": lambda: PLAIN.replace("\n3,", "\n3.0,").replace("\n12,", "\n12.00,").encode(),
    "numbers with a comma": lambda: PLAIN.replace("\n3,", '\n"3,0",').encode(),
    "numbers with an exponent": lambda: PLAIN.replace("100000,", "1E+05,").encode(),
    "marks against formulas": lambda: PLAIN.replace("=SUM", "'=SUM").replace("\n3,", "\n'3,").encode(),
    "sorted the other way": lambda: table(list(reversed(rows(GIVEN)))).encode(),
    "columns in another order": lambda: table(
        [row[::-1] for row in rows(GIVEN)], head=("label", "path", "id")
    ).encode(),
    "another case": lambda: PLAIN.replace("T-Shirt", "t-shirt").replace("café", "CAFÉ").encode(),
    "spaces": lambda: PLAIN.replace("T-Shirt", " T-Shirt ").replace("café crème", "café  crème").encode(),
    "letters taken apart": lambda: unicodedata.normalize("NFD", PLAIN).encode(),
    "a row twice": lambda: (PLAIN + PLAIN.splitlines()[2] + "\n").encode(),
    "heads in capitals": lambda: PLAIN.replace("id,path,label", "ID,Path,LABEL ").encode(),
    "no line end at the end": lambda: PLAIN.rstrip("\n").encode(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_spreadsheets_do_to_a_table_changes_no_label(change: str) -> None:
    filled = read(CHANGES[change]())
    assert filled.problems == []
    assert filled.labels == MEANT


def test_a_class_that_is_called_by_a_number_may_have_a_point() -> None:
    assert read(table(rows({3: "7.0", 12: "7"})), [3, 12]).labels == {3: 4, 12: 4}


def test_what_is_no_class_may_be_said_in_words_or_by_a_sign() -> None:
    filled = read(table(rows({100_000: "?", 3: "Cannot tell", 12: "-"})))
    assert filled.problems == []
    assert filled.labels == {100_000: "cannot tell", 3: "cannot tell", 12: "none of these"}


def test_a_label_that_is_still_empty_is_no_problem_and_no_label() -> None:
    filled = read(table(rows({100_000: "dress", 3: "", 12: "  "})))
    assert (filled.labels, filled.problems) == ({100_000: 0}, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (table(rows({**GIVEN, 3: "shoe"})), "row 3: 'shoe' is no class"),
        (table([*rows(GIVEN), [4, "x", "dress"]]), "row 5: '4' is the id of no image that was asked about"),
        (table([*rows(GIVEN), ["", "x", "dress"]]), "row 5: no id"),
        (table([*rows(GIVEN), ["3.5", "x", "dress"]]), "row 5: '3.5' is the id of no image that was asked about"),
        (table([*rows(GIVEN), [3, "x", "dress"]]), "row 5: image 3 has another label in row 3"),
        (table(rows({3: "dress", 12: "dress"})), "image 100000 has no row"),
        (table([], head=("id", "class")), "row 1: columns id and label are needed, once each"),
        (table([], head=("id", "label", "label")), "row 1: columns id and label are needed, once each"),
        ("", "row 1: columns id and label are needed, once each"),
        ("id,label\n3," + "x" * 70_000, "this is no table: field larger than field limit (65536)"),
        (table(rows({**GIVEN, 3: '=cmd|" /C calc"!A0'})), "row 3: '=cmd|\" /C calc\"!A0' is no class"),
        (table([["9" * 50, "x", "dress"]]), "is the id of no image that was asked about"),
        (table([["1e99", "x", "dress"]]), "row 2: '1e99' is the id of no image that was asked about"),
    ],
)
def test_what_cannot_be_right_is_told_with_its_row(text: str, problem: str) -> None:
    filled = read(text)
    assert any(problem in told for told in filled.problems), filled.problems


def test_every_problem_is_told_and_not_the_first_alone() -> None:
    filled = read(table([[3, "", "x"], [3, "", "dress"], [5, "", "dress"]]))
    assert len(filled.problems) == 5  # no class, another label, an unknown image, two without a row


def test_names_that_differ_in_case_alone_have_to_be_typed_as_they_are() -> None:
    classes = ("Dress", "dress", "hat")
    told = read_table(table(rows({1: "Dress", 2: "dress", 3: "DRESS"})).encode(), [1, 2, 3], classes)
    assert told.labels == {1: 0, 2: 1}
    assert told.problems == ["row 4: 'DRESS' is no class"]


def test_a_class_that_is_called_like_a_sign_is_meant_by_it() -> None:
    assert read_table(b"id,label\n1,?\n2,-\n", [1, 2], ("?", "x")).labels == {1: 0, 2: "none of these"}


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_have_problems(data: bytes) -> None:
    filled = read(data)
    assert set(filled.labels) <= set(IDS)
    assert filled.problems
