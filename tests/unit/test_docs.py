"""docs/losses.md is what docs/generate.py writes, of every loss that there is."""

import csv
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LOSSES = sorted(path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml") if not path.name.startswith("_"))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(generator: ModuleType) -> str:
    return generator.page()


def test_the_page_of_losses_is_what_the_generator_writes(page: str) -> None:
    assert (ROOT / "docs" / "losses.md").read_text() == page, "docs/losses.md is old: make docs"


def test_every_loss_has_a_row_of_five_cells_and_a_section(page: str) -> None:
    rows = re.findall(r"^\| \[(\w+)\].*$", page, re.MULTILINE)
    assert rows == LOSSES
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == LOSSES
    for line in page.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) == 6


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


def test_markdown_shows_the_text_of_a_docstring_as_it_is(generator: ModuleType) -> None:
    assert generator.linked("|δ| ≤ ε, Σ_{i≠j} C_ij · a*b, `x_*|y`") == r"\|δ\| ≤ ε, Σ\_{i≠j} C_ij · a\*b, `x_*|y`"
    assert generator.linked("arXiv:1503.02531.") == "[arXiv:1503.02531](https://arxiv.org/abs/1503.02531)."
