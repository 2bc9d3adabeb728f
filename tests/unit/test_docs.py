"""docs/losses.md and docs/samplers.md are what docs/generate.py writes, of everything that there is."""

import csv
import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def named(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml") if not path.name.startswith("_"))


LOSSES, SAMPLERS = named("loss"), named("sampler")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """{name: what the generator writes}"""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        return {name: importlib.import_module(f"{name}_page").page() for name in ("losses", "samplers")}


@pytest.fixture
def page(pages: dict[str, str]) -> str:
    return pages["losses"]


@pytest.fixture
def docstrings(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("docstrings")


@pytest.mark.parametrize("name", ["losses", "samplers"])
def test_a_page_is_what_the_generator_writes(pages: dict[str, str], name: str) -> None:
    assert (ROOT / "docs" / f"{name}.md").read_text() == pages[name], f"docs/{name}.md is old: make docs"


@pytest.mark.parametrize(("name", "known", "cells"), [("losses", LOSSES, 7), ("samplers", SAMPLERS, 6)])
def test_everything_has_a_row_and_a_section(pages: dict[str, str], name: str, known: list[str], cells: int) -> None:
    rows = re.findall(r"^\| \[(\w+)\].*$", pages[name], re.MULTILINE)
    assert rows == known
    assert re.findall(r"^## (\w+)$", pages[name], re.MULTILINE) == known
    for line in pages[name].splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) == cells + 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_says_what_it_costs_when_it_helps_and_when_it_hurts(pages: dict[str, str], name: str) -> None:
    section = pages["samplers"].split(f"\n## {name}\n")[1].split("\n## ")[0]
    for words in ("Costs|memory", "Helps", "Hurts"):
        assert re.search(words, section)


@pytest.mark.parametrize(
    ("sampler", "looks_at"),
    [
        ("random", "nothing"),
        ("margin", "logits"),
        ("badge", "logits, features"),
        ("bald", "draws"),
        ("coreset", "features, labelled images, a space"),
    ],
)
def test_what_a_sampler_looks_at_is_what_it_reads(pages: dict[str, str], sampler: str, looks_at: str) -> None:
    (row,) = re.findall(rf"^\| \[{sampler}\].*$", pages["samplers"], re.MULTILINE)
    assert row.split(" | ")[2] == looks_at


def test_every_loss_has_been_timed_and_nothing_else() -> None:
    """`make bench` writes the table anew when a loss comes, goes or changes its name."""
    _, *lines = (ROOT / "benchmarks" / "results" / "losses.csv").read_text().splitlines()
    assert sorted({row["loss"].removesuffix(":first") for row in csv.DictReader(lines)}) == LOSSES


@pytest.mark.parametrize(
    ("loss", "needs"),
    [
        ("none", "labels; no teacher"),
        ("kd", "logits"),
        ("rkd", "features"),
        ("at", "maps"),
        ("fitnet_two_stage", "logits, maps"),
        ("adversarial", "the student's answers to other pixels; labels"),
        ("gradient_norm", "the student's answers to other pixels; labels; no teacher"),
    ],
)
def test_what_a_loss_needs_is_what_its_terms_read(page: str, loss: str, needs: str) -> None:
    (row,) = re.findall(rf"^\| \[{loss}\].*$", page, re.MULTILINE)
    assert row.split(" | ")[2] == needs


def test_markdown_shows_the_text_of_a_docstring_as_it_is(docstrings: ModuleType) -> None:
    assert docstrings.linked("|δ| ≤ ε, Σ_{i≠j} C_ij · a*b, `x_*|y`") == r"\|δ\| ≤ ε, Σ\_{i≠j} C_ij · a\*b, `x_*|y`"
    assert docstrings.linked("arXiv:1503.02531.") == "[arXiv:1503.02531](https://arxiv.org/abs/1503.02531)."
