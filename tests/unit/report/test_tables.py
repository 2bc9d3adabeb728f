"""Tables: units, digits, alignment, and names that are not markup."""

import io

import pytest
import torch
from rich.console import Console
from rich.table import Table

from kdal_cli.metrics.classification import per_class
from kdal_cli.report.tables import csv_text, curve_table, fitting, models_table, per_class_table


def drawn(table: Table, *, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=140, color_system=None, _environ={})
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_curve() -> None:
    rows = [
        {"round": 0, "labels": 1000, "test_accuracy": 0.47004, "val_accuracy": None, "test_nll": 1.5, "lr": 1e-5},
        {
            "round": 1,
            "labels": 11_000,
            "test_accuracy": 1.0,
            "val_accuracy": 0.5,
            "test_nll": 12.345,
            "lr": 0.1,
            "s": "x",
        },
    ]
    header, _, first, second = drawn(curve_table(rows)).splitlines()
    assert cells(header) == ["round", "labels", "test accuracy %", "val accuracy %", "test nll", "lr", "s"]
    assert cells(first) == ["0", "1,000", "47.00", "–", "1.5000", "1e-05", "–"]
    assert cells(second) == ["1", "11,000", "100.00", "50.00", "12.35", "0.1000", "x"]


def test_numbers_stand_to_the_right() -> None:
    assert all(column.justify == "right" for column in curve_table([{"round": 0, "labels": 10}]).columns)
    table = models_table([{"model": "student", "accuracy": 0.5}])
    assert [column.justify for column in table.columns] == ["left", "right"]


def test_models_side_by_side() -> None:
    rows = [
        {"model": "teacher", "nll": 0.83214, "accuracy": 0.7942, "f1": 0.7931, "ece": 0.0512, "parameters": 7_433_860}
        | {"flops": 2_173_000_000, "images_per_s": 12_345.6},
        {"model": "student", "accuracy": 0.7633, "f1": 0.7621, "nll": 0.9, "ece": 0.02, "parameters": 1_233_540}
        | {"teacher_agreement": 0.812},
    ]
    lines = [cells(line) for line in drawn(models_table(rows, title="models")).splitlines()]
    assert lines[:2] == [["models"], ["teacher", "student"]]
    assert lines[3:] == [
        ["accuracy %", "79.42", "76.33"],
        ["macro F1 %", "79.31", "76.21"],
        ["NLL nats", "0.8321", "0.9000"],
        ["ECE %", "5.12", "2.00"],
        ["parameters", "7,433,860", "1,233,540"],
        ["FLOPs an image", "2,173,000,000", "–"],
        ["images/s", "12,346", "–"],
        ["teacher agreement %", "–", "81.20"],
    ]


def test_per_class() -> None:
    scores = per_class(torch.tensor([[3, 0, 1], [0, 0, 0], [2, 0, 1000]]))
    lines = [cells(line) for line in drawn(per_class_table(["cat", "dog", "deer"], scores)).splitlines()]
    assert lines[0] == ["class", "precision %", "recall %", "F1 %", "images"]
    assert lines[2] == ["cat", "60.00", "75.00", "66.67", "4"]
    assert lines[3] == ["dog", "0.00", "0.00", "0.00", "0"]
    assert lines[4] == ["deer", "99.90", "99.80", "99.85", "1,002"]
    assert lines[-1] == ["macro average", "53.30", "58.27", "55.51", "1,006"]


def test_as_many_names_as_classes() -> None:
    with pytest.raises(ValueError, match="zip"):
        per_class_table(["cat"], per_class(torch.eye(2).long()))


@pytest.mark.parametrize("terminal", [False, True])
def test_names_from_outside_are_shown_and_not_obeyed(terminal: bool) -> None:
    evil, shown = "[red]x[/red]\x1b[2J\n[/]", "[red]x[/red][2J [/]"
    tables = [
        per_class_table([evil, "b"], per_class(torch.eye(2).long()), title=evil),
        models_table([{"model": evil, evil: 1.0}], title=evil),
        curve_table([{evil: evil}], title=evil),
    ]
    for table, times in zip(tables, (2, 3, 3), strict=True):
        text = drawn(table, terminal=terminal)
        assert text.count(shown) == times
        assert "\x1b[2J" not in text


def test_what_is_not_a_number_and_what_is_not_there() -> None:
    assert cells(drawn(curve_table([{"test_accuracy": float("nan"), "labels": float("nan")}])).splitlines()[2]) == [
        "nan",
        "nan",
    ]
    assert drawn(curve_table([])).strip() == ""


def test_columns_that_do_not_fit_are_left_out_from_the_last_and_figures_stay() -> None:
    rows = [{"run": "a", "first": "x" * 10, "second": "y" * 30, "labels": 100}]
    assert fitting(rows, 80, ["run", "labels"]) == (rows, [])
    fit, left_out = fitting(rows, 40, ["run", "labels"])
    assert (list(fit[0]), left_out) == (["run", "first", "labels"], ["second"])
    assert fitting(rows, 5, ["run", "labels"])[1] == ["first", "second"]


def test_rows_as_csv_have_every_key_of_any_row() -> None:
    assert csv_text([{"a": 1}, {"b": "x,y"}]) == 'a,b\n1,\n,"x,y"\n'
    assert csv_text([]) == ""
