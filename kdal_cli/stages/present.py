"""What a stage shows and saves when it is done: tables on the screen, files and pictures in the run folder."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.teacher import Teacher
from kdal_cli.metrics import confidence
from kdal_cli.metrics.classification import per_class
from kdal_cli.network import Network
from kdal_cli.plain import several
from kdal_cli.records import checkpoint
from kdal_cli.records.card import Card
from kdal_cli.records.curve import Row, Table
from kdal_cli.records.files import folder_below, shown, write_bytes
from kdal_cli.report import plots, tables
from kdal_cli.report.curve_plot import curve_png
from kdal_cli.report.reject_plot import reject_png
from kdal_cli.report.text import count
from kdal_cli.stages.distill import Entry
from kdal_cli.stages.evaluate import Evaluation, evaluate
from kdal_cli.study.baselines import TEACHER, baselines, spoken, verdict


def headline(lab: Lab, stage: str, lines: Sequence[str]) -> None:
    """The plan: what is about to be done, with what, and what it will cost. A teacher may still have to be trained."""
    data, engine = lab.data, lab.engine.describe()
    sizes = f"{len(lab.pool):,} in the pool, {len(lab.validation):,} for validation, {len(data.test):,} to test"
    on_cpu = f", {several(int(engine['threads']), 'thread')}" if engine["device"] == "cpu" else ""
    about = [f"data {data.name}: {sizes}", *lines, f"on {engine['name']}{on_cpu}"]
    lab.display.stage(f"kdal {stage}", about)
    for line in about:
        lab.log.say(line)


def begin(lab: Lab, lines: Sequence[str]) -> None:
    """What is known when everything is there; all of it was checked, so this is where a tracker begins."""
    lab.tracking.start()
    for line in lines:
        lab.watcher.say(line)


def curve(lab: Lab, curve: Table, teacher: Teacher | None, plan: str) -> dict[str, Any]:
    """The curve of an active-learning run as a table and a picture; the last round is the result."""
    columns = (
        "round",
        "labels",
        "labels_by_teacher",
        "teacher_error",
        "test_accuracy",
        "teacher_test_accuracy",
        "test_f1",
        "test_nll",
        "test_ece",
    )
    columns = (*columns, "val_accuracy", "forgotten")
    rows = [{key: row[key] for key in columns if key in row} for row in curve.rows]
    lab.display.table(tables.curve_table(rows))
    taught = [row[TEACHER] for row in rows if TEACHER in row]
    picture = curve_png(
        [int(labels) for labels in curve.column("labels")],
        curve.column("test_accuracy"),
        teacher=teacher.metrics.get("accuracy") if teacher is not None else taught or None,
        baselines={spoken(column): curve.column(column) for column in baselines(curve.rows[-1])},
        title=f"{lab.data.name}: accuracy against labels",
        subtitle=plan,
    )
    for sentence in verdict(curve.rows):
        lab.watcher.say(sentence)
    lab.display.say(f"curve in {shown(lab.run.write('curve.png', picture))}")
    _calibrated(lab)
    lab.watcher.say(learnt(curve.rows))
    last = dict(curve.rows[-1])
    return last if not taught else last | {"teacher_accuracy": taught[-1]}


def learnt(rows: Sequence[Row]) -> str:
    """What a run of active learning has shown, in one sentence."""
    first, last = rows[0], rows[-1]
    told = f"with {count(last['labels'])} labels the student reaches {last['test_accuracy']:.2%} test accuracy"
    if len(rows) > 1:
        gain = 100 * (last["test_accuracy"] - first["test_accuracy"])
        told += f", {gain:+.2f} points over its first {count(first['labels'])} labels"
    if "teacher_test_accuracy" in last:
        shared = last["labels_with_teacher"] == last["labels"]
        read = "the same labels" if shared else f"{count(last['teacher_labels'])} labels"
        told += f"; its teacher, trained on {read}, reaches {last['teacher_test_accuracy']:.2%}"
    return f"in short: {told}"


def models(lab: Lab, entries: Sequence[Entry]) -> dict[str, Any]:
    """Teacher, student and student alone, side by side."""
    rows = [{"model": entry.name, **entry.figures} for entry in entries]
    lab.display.table(tables.models_table(rows))
    result: dict[str, Any] = {entry.name.replace(" ", "_"): entry.figures for entry in entries}
    student = next(entry.network for entry in entries if entry.name == "student")
    _calibrated(lab)
    return result | _validation(lab, student)


def pretrained(lab: Lab, figures: dict[str, float]) -> dict[str, Any]:
    """What features are worth, before and after."""
    lab.display.figures(figures)
    if "knn_accuracy" in figures:
        before, after = (f"{figures[key]:.2%}" for key in ("knn_accuracy_before", "knn_accuracy"))
        told = f"neighbours in its space agree on {after} of the validation images, {before} before"
        lab.watcher.say(f"in short: {told}; a linear probe is right on {figures['probe_accuracy']:.2%}")
        return {**figures, "val_accuracy": figures["knn_accuracy"]}
    return dict(figures)


def teacher(lab: Lab, network: Network, card: Card) -> dict[str, Any]:
    """A new teacher: its figures, class by class."""
    measured = evaluate(lab, network, None, "test")
    return card.metrics | evaluation(lab, measured) | _validation(lab, network)


def evaluation(lab: Lab, measured: Evaluation) -> dict[str, Any]:
    """All metrics, the classes one by one, a confusion matrix and a reliability diagram."""
    scores = per_class(measured.confusion)
    columns = (scores.precision, scores.recall, scores.f1, scores.support)
    lab.display.table(tables.per_class_table(lab.data.classes, scores))
    lab.display.figures(measured.metrics)
    lab.run.write("confusion.png", plots.confusion_png(measured.confusion, lab.data.classes))
    lab.run.write("reliability.png", plots.reliability_png(*measured.reliability))
    lab.run.write("per_class.csv", _per_class_csv(lab.data.classes, columns))
    return dict(measured.metrics)


def answers(lab: Lab, measured: Evaluation, path: Path) -> None:
    """A file with one line an image."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(measured.lines(lab.data.classes))
    try:
        folder_below(path.absolute().parent)
        write_bytes(path.absolute(), text.getvalue().encode())
    except OSError as error:
        raise UserError(f"csv={path}: {error.strerror}", cure="a file in a folder that can be written to") from None
    lab.display.say(f"answers in {shown(path)}")


def _per_class_csv(classes: Sequence[str], columns: Sequence[Tensor]) -> str:
    rows = zip(classes, *(column.tolist() for column in columns), strict=True)
    lines = ["class,precision,recall,f1,support", *(f'"{n}",{p:.6f},{r:.6f},{f:.6f},{s}' for n, p, r, f, s in rows)]
    return "\n".join(lines) + "\n"


def _calibrated(lab: Lab) -> None:
    """How far the student's probabilities are to be believed, as its checkpoint says, in a line and a picture."""
    card = checkpoint.read(lab.run.folder).card
    if card is None or card.calibration is None:
        return
    lab.watcher.say(f"calibrated: {confidence.spoken(card.calibration)}")
    lab.run.write("reject.png", reject_png(card.calibration))


def _validation(lab: Lab, network: Network) -> dict[str, float]:
    """The figure that a search may use: accuracy on validation labels, where there are any."""
    validate = lab.accuracy(*lab.validated)
    return {} if validate is None else {"val_accuracy": validate(network)}
