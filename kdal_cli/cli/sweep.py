"""What a sweep ends with: one line a job, on the screen and in `summary.csv` of the sweep's folder."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from kdal_cli.cli.hydra_app import told
from kdal_cli.files import write_bytes
from kdal_cli.report.display import Display
from kdal_cli.report.tables import curve_table

SHOWN = ("labels", "test_accuracy", "test_f1", "teacher.accuracy", "student.accuracy", "val_accuracy", "accuracy")
"""Figures of a result that the table on the screen has room for, beside what differs between the jobs."""


class Sweep(Callback):
    """Remembers where the sweep under way puts its jobs; Hydra makes one when it starts."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        Sweep.folder = Path(config.hydra.sweep.dir)


def summarise() -> None:
    """Write and show the summary of the sweep that has just ended, whatever became of its jobs."""
    folder, Sweep.folder = Sweep.folder, None
    rows = jobs(folder) if folder is not None else []
    if folder is None or not rows:
        return
    keys = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(folder / "summary.csv", text.getvalue().encode())
    with Display() as display:
        said = [key for key in keys if any(isinstance(row.get(key), str) for row in rows)]
        differ = [key for key in said if key == "state" or len({row.get(key) for row in rows}) > 1]
        shown = ["job", *differ, *(key for key in SHOWN if key in keys)]
        display.table(curve_table([{key: row[key] for key in shown if key in row} for row in rows]))
        display.say(f"summary in {folder / 'summary.csv'}")


def jobs(folder: Path) -> list[dict[str, Any]]:
    """One row a job, in order: its number, its overrides, whether it is done, and the figures of its result."""
    rows = []
    for about in folder.rglob(".hydra/hydra.yaml"):
        run, hydra = about.parent.parent, OmegaConf.load(about).hydra
        overrides = dict(str(text).split("=", 1) for text in told(hydra) if "=" in str(text))
        result = run / "result.json"
        figures = json.loads(result.read_text()) if result.exists() else {}
        state = "done" if result.exists() else "not done"
        rows.append({"job": int(hydra.job.num), **overrides, "state": state, **_flat(figures)})
    return sorted(rows, key=lambda row: row["job"])


def _flat(figures: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in figures.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return flat
