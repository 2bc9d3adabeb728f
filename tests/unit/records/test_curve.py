"""A table that grows by whole rows: equal results are equal bytes, and what was read back is what was written."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdal_cli.errors import UserError
from kdal_cli.records.curve import Table

ROWS = [
    {"round": 0, "labels": 100, "accuracy": 0.5, "loss": 1.23456789},
    {"round": 1, "labels": 200, "accuracy": 2 / 3, "loss": 1e-9},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "curve.csv"


def filled(path: Path) -> Table:
    table = Table(path)
    for row in ROWS:
        table.add(row)
    return table


def test_whole_numbers_are_written_as_such_and_others_with_six_decimals(path: Path) -> None:
    filled(path)
    assert path.read_bytes() == (
        b"round,labels,accuracy,loss\n0,100,0.500000,1.234568\n1,200,0.666667,0.000000\n"
    )  # fmt: skip


def test_a_row_is_on_disk_when_it_is_added(path: Path) -> None:
    table = Table(path)
    for n, row in enumerate(ROWS, start=1):
        table.add(row)
        assert len(Table(path)) == len(table) == n


def test_it_goes_on_where_it_was_with_the_bytes_of_a_table_never_closed(path: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.csv"
    filled(whole)
    Table(path).add(ROWS[0])
    Table(path).add(ROWS[1])
    assert path.read_bytes() == whole.read_bytes()


numbers = st.one_of(st.integers(-(10**12), 10**12), st.floats(-1e9, 1e9))


@given(rows=st.lists(st.fixed_dictionaries({"a": numbers, "b": numbers}), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_what_is_read_back_is_written_again_with_the_same_bytes(rows: list[dict], tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("curve") / "curve.csv"
    table = Table(path)
    for row in rows:
        table.add(row)
    before, again = path.read_bytes(), Table(path)
    assert again.rows == [
        {k: v if isinstance(v, int) else pytest.approx(v, abs=5.1e-7) for k, v in row.items()} for row in rows
    ]
    again.keep(len(rows) - 1)
    again.add(rows[-1])
    assert path.read_bytes() == before


def test_a_number_that_is_not_there_stays_so(path: Path) -> None:
    Table(path).add({"ece": float("nan"), "nll": float("inf")})
    row = Table(path).rows[0]
    assert row["ece"] != row["ece"]
    assert row["nll"] == float("inf")


@pytest.mark.parametrize(
    "content",
    [
        b"round,labels\n0,abc\n",
        b"round,labels\n0\n",
        b"round,labels\n0,1,2\n",
        b"round;labels\n0;100\n",
        b"\xff\xfe\x00",
    ],
    ids=["a word", "a cell too few", "a cell too many", "other separators", "no text"],
)
def test_a_table_that_was_damaged_is_refused_by_name(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"curve\.csv"):
        Table(path)


def test_what_a_stopped_run_wrote_too_much_is_forgotten_with_the_next_row(path: Path) -> None:
    table = filled(path)
    table.keep(1)
    table.add({**ROWS[1], "labels": 150})
    assert Table(path).column("labels") == [100, 150]


def test_columns_are_read_by_name_and_say_what_the_file_says(path: Path) -> None:
    """So that a run that was never stopped and one that was resumed show the same figures."""
    table = filled(path)
    assert table.column("accuracy") == [0.5, 0.666667]
    assert table.rows == Table(path).rows


def test_a_table_is_replaced_and_never_edited_in_place(path: Path) -> None:
    Table(path).add(ROWS[0])
    with path.open() as old:
        Table(path).add(ROWS[1])
        assert len(old.readlines()) == 2
