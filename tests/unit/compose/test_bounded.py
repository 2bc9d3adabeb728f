"""A YAML file is measured before it is built: what is too much costs no more than finding that out."""

import itertools
import os
import tracemalloc
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from kdal_cli.compose.bounded import BYTES, DEPTH, NODES, read_yaml
from kdal_cli.errors import UserError


def read(path: Path, text: str) -> object:
    path.write_bytes(text.encode(errors="surrogateescape"))
    return OmegaConf.to_container(read_yaml(path)[1], resolve=False)


def bomb(letters: str, width: int) -> str:
    """Each line is `width` times the one before."""
    lines = [f"{letters[0]}: &{letters[0]} [{', '.join(['1'] * width)}]"]
    pairs = itertools.pairwise(letters)
    return "\n".join(lines + [f"{b}: &{b} [{', '.join([f'*{a}'] * width)}]" for a, b in pairs])


TOO_MUCH = {
    "aliases": bomb("abcdefghij", 9),
    "aliases of a mapping": "a: &a {x: 1, y: 2}\n" + "".join(f"k{n}: *a\n" for n in range(NODES // 3)),
    "merges": "a: &a {"
    + ", ".join(f"k{n}: 1" for n in range(900))
    + "}\n"
    + "".join(f"m{n}: {{<<: *a}}\n" for n in range(20)),
    "one that holds itself": "a: &a [*a]",
    "one that holds itself below": "a: &a {b: {c: *a}}",
    "an anchor that is set again": "a: &a [1]\nb: &a [*a, *a]\nc: &a [*a]\n",
    "depth": "[" * (DEPTH + 1) + "]" * (DEPTH + 1),
    "depth without an end": "[" * 100_000,
    "depth of blocks": "".join("  " * n + "- \n" for n in range(DEPTH + 2)),
    "nodes": "[" + "1," * NODES + "]",
    "bytes": "a: " + "x" * BYTES,
}

NOT_YAML = {
    "a tab": "\ta: 1",
    "an open quote": "a: '",
    "an alias of nothing": "a: *b",
    "two documents": "--- 1\n--- 2",
    "code": "!!python/object/apply:os.system ['touch MARK']",
    "a tag of nobody": "!evil {a: 1}",
    "no text": "\udc80\udc81",
    "a control letter": "a: \x01",
    "twice the same key": "a: 1\na: 2",
    "a large number": "a: " + "9" * 5000,
    "a key that is a list": "[1, 2]: 3",
}


@pytest.mark.parametrize("text", [*TOO_MUCH.values(), *NOT_YAML.values()], ids=[*TOO_MUCH, *NOT_YAML])
def test_what_cannot_be_a_configuration_is_refused_by_the_name_of_its_file(tmp_path: Path, text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as raised:
            read(tmp_path / "x.yaml", text)
        assert str(tmp_path / "x.yaml") in str(raised.value)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link", ".", "nowhere"):
        with pytest.raises(UserError):
            read_yaml(tmp_path / name)


scalars = st.none() | st.booleans() | st.integers(-999, 999) | st.text("ab ", max_size=5)
trees = st.recursive(
    scalars, lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text("abc", min_size=1), below, max_size=4)
)


@given(tree=st.dictionaries(st.text("xyz", min_size=1), trees, max_size=5), twice=st.booleans())
def test_what_people_write_is_read_as_it_is(tmp_path_factory, tree: dict, twice: bool) -> None:
    """With and without aliases: a part that is used twice is written once."""
    whole = {"a": tree, "b": tree} if twice else tree
    path = tmp_path_factory.mktemp("yaml") / "x.yaml"
    assert read(path, yaml.safe_dump(whole)) == whole
