"""A signature is a schema: every kind of annotation, what it takes, and in which words it refuses."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdal_cli.compose.bind import bind, convert, make, schedule
from kdal_cli.errors import UserError
from kdal_cli.training.schedules import Schedule
from kdal_cli.values import Count, Natural, NonNegative, Positive, Share


@dataclass(frozen=True)
class Inner:
    pad: Natural = 0
    flip: bool = False


@dataclass(frozen=True)
class Outer:
    lr: Positive
    mode: Literal["fast", "slow"] = "fast"
    inner: Inner = field(default_factory=Inner)
    shares: tuple[Share, ...] = ()


class Learner:
    """A class of the registry: the caller gives the first two arguments, configuration the others."""

    def __init__(self, student: object, teacher: object, *, layers: Sequence[str], weight: Positive = 1.0) -> None:
        self.settings = layers, weight


def function(given: object, *, k: Count, rate: Positive | None = None) -> tuple:
    return k, rate


def anything(given: object, *, k: Count, **rest: Any) -> dict:
    return rest


def says(error: pytest.ExceptionInfo) -> str:
    return str(error.value)


def refusal(value: Any, hint: Any) -> str | None:
    """The line in which a value is refused, or None where it is taken."""
    try:
        convert(value, hint, "key")
    except UserError as refused:
        return str(refused)
    return None


# What is taken.


@pytest.mark.parametrize(
    ("hint", "value", "converted"),
    [
        (int, 3, 3),
        (int, -3, -3),
        (float, 2, 2.0),
        (float, 1e-3, 1e-3),
        (bool, False, False),
        (str, "a b", "a b"),
        (str, 12, "12"),
        (Path, "a/b", Path("a/b")),
        (Path, Path("c"), Path("c")),
        (Literal["auto", "always"], "always", "always"),
        (int | None, None, None),
        (Count | None, 4, 4),
        (Natural, 0, 0),
        (Share, 1, 1.0),
        (Positive, 1, 1.0),
        (list[int], [1, 2], [1, 2]),
        (list[str], [], []),
        (tuple[Share, ...], [0, 0.5], (0.0, 0.5)),
        (Sequence[str], ("a", "b"), ("a", "b")),
        (Sequence[str] | None, None, None),
        (Inner, {"pad": 2}, Inner(2)),
        (Inner, {}, Inner()),
        (Inner, Inner(3, True), Inner(3, True)),
        (Outer, {"lr": 1, "inner": {"flip": True}, "shares": [1]}, Outer(1.0, "fast", Inner(0, True), (1.0,))),
        (NonNegative | Schedule, 0.5, 0.5),
        (NonNegative | Schedule, {"schedule": "cosine", "start": 3, "end": 1}, Schedule("cosine", 1.0, 3.0)),
        (Any, {"x": object}, {"x": object}),
    ],
    ids=str,
)
def test_a_value_is_converted_to_what_the_annotation_says(hint: Any, value: Any, converted: Any) -> None:
    found = convert(value, hint, "key")
    assert found == converted
    assert type(found) is type(converted)


# What is refused, and in which words.

REFUSED = [
    (int, 1.0, "a whole number"),
    (int, True, "a whole number"),
    (int, "3", "a whole number"),
    (int, None, "a whole number"),
    (float, float("nan"), "a finite number"),
    (float, float("-inf"), "a finite number"),
    (float, True, "a finite number"),
    (float, "0.1", "a finite number"),
    (bool, 1, "true or false"),
    (bool, "true", "true or false"),
    (str, 1.5, "text"),
    (str, True, "text"),
    (str, None, "text"),
    (str, ["a"], "text"),
    (Path, 3, "a path"),
    (Literal["auto", "always"], "never", "auto, always"),
    (int | None, "none", "a whole number"),
    (Count, 0, "a whole number at least 1"),
    (Count, 2.5, "a whole number at least 1"),
    (Natural, -1, "a whole number at least 0"),
    (Positive, 0, "a finite number above 0"),
    (Positive, float("nan"), "a finite number above 0"),
    (NonNegative, -0.1, "a finite number at least 0"),
    (Share, 1.01, "a finite number from 0 to 1"),
    (Count | None, -5, "a whole number at least 1"),
    (list[int], 3, "a list, each a whole number"),
    (list[str], "abc", "a list, each text"),
    (Inner, 3, "a mapping of pad, flip"),
    (Inner, None, "a mapping of pad, flip"),
    (Inner, [1, True], "a mapping of pad, flip"),
    (NonNegative | Schedule, "high", "a finite number at least 0 or a mapping of schedule, end, start, until"),
]


@pytest.mark.parametrize(("hint", "value", "accepted"), REFUSED, ids=str)
def test_a_refusal_names_key_value_and_what_is_accepted(hint: Any, value: Any, accepted: str) -> None:
    with pytest.raises(UserError) as refused:
        convert(value, hint, "recipe.lr")
    shown = {"None": "null", "True": "true"}.get(str(value), value)  # as YAML writes it
    assert says(refused) == f"recipe.lr={shown}: accepted: {accepted}"


@pytest.mark.parametrize(
    ("hint", "value", "line"),
    [
        (tuple[Share, ...], [0.5, 2], "x[1]=2: accepted: a finite number from 0 to 1"),
        (Outer, {"lr": 1, "inner": {"pad": -1}}, "x.inner.pad=-1: accepted: a whole number at least 0"),
        (Outer, {"lr": 1, "shares": [1, -1]}, "x.shares[1]=-1: accepted: a finite number from 0 to 1"),
        (Outer, {"lr": 1, "inner": {"fliip": True}}, "x.inner.fliip=True (no such key): did you mean 'flip'? known: "),
        (Outer, {"mode": "slow"}, "x.lr is missing: set it: a finite number above 0"),
    ],
    ids=["item", "field", "item of a field", "key of a field", "missing"],
)
def test_what_is_wrong_inside_is_named_by_its_own_key(hint: Any, value: Any, line: str) -> None:
    with pytest.raises(UserError) as refused:
        convert(value, hint, "x")
    assert says(refused).startswith(line)


NUMBERS = {"int": int, "float": float, "Count": Count, "Natural": Natural, "Positive": Positive,
           "NonNegative": NonNegative, "Share": Share}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_no_float_can_hold_is_taken_or_refused_and_no_overflow(name: str) -> None:
    """A zero too many on the command line."""
    line = refusal(10**400, NUMBERS[name])
    assert line is None or line.startswith("key=1000")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["pad", "lr", "x"]), inner, max_size=3),
    max_leaves=6,
)
HINTS = [int, float, bool, str, Path, Literal["a", "b"], Count | None, list[int], tuple[Share, ...], Inner, Outer,
         NonNegative | Schedule]  # fmt: skip


@given(value=plain, hint=st.sampled_from(HINTS))
@settings(deadline=None, max_examples=300)
def test_whatever_comes_is_converted_or_refused_in_one_line_that_begins_with_its_key(value: Any, hint: Any) -> None:
    line = refusal(value, hint)
    assert line is None or (line.startswith("key") and "\n" not in line)


@given(value=plain, hint=st.sampled_from(HINTS))
@settings(deadline=None, max_examples=200)
def test_what_was_converted_is_accepted_again_as_it_is(value: Any, hint: Any) -> None:
    if refusal(value, hint) is None:
        once = convert(value, hint, "key")
        assert convert(once, hint, "key") == once


# Binding.


def test_a_section_becomes_the_keyword_arguments_that_the_caller_does_not_give() -> None:
    assert bind(function, {"k": 3, "rate": 2}, "sampler", given=1) == {"k": 3, "rate": 2.0}
    assert bind(Learner, {"layers": ["a"]}, "loss.vid", given=2) == {"layers": ("a",)}
    assert Learner(1, 2, **bind(Learner, {"layers": ["a"], "weight": 2}, "x", given=2)).settings == (("a",), 2.0)


def test_keys_that_are_somebody_elses_are_left_out_and_may_be_meant_by_a_typo() -> None:
    assert bind(function, {"name": "margin", "k": 3}, "sampler", given=1, besides=("name",)) == {"k": 3}
    with pytest.raises(UserError, match=r"^sampler\.nmae=margin .no such key.: did you mean 'name'"):
        bind(function, {"nmae": "margin", "k": 3}, "sampler", given=1, besides=("name",))


def test_a_key_that_is_not_there_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UserError) as refused:
        bind(function, {"k": 3, "raet": 2}, "sampler", given=1)
    assert says(refused) == "sampler.raet=2 (no such key): did you mean 'rate'? known: k, rate"


@pytest.mark.parametrize(("target", "given", "name"), [(function, 1, "given"), (Learner, 2, "student")])
def test_what_the_caller_gives_cannot_be_configured(target: Any, given: int, name: str) -> None:
    section = {"k": 1} if target is function else {"layers": []}
    with pytest.raises(UserError, match=f"^x.{name}=1 .no such key"):
        bind(target, {**section, name: 1}, "x", given=given)


def test_a_missing_key_is_asked_for_by_name() -> None:
    with pytest.raises(UserError) as refused:
        bind(function, {}, "sampler", given=1)
    assert says(refused) == "sampler.k is missing: set it: a whole number at least 1"


def test_who_takes_anything_gets_it_and_its_own_keys_are_checked_still() -> None:
    assert bind(anything, {"k": 1, "x": [2], "y": "z"}, "m", given=1) == {"k": 1, "x": [2], "y": "z"}
    with pytest.raises(UserError, match=r"^m\.k=0"):
        bind(anything, {"k": 0, "x": 1}, "m", given=1)


def test_a_key_that_is_no_text_is_refused_like_any_other() -> None:
    """YAML reads `1: 2` so."""
    with pytest.raises(UserError, match=r"^sampler\.1=2 .no such key"):
        bind(function, {"k": 3, 1: 2}, "sampler", given=1)  # type: ignore[dict-item]


def test_a_section_at_the_root_has_keys_without_a_dot() -> None:
    with pytest.raises(UserError, match=r"^k=0: accepted"):
        bind(function, {"k": 0}, "", given=1)


def test_make_calls_what_it_binds() -> None:
    assert make(Outer, {"lr": 3}, "recipe") == Outer(3.0)


# Schedules.


def test_a_schedule_has_ends_that_the_argument_accepts() -> None:
    section = {"schedule": "linear", "start": 8, "end": 2, "until": 0.5}
    assert schedule(section, Positive, "loss.kd.temperature") == Schedule("linear", 2.0, 8.0, 0.5)
    for key in ("start", "end"):
        with pytest.raises(UserError, match=rf"^loss\.kd\.temperature\.{key}=-1: accepted: a finite number above 0"):
            schedule({**section, key: -1}, Positive, "loss.kd.temperature")


def test_a_start_that_is_left_out_is_checked_as_well() -> None:
    """It would be 0, and a temperature of 0 divides by it."""
    with pytest.raises(UserError, match=r"^loss\.kd\.temperature"):
        schedule({"schedule": "linear", "end": 2}, Positive, "loss.kd.temperature")


def test_a_constant_schedule_needs_no_start() -> None:
    assert schedule({"schedule": "constant", "end": 2}, Positive, "t")(0.0) == 2.0


def test_the_ends_of_a_scheduled_weight_are_in_the_range_of_the_weight() -> None:
    with pytest.raises(UserError, match=r"^loss\.kd\.weight"):
        convert({"schedule": "linear", "start": -5, "end": 1}, NonNegative | Schedule, "loss.kd.weight")


def test_settings_left_over_from_another_option_are_told_with_the_way_to_have_none() -> None:
    def term(*, power: float = 1.0) -> None: ...

    section = {"name": "my_losses:term", "temperature": 4.0}
    with pytest.raises(UserError, match=r"loss=my_losses:term brings no settings of another option"):
        bind(term, section, "loss.kd", besides=("name",))
