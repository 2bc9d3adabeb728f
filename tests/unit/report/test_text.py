"""Numbers, durations and other people's text."""

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.plain import clean
from kdal_cli.report.text import duration, figures_text, number, percent, shortened


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.23449, "1.234"),
        (0.9, "0.9"),
        (0.00012344, "0.0001234"),
        (1e-9, "1e-09"),
        (2.0, "2"),
        (0, "0"),
        (-0.5, "-0.5"),
        (50_000, "50,000"),
        (12_345.6, "12,346"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_number(value: float, expected: str) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.344, "0.34 s"),
        (4, "4 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (4320, "1 h 12 min"),
        (3_600_000, "1,000 h 0 min"),
    ],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_percent_and_figures() -> None:
    assert percent(0.932749) == "93.27"
    assert figures_text({"loss": 1.2344, "ce": 0.9, "val_accuracy": 0.812}) == "loss 1.234 ce 0.9 val_accuracy 0.812"


def test_what_commands_a_terminal_is_removed() -> None:
    assert clean("\x1b[2Jcat\x07") == "[2Jcat"
    assert clean("\x9b31mred\x7f\x08") == "31mred"  # C1 control sequence introducer
    assert clean("two\nlines\tand\r\ntabs") == "two lines and  tabs"
    assert clean("\u202egnp.exe") == "gnp.exe"  # right-to-left override
    assert clean("caf\udce9") == "caf"  # a byte of a file name that is not UTF-8
    assert clean("鹿 · é [red]x[/red] 👩‍🔬") == "鹿 · é [red]x[/red] 👩‍🔬"


@given(st.text(st.characters()))
def test_clean_text_is_one_printable_line(text: str) -> None:
    line = clean(text)
    assert not any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in line)
    assert clean(line) == line
    line.encode()


def test_shortened() -> None:
    assert shortened("airplane", 8) == "airplane"
    assert shortened("automobile", 8) == "automob…"
