"""Exported files as a table, and as the page that goes with them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from kdal_cli.metrics.confidence import spoken
from kdal_cli.plain import clean, several
from kdal_cli.records.card import Card
from kdal_cli.records.curve import Table as Curve
from kdal_cli.report.tables import plain_table
from kdal_cli.report.text import MISSING, count, percent

Row = Mapping[str, Any]

HEADERS = (
    *("file", "format", "MB", "parameters", "MACs", "ms at 1", "p95", "ms at 16", "p95 ", "images/s"),
    *("test accuracy %", "agreement %", "largest difference"),
)


def export_table(rows: Sequence[Row]) -> Table:
    """One line for each file: what it weighs, how long an image takes, and what it answers."""
    table = plain_table()
    for n, header in enumerate(HEADERS):
        table.add_column(Text(header.strip()), justify="left" if n < 2 else "right")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in cells(row)))
    return table


def cells(row: Row) -> list[str]:
    """A row in words, in the order of `HEADERS`."""
    if row["refused"]:
        return [Path(row["file"]).name, row["format"], *["refused"], *[MISSING] * (len(HEADERS) - 3)]
    times = [f"{row[key]:.2f}" for key in ("ms_1", "ms_1_p95", "ms_16", "ms_16_p95")]
    shares = [MISSING if row[key] is None else percent(row[key]) for key in ("test_accuracy", "agreement")]
    far = MISSING if row["difference"] is None else f"{row['difference']:.1e}"
    sizes = [f"{row['mb']:.2f}", count(row["parameters"]), count(row["macs"])]
    return [Path(row["file"]).name, row["format"], *sizes, *times, count(row["images_per_s"]), *shares, far]


def model_card(card: Card, rows: Sequence[Row], run: Path | None, config: Mapping[str, Any], licence: str) -> str:
    """A page in Markdown for whoever gets the files: what they are, what they learnt from, what they are not."""
    trained, test = card.trained_on, rows[0]
    teacher = (config.get("teacher") or {}).get("model") or {}
    head = f"---\nlicense: {json.dumps(licence)}\npipeline_tag: image-classification\n---\n\n"
    lines = [
        f"# {_plain(_words(card.model))}, {len(card.classes)} classes",
        "",
        f"- Data: {_plain(card.data)}, {trained.get('labels', 0):,} labels bought for training and "
        f"{trained.get('validation_labels', 0):,} for validation{_sellers(config)}",
        f"- Teacher: {_plain(_words(teacher)) or 'none'}",
        f"- Images: {card.shape.channels} × {card.shape.height} × {card.shape.width}, bytes from 0 to 255, "
        f"{card.preparation.resize}, {card.preparation.interpolation}",
        f"- Classes: {', '.join(_plain(name) for name in card.classes)}",
        f"- Calibration: {spoken(card.calibration) if card.calibration else 'none, there were no validation labels'}",
        f"- License: {_plain(licence)}",
        "",
        "| " + " | ".join(header.strip() for header in HEADERS) + " |",
        "|" + "---|" * len(HEADERS),
        *("| " + " | ".join(_plain(cell) for cell in cells(row)) + " |" for row in rows),
        "",
        f"Measured with {several(test['threads'], 'thread')} ({test['instructions']}). "
        "The accuracy is that of the very file.",
        *_curve(run),
        "",
        "## Limits",
        "",
        "It answers one of the classes above, whatever an image shows. Accuracy and probabilities hold for images like "
        "those that it was tested on.",
        *(f"- {row['format']} was refused: {_plain(row['refused'])}" for row in rows if row["refused"]),
    ]
    return head + "\n".join(lines) + "\n"


def _words(model: Mapping[str, Any]) -> str:
    """An architecture in a few words."""
    words = [str(model[key]) for key in ("name", "arch", "depth", "width") if key in model]
    return " ".join([*words, "pruned"] if model.get("pruned") else words)


def _sellers(config: Mapping[str, Any]) -> str:
    name = (config.get("oracle") or {}).get("name")
    return f", from the oracle `{_plain(name)}`" if name else ""


def _curve(run: Path | None) -> list[str]:
    """What accuracy each number of labels gave, where the run bought them in rounds."""
    if run is None or not (run / "curve.csv").exists():
        return []
    rows = Curve(run / "curve.csv").rows
    head = ["", "| labels | test accuracy % |", "|---|---|"]
    return head + [f"| {count(row['labels'])} | {percent(row['test_accuracy'])} |" for row in rows]


def _plain(text: object) -> str:
    """Text from outside that Markdown takes for nothing else."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in clean(text))
