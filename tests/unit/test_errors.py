"""Errors are one line: what, where, what to do; and each means one exit code."""

import pytest

from kdal_cli.errors import InUse, KdalError, MachineError, Stopped, UserError, nearest


@pytest.mark.parametrize(("error", "code"), [(KdalError, 1), (UserError, 2), (MachineError, 3), (InUse, 4)])
def test_each_error_means_one_exit_code(error: type[KdalError], code: int) -> None:
    assert error("it broke").exit_code == code


@pytest.mark.parametrize(
    ("where", "cure", "line"),
    [
        ("", "", "it broke"),
        ("here", "", "it broke (here)"),
        ("", "mend it", "it broke: mend it"),
        ("here", "mend it", "it broke (here): mend it"),
    ],
)
def test_the_line_says_what_where_and_what_to_do(where: str, cure: str, line: str) -> None:
    assert str(UserError("it broke", where=where, cure=cure)) == line


def test_it_is_one_line_whatever_went_into_it() -> None:
    assert str(UserError("first\nsecond", where="a\tb", cure="c\r\nd")) == "first second (a b): c d"


def test_a_sweep_goes_on_after_an_error_and_ends_at_a_signal() -> None:
    assert issubclass(KdalError, Exception)
    assert not issubclass(Stopped, Exception)
    assert Stopped("stopped", signal=15).signal == 15


def test_a_typo_is_answered_with_the_nearest_name_and_all_of_them() -> None:
    assert nearest("marign", ["random", "margin"]) == "did you mean 'margin'? known: margin, random"
    assert nearest("xyz", ["random", "margin"]) == "known: margin, random"
    assert nearest("xyz", []) == "known: none"
