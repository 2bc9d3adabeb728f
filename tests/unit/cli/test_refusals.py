"""What Hydra cannot read: the character is named, and what is advised works."""

import re
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException

from kdal_cli.cli.refusals import refusal


def refused(word: str) -> str:
    with pytest.raises(OverrideParseException) as caught:
        OverridesParser.create().parse_overrides([word])
    return str(refusal("al-loop", caught.value, [word]))


@pytest.mark.parametrize(
    ("value", "character"),
    [
        ("R&D", "&"),
        ("фото", "ф"),
        ("it's", "'"),
        ('5"', '"'),
        ("a=b", "="),
        ("a#b", "#"),
        ("[margin", "["),
        ("x]", "]"),
        ("{a: b", "{"),
        ("a)b", ")"),
        ("a,b=c", "="),
        ("~", "~"),
        ("1;2", ";"),
        ("`x`", "`"),
        ("a^b", "^"),
        ("é!", "é"),
    ],
)
def test_the_character_is_named_and_the_quotes_work(value: str, character: str) -> None:
    said = refused(f"student.name={value}")
    assert said.startswith(f"student.name={value} cannot be read (character {character!r}): ")
    assert what_is_advised(said) == value


@pytest.mark.parametrize("value", ["it's", "it's $5", "it's \\", "${x}'", 'say "no"(1)', "back`tick'"])
def test_the_quotes_work_whatever_is_to_be_quoted(value: str) -> None:
    said = refused(f"x={value}")
    assert what_is_advised(said).replace("\\${", "${") == value


def what_is_advised(said: str) -> str:
    """The value that comes out of the words that the message gives, typed into a shell."""
    [word] = shlex.split(said.split("two pairs of quotes: ")[1])
    return OverridesParser.create().parse_override(word).value()  # type: ignore[return-value]


def test_a_function_that_is_not_there_is_told_with_the_nearest_that_is() -> None:
    assert re.match(
        r"seed=rnage\(3\) \(no function rnage\): did you mean 'range'\? known: bool, ", refused("seed=rnage(3)")
    )


def test_a_word_without_a_value_and_a_key_that_cannot_be() -> None:
    assert refused("sampler") == "'sampler' is not key=value: for example sampler=margin"
    assert "'dät.x=3': no key has this name (character 'ä')" in refused("dät.x=3")
    assert "(character ' ')" in refused("a b=3")


def test_an_option_without_a_name_is_told_with_those_that_are() -> None:
    error = HydraException("In 'base': Could not find 'budget/'\n\nAvailable options in 'budget':\n\tlarge\n\tsmall\n")
    assert str(refusal("al-loop", error, [])) == "budget= (no such option of budget): known: large, small"
