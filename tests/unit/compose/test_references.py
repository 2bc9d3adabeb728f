"""A configuration names its values and calls nothing; what references stand for is counted before they are followed."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from kdal_cli.compose.references import CHAIN, LETTERS, refuse_calls
from kdal_cli.errors import UserError

CALLS = ["${oc.env:HOME}", "x${oc.env:HOME}y", "${ oc.env : HOME}", "${oc.env:HOME,x}", "${oc.decode:1}", "${now:%Y}"]
CALLS += [
    "${hydra:runtime.cwd}",
    "${a${b}}",
    "${${a}}",
    "${a.${b}}",
    "${",
    "${}",
    "${a",
    "${a b}",
    "${:a}",
    "${oc.env:${a}}",
]
CALLS += ["\\${oc.env:HOME}", "${a}${oc.env:HOME}", "${a}{", "$${oc.env:HOME}", "${a['b']}", "${a\n}${b:c}"]


@pytest.mark.parametrize("text", CALLS)
@pytest.mark.parametrize("place", [lambda t: {"x": t}, lambda t: {"x": [{"y": t}]}, lambda t: {t: 1}])
def test_a_text_that_is_more_than_a_reference_is_refused(text: str, place) -> None:
    if text == "${a}{":
        refuse_calls(place(text))
        return
    with pytest.raises(UserError, match="cannot call code"):
        refuse_calls(place(text))


@pytest.mark.parametrize(
    "text",
    ["${a}", "${a.b}", "${.b}", "${..a}", "x ${a} y ${c}", "${d[0]}", "${d.1}", "${ a }", "${nope}", "$a", "{a}"],
)
def test_a_reference_is_one(text: str) -> None:
    refuse_calls({"a": {"b": 1}, "c": 2, "d": [1, 2], "x": text, "z": {"b": 3, "y": text}})


@pytest.mark.parametrize("where", [{"_target_": "x"}, {"a": {"_target_": None}}, {"a": [[{"_target_": {}}]]}])
def test_no_code_is_named(where: dict) -> None:
    with pytest.raises(UserError, match="_target_"):
        refuse_calls(where)


@pytest.mark.parametrize(
    "values", [{1: 2}, {"a": {None: 1}}, {"a": [{True: 1}]}, {"a": "\0"}, {"\0": 1}, {"a": "\ud800"}]
)
def test_keys_and_texts_are_texts(values: dict) -> None:
    with pytest.raises(UserError, match="text"):
        refuse_calls(values)


def doubling(lines: int) -> dict:
    return {"a0": "x"} | {f"a{n + 1}": f"${{a{n}}}${{a{n}}}" for n in range(lines)}


BOMBS = {
    "doubled text": doubling(15) | {"w": "y" * 20_000} | {"v": "${w}" * 11},
    "doubled text, deep": doubling(40),
    "doubled sections": {"s0": {"x": "y" * 100}}
    | {f"s{n + 1}": {"l": f"${{s{n}}}", "r": f"${{s{n}}}"} for n in range(12)},
    "a chain": {"a0": 1} | {f"a{n + 1}": f"${{a{n}}}" for n in range(CHAIN + 1)},
    "a chain from its end": {f"a{n}": f"${{a{n + 1}}}" for n in range(5_000)},
    "a circle": {"a": "${b}", "b": "${a}"},
    "a circle through a section": {"a": {"b": "${a}"}},
    "itself": {"a": "${a}"},
    "itself below": {"a": "${a.b}"},
    "through references": {f"a{n}": f"${{a{n + 1}.x}}" for n in range(50)},
    "by dots": {"a": {"b": "${..a}"}},
    "letters": {"a": "x" * (LETTERS + 1)},
}


@pytest.mark.parametrize("values", BOMBS.values(), ids=BOMBS)
def test_what_would_be_too_much_is_known_before(values: dict) -> None:
    began = time.process_time()
    with pytest.raises(UserError):
        refuse_calls(values)
    assert time.process_time() - began < 1


names = st.sampled_from("abcde")
texts = (
    st.text("xy", max_size=3)
    | names.map("${{{}}}".format)
    | st.lists(names, max_size=3).map(lambda n: "-".join(f"${{{k}}}" for k in n))
)


@given(st.dictionaries(names, texts | st.dictionaries(names, texts, max_size=2), min_size=1))
def test_what_is_accepted_can_be_resolved_or_names_nothing(values: dict) -> None:
    """And never to more letters than were counted."""
    try:
        refuse_calls(values)
    except UserError:
        return
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    except RecursionError:
        raise AssertionError(values) from None
    except Exception:  # a reference to nothing, or of a section within a text
        return
    assert len(str(resolved)) < LETTERS
