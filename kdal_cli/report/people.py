"""What people said, side by side: how far each agrees with what holds, and the images that they differ about."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.opinions import disputed, standing
from kdal_cli.labels.promise import interval
from kdal_cli.labels.purchase import proposed
from kdal_cli.plain import several
from kdal_cli.records.files import read_bytes
from kdal_cli.report.html import Html, element, join, table
from kdal_cli.report.tables import Row
from kdal_cli.report.text import MISSING, percent
from kdal_cli.study.records import Record

LARGEST = 1 << 28
"""Bytes of `ledger.csv`."""

SHOWN = 50
"""Images that a page lists at most."""


@dataclass(frozen=True)
class Differences:
    """annotators: who agrees least first. images: about which people differ, in the order in which they were bought."""

    annotators: list[Row]
    images: list[Row]


def differences(folder: Path) -> Differences:
    """What the ledger of a run says. Raises UserError for one that was changed."""
    ledger = Ledger.look(folder / "ledger.jsonl")
    ids, labels = ledger.bought()
    holds, said = dict(zip(ids.tolist(), labels.tolist(), strict=True)), ledger.votes()
    classes, paths = _names(folder)

    def name(label: int | None) -> str:
        return MISSING if label is None else classes.get(label, f"class {label}")

    annotators: list[Row] = []
    for who, answers, shared, agree in standing(said, holds):
        low, high = interval(agree, shared) if shared else (0.0, 1.0)
        share, between = percent(agree / shared) if shared else MISSING, f"{percent(low)} to {percent(high)}"
        told = {"annotator": who, "answers": answers, "of images with several": shared, "agreement %": share}
        annotators.append(told | {"95 % interval": between if shared else MISSING})
    images: list[Row] = [
        {
            "image": id,
            "path": paths.get(id, ""),
            "holds": name(holds.get(id)),
            "said": "; ".join(f"{who}: {name(label)}" for who, label in said[id]),
        }
        for id in disputed(said)
    ]
    return Differences(annotators, images)


def section(records: Sequence[Record]) -> Html | None:
    """What teachers that label were wrong about, what people differ about and what they would have named otherwise."""
    found = (_teachers(records), *map(_people, records), _something_else(records))
    parts = [part for part in found if part is not None]
    return join(*parts) if parts else None


def _teachers(records: Sequence[Record]) -> Html | None:
    """Labels of people and teachers, and how often audits found the teacher wrong, a line for each run."""
    rows = []
    for record in records:
        last = record.rounds[-1] if record.rounds else {}
        if "teacher_error" not in last:
            continue
        wrong, audited = last["teacher_error"], int(last["audited"])
        low, high = last["teacher_error_low"], last["teacher_error_high"]
        found = [percent(wrong), f"{percent(low)} to {percent(high)}"] if audited else [MISSING, MISSING]
        counts = [f"{int(last[key]):,}" for key in ("labels", "labels_by_teacher", "audited")]
        rows.append([element("code", record.folder.name), *counts, *found])
    heads = ["run", "labels of people", "labels of the teacher", "audited", "teacher wrong, %", "95 % interval"]
    return (
        table("Labels of a teacher, and how often people who audited them found it wrong", heads, rows)
        if rows
        else None
    )


def _something_else(records: Sequence[Record]) -> Html | None:
    """Names that people typed of classes that there are not, and of how many images, run by run."""
    rows: list[list[Html | str]] = []
    for record in records:
        if any(record.settings.get(key) for key in ("oracle.new_classes", "oracle.person.new_classes")):
            said = proposed(Ledger.look(record.folder / "ledger.jsonl").purchases)
            name = element("code", record.folder.name)
            rows += [[name, typed, f"{count:,}"] for typed, count in Counter(said.values()).most_common(SHOWN)]
    heads = ["run", "class that is missing", "images"]
    return table("Images that people said to be something else", heads, rows) if rows else None


def _people(record: Record) -> Html | None:
    """Annotators and differences of a run in which images were asked about more than once."""
    if not record.rounds or "disputed" not in record.rounds[-1]:
        return None
    found = differences(record.folder)
    heads = list(found.annotators[0]) if found.annotators else []
    who = table(
        f"Annotators of {record.folder.name}", heads, [list(map(str, row.values())) for row in found.annotators]
    )
    if not found.images:
        return join(who, element("p", "People do not differ about any image.", class_="quiet"))
    shown = [list(map(str, row.values())) for row in found.images[:SHOWN]]
    more = f", the first {SHOWN}" if len(found.images) > SHOWN else ""
    told = f"{several(len(found.images), 'image')} that people differ about{more}"
    return join(who, table(told, list(found.images[0]), shown, kind="words"))


def _names(folder: Path) -> tuple[dict[int, str], dict[int, str]]:
    """({class: its name}, {id: path}) as `ledger.csv` has them; none where the file is not there."""
    path = folder / "ledger.csv"
    text = read_bytes(path, LARGEST).decode(errors="replace") if path.is_file() else ""
    rows = list(csv.DictReader(io.StringIO(text)))
    classes = {int(row["label"]): row["class"] for row in rows if str(row.get("label", "")).isdecimal()}
    return classes, {
        int(row["id"]): row["path"] for row in rows if str(row.get("id", "")).isdecimal() and row.get("path")
    }
