"""Who differs from whom, and what teachers that label were wrong about: listed, counted and harmless."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracle import Answer
from kdal_cli.report import people
from kdal_cli.study.records import Record

SCRIPT = "<script>alert(1)</script>"
CLASSES = ["cup", SCRIPT, "=1+1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images 5, 6 and 7; ben contradicts anna about 6, and about 5 nobody contradicts anybody."""
    ledger = Ledger.open(tmp_path / "ledger.jsonl")

    def buy(round: int, ids: list[int], labels: list[int], who: str, again: list[int]) -> None:
        answer = Answer(torch.tensor(labels), torch.ones(len(ids)).double(), who)
        asked = torch.tensor(ids)
        ledger.buy(round, asked, torch.zeros(len(ids)), lambda _: answer, again=torch.tensor(again, dtype=torch.int64))

    buy(0, [5, 6, 7], [0, 1, 2], "anna", [])
    buy(1, [5, 6], [0, 2], SCRIPT, [5, 6])
    (tmp_path / "ledger.csv").write_text(ledger.view(CLASSES, [f"{SCRIPT}/{id}.png" for id in range(8)]))
    return tmp_path


def record(folder: Path, **last: float) -> Record:
    return Record(folder, "al-loop", 0, True, {}, {}, "", [{"labels": 5.0, **last}])


def test_annotators_and_what_they_differ_about_are_listed_the_most_contradicted_first(folder: Path) -> None:
    found = people.differences(folder)
    assert [(row["annotator"], row["answers"], row["agreement %"]) for row in found.annotators] == [
        (SCRIPT, 2, "50.00"),
        ("anna", 3, "100.00"),
    ]
    (image,) = found.images
    assert (image["image"], image["holds"]) == (6, SCRIPT)
    assert image["said"] == f"anna: {SCRIPT}; {SCRIPT}: '=1+1"


def test_names_from_outside_are_text_on_the_page(folder: Path) -> None:
    html = str(people.section([record(folder, disputed=1.0, images=3.0)]))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 4
    assert "1 image that people differ about" in html


def test_a_run_in_which_nobody_was_asked_again_has_no_section(folder: Path) -> None:
    assert people.section([record(folder)]) is None


def test_the_error_of_a_teacher_stands_with_its_interval_and_is_unknown_without_an_audit(folder: Path) -> None:
    audited = {"labels_by_teacher": 120.0, "audited": 40.0, "teacher_error": 0.05}
    last = audited | {"teacher_error_low": 0.0061, "teacher_error_high": 0.1692}
    html = str(people.section([record(folder, **last)]))
    assert all(text in html for text in ("120", "5.00", "0.61 to 16.92"))
    nobody = replace(record(folder), rounds=[{**last, "labels": 5.0, "audited": 0.0, "teacher_error": float("nan")}])
    assert "nan" not in str(people.section([nobody]))
