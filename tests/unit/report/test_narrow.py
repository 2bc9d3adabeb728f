"""Tables on a narrow terminal: columns go, the least important first; no figure is ever cut."""

import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from kdal_cli.report.display import Display
from kdal_cli.report.tables import curve_table, models_table

CURVE = curve_table(
    [
        {"round": n, "labels": 20_000 + n, "test_accuracy": 0.98, "test_f1": 0.97, "test_nll": 0.5124, "forgotten": 7}
        for n in range(3)
    ]
)
RUN = "outputs/al-loop/2026-11-28_22-49-58-565497"
RUNS = curve_table([{"run": RUN, "stage": "al-loop", "state": "done", "seed": "0", "labels": 60, "test_accuracy": 0.5}])
MODELS = models_table([{"model": "teacher", "flops": 2_173_000_000}, {"model": "student", "flops": 1_000_000}])


def drawn(table: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, _environ={})
    Display(console).table(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", range(20, 130, 3))
def test_no_figure_is_cut_and_no_line_is_longer_than_the_terminal(width: int) -> None:
    for table, whole in ((CURVE, r"\d|20,00\d|98\.00|97\.00|0\.5124|7"), (MODELS, r"2,173,000,000|1,000,000")):
        lines = drawn(table, width)
        rule = next(number for number, line in enumerate(lines) if "──" in line)
        rows = [line for line in lines[rule + 1 :] if not line.startswith("in a wider terminal")]
        assert all(re.fullmatch(whole, word) for line in rows for word in line.split() if word[0].isdigit())
        assert all(len(line) <= width for line in [*lines[:rule], *rows])


def headers(table: Table, width: int) -> str:
    lines = drawn(table, width)
    return " ".join(" ".join(lines[: next(n for n, line in enumerate(lines) if "──" in line)]).split())


def test_the_least_important_go_first_and_are_named() -> None:
    assert headers(CURVE, 100) == "round labels test accuracy % test f1 % test nll forgotten"
    assert "in a wider terminal" not in "".join(drawn(CURVE, 60))
    assert drawn(CURVE, 45)[-1] == "in a wider terminal also: forgotten"
    assert drawn(CURVE, 24)[-1] == "in a wider terminal also: test f1 %, test nll, forgotten"
    assert drawn(RUNS, 50)[-1] == "in a wider terminal also: stage, seed"
    assert drawn(RUNS, 40)[-1] == "in a wider terminal also: stage, state, seed, labels"


def test_headers_take_several_lines_before_a_column_goes() -> None:
    wide, narrow = drawn(CURVE, 70), drawn(CURVE, 60)
    assert len(narrow) > len(wide)
    assert wide[-1].split() == narrow[-1].split()


def test_a_long_name_is_folded_and_is_all_there() -> None:
    lines = drawn(RUNS, 60)
    start = next(n for n, line in enumerate(lines) if "──" in line)
    assert "".join(line.split()[0] for line in lines[start + 1 : -1] if line.strip()) == RUN
