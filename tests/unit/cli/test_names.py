"""Names of folders made of what was typed: short, of one piece, and never the same for two texts."""

from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.cli.names import LONGEST, file_name


def test_an_ordinary_name_stays() -> None:
    for text in ("sampler=margin,seed=0", "data.root='фото (1)'", "x" * LONGEST, "é" * (LONGEST // 2)):
        assert file_name(text) == text


def test_a_long_name_is_cut_between_characters_and_ends_in_a_hash() -> None:
    for letter in ("x", "é", "鹿", "😀"):
        name = file_name(letter * 300)
        assert LONGEST - 4 < len(name.encode()) <= LONGEST
        start, _, mark = name.rpartition("-")
        assert set(start) == {letter}
        assert len(mark) == 10


def test_long_names_that_begin_alike_differ() -> None:
    assert len({file_name("x" * 300 + str(number)) for number in range(100)}) == 100


def test_it_is_one_piece_and_not_that_of_another_text() -> None:
    assert file_name("a/../b").startswith("a_.._b-")
    assert file_name("a/b") != file_name("a_b")
    assert file_name("a\nb\x1b").startswith("a_b_-")


@given(st.text(st.characters()))
def test_whatever_was_typed(text: str) -> None:
    name = file_name(text)
    assert len(name.encode()) <= LONGEST
    assert "/" not in name
    assert "\0" not in name
    assert file_name(name) == name
