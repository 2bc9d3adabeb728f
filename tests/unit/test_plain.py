"""Other people's text on a terminal and in a spreadsheet."""

import csv
import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.cli.outcome import guarded, tell
from kdal_cli.errors import UserError
from kdal_cli.plain import clean, clean_lines, plain_cell, plain_row

NASTY = ["\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "\u202egnp.exe", "\u2066x", "a\rb", "caf\udce9", "\x00", "\u2028x"]


@pytest.mark.parametrize("text", NASTY)
def test_an_error_says_nothing_to_the_terminal_but_its_words(capsys: pytest.CaptureFixture[str], text: str) -> None:
    tell(UserError(f"no class {text}", where=f"photos/{text}", cure=text))
    tell(ValueError(text))
    assert_plain(capsys.readouterr().err, lines=2)


@pytest.mark.parametrize("text", NASTY)
def test_nor_does_a_traceback(capsys: pytest.CaptureFixture[str], text: str) -> None:
    def fail() -> None:
        raise ValueError(text)

    assert guarded(fail, debug=True) == 1
    assert_plain(capsys.readouterr().err)


def assert_plain(text: str, lines: int = 0) -> None:
    assert all(line == clean(line) for line in text.splitlines())
    assert not lines or text.count("\n") == lines
    text.encode(sys.stderr.encoding or "utf-8")


@given(st.text(st.characters()))
def test_lines_stay_lines(text: str) -> None:
    assert all(line == clean(line) for line in clean_lines(text).split("\n"))


FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    '=HYPERLINK("http://x","y")',
    "=cmd|' /C x'!A0",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_table_is_a_formula(text: str) -> None:
    ((key, value),) = plain_row({text: text}).items()
    assert key[0] in "'\\"
    assert value[0] in "'\\"


@pytest.mark.parametrize("value", [-1, -0.5, None, "-1", "+0.5", "1e-3", "-2E+5", "margin", "0.1"])
def test_a_number_stays_a_number_and_a_word_a_word(value: object) -> None:
    assert plain_row({"lr": value}) == {"lr": value}


@given(st.text(st.characters()))
def test_a_cell_comes_back_from_a_file_as_it_was_written_and_commands_no_terminal(text: str) -> None:
    cell = plain_cell(text)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([cell, "end"])
    assert list(csv.reader(io.StringIO(out.getvalue(), newline=""))) == [[cell, "end"]]
    assert clean(cell) == cell.replace("\n", " ").replace("\t", " ")
