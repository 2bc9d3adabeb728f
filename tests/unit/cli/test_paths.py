"""Paths among overrides: whatever a name on disk looks like, Hydra reads that name."""

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from kdal_cli.cli.paths import quoted, quoted_paths, takes_path, typed
from kdal_cli.errors import UserError

NAMES = ["фото", "photos(1)", "it's.pth", "R&D", "a#b", "~", "~x", "a b", " a", "a=b", "a,b", "[x]", "{y}", "😀", "-x"]
NAMES += [
    "$HOME",
    "${x}",
    "a,${b}",
    "\\${k}",
    "2024_01",
    "1e3",
    "007",
    "null",
    "true",
    "nan",
    "tr\\",
    "\\'",
    'a"b',
    "'q'",
]
NAMES += [
    "e\u0301",
    "x:y",
    "a\\,b",
    "%x",
    "*",
    "{",
    "!x",
    "x;y",
    "`z`",
    "choice(a,b)",
    "range(3)",
    "a\nb",
    "a\tb",
    "<a>",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    (tmp_path / "home" / "images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "here"


def read(word: str) -> Any:
    """What arrives in the configuration of a word, or of each job of a sweep."""
    [text] = quoted_paths([word])
    override = OverridesParser.create().parse_override(text)
    if not override.is_sweep_override():
        return arrived(override.value())
    jobs = [f"data.root={job}" for job in override.sweep_string_iterator()]
    return [arrived(OverridesParser.create().parse_override(job).value()) for job in jobs]


def arrived(value: Any) -> Any:
    return OmegaConf.to_container(OmegaConf.create({"value": value}), resolve=True)["value"]  # type: ignore[index]


def same(path: str, name: str) -> bool:
    return Path(path).absolute() == Path(name).absolute()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_on_disk_is_read_as_it_is(name: str) -> None:
    Path(name).mkdir()
    for key in ("data.root", "+teacher.checkpoint", "hydra.run.dir"):
        assert same(read(f"{key}={name}"), name)
    assert same(read(f"replay={Path(name).absolute()}"), name)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "tr\\"])  # Hydra's lexer reads past its quote
def test_beside_others_in_a_sweep_and_in_a_list(name: str) -> None:
    names = ["plain", name, "of,two"]
    for folder in names:
        Path(folder).mkdir()
    assert all(map(same, read(f"data.root=plain,{name},of,two"), names))
    assert all(map(same, read(f"teacher.checkpoint=[plain,{name},of,two]"), names))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_in_quotes_is_that_text(text: str) -> None:
    for mark in ("'", '"'):
        assert arrived(OverridesParser.create().parse_override(f"x={quoted(text, mark)}").value()) == text


@pytest.mark.parametrize("name", ["new(1)", "neu&alt", "фото", "a=b", "nowhere/R&D"])
def test_where_a_key_takes_a_path_what_cannot_be_read_is_one_though_it_is_not_there_yet(name: str) -> None:
    assert read(f"data.store={name}") == name
    assert quoted_paths([f"student.name={name}"]) == [f"student.name={name}"]


def test_below_the_home_folder(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    assert read("data.root=~/images") == f"{home}/images"
    assert read("data.store=~/not there(1)") == f"{home}/not there(1)"
    assert read("data.root=~/images,~/images") == [f"{home}/images"] * 2
    assert read("data.root=~") == home
    assert typed("~/images") == Path(home, "images")
    assert typed("~no-such-user/images") == Path("~no-such-user/images")


def test_quotes_that_are_there_already_stay() -> None:
    Path("a b").mkdir()
    for word in ("data.root='a b'", 'data.root="a b"', "data.root='R&D'", "data.root='x','y'"):
        assert read(word) == arrived(read(word))
        assert "\\" not in quoted_paths([word])[0]
    assert typed("'a b'") == Path("a b")


@pytest.mark.parametrize(
    "word",
    ["seed=3", "seed=1,2", "recipe.lr=1e3", "loss=[kd,at]", "sampler=margin", "data.noise=0.5", "replay=new", "~x=3"],
)
def test_what_is_no_path_is_left_alone_whatever_is_on_disk(word: str) -> None:
    for name in ("3", "1", "2", "1e3", "kd", "at", "margin", "0.5", "new"):
        Path(name).touch()
    assert quoted_paths([word]) == [word]


@pytest.mark.parametrize(
    "word", ["replay=null", "data.root=${oc.env:HOME}/x", "data.root=a,b", "data.root=", "a", "=3"]
)
def test_without_such_a_name_on_disk_hydras_own_meaning_stays(word: str) -> None:
    assert quoted_paths([word]) == [word]


def test_a_number_is_a_path_for_a_key_that_takes_one() -> None:
    assert read("data.store=2024_01") == "2024_01"


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.root: this name is not UTF-8"):
        quoted_paths(["data.root=\udcff"])


def test_a_name_that_no_file_can_have_is_none() -> None:
    assert quoted_paths(["data.root=" + "x" * 5000, "data.root=a\0,b"])[0] == "data.root=" + "x" * 5000


def test_keys_that_take_paths() -> None:
    assert all(map(takes_path, ("data.root", "data.path", "data.store", "teacher.store", "checkpoint", "replay")))
    assert not any(map(takes_path, ("seed", "recipe.steps", "loss.kd.weight", "sampler", "teacher.recipe.lr")))
