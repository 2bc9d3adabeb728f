"""Names of classes that people type: which class is meant, what a new one may be called, and how it is told."""

import shlex
import unicodedata
from pathlib import Path

import pytest

from kdal_cli.labels.naming import LONGEST_CLASS, Spelling, Unnameable, gone_on, is_proper, something_else

CLASSES = ("Dress", "café", "x y", "X Y")


def test_a_name_that_there_is_means_that_class_and_a_new_one_has_the_spelling_of_whoever_typed_it_first() -> None:
    spelling = Spelling(CLASSES, ["Tea pot"])
    assert spelling.meant("  dRESS ") == 0
    assert spelling.meant(unicodedata.normalize("NFD", "CAFÉ")) == 1
    assert spelling.meant("tea\t POT") == "Tea pot"
    assert spelling.meant(unicodedata.normalize("NFD", "Brûlée")) == unicodedata.normalize("NFC", "Brûlée")
    assert spelling.meant("BRÛLÉE") == unicodedata.normalize("NFC", "Brûlée")
    assert spelling.names == ["Tea pot", unicodedata.normalize("NFC", "Brûlée")]
    assert (spelling.meant("x y"), spelling.meant("X Y")) == (2, 3)
    with pytest.raises(Unnameable, match="several"):
        spelling.meant("X y")


HOSTILE = (
    *("", " ", "-", "?", "Cannot  tell", "NONE of these", "=1+1", "＝cmd", "@a", "'a", "<b>", "a<script>", "a\x1b[2J"),
    *("a\u202eb", "a\u200bb", "a\nb\0", "\ud800a", "${oc.env:HOME}", "a`b", 'a"b', "a\\b", "\u0301a"),
)


@pytest.mark.parametrize(
    "name",
    [*HOSTILE, "a" * (LONGEST_CLASS + 1)],
)
def test_what_commands_a_terminal_a_sheet_or_a_page_is_no_name(name: str) -> None:
    with pytest.raises(Unnameable):
        Spelling(CLASSES).meant(name)
    assert not is_proper(name)


@pytest.mark.parametrize("name", ["a" * LONGEST_CLASS, "men's shoes", "чайник", "急須", "3.5 mm", "R&D"])
def test_names_as_people_write_them_are_taken(name: str) -> None:
    assert Spelling(CLASSES).meant(name) == name
    assert is_proper(name)


def test_the_line_has_names_and_counts_the_most_frequent_first() -> None:
    said = {7: "men's jug", 3: "teapot", 5: "teapot"}
    assert something_else(said) == "3 images were said to be something else (teapot 2, men's jug 1)"
    assert "2 more names" in something_else({id: f"n{id}" for id in range(12)})
    words = shlex.split(gone_on(said, Path("my run"), 20))
    assert words == ['data.classes=[…,"teapot","men\'s jug"]', "budget.initial=20", "oracle.answers=my run"]
