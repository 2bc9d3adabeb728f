"""`kdal export`: a finished student in formats of others, each file measured as it is shipped."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.export import formats, hub, measure
from kdal_cli.export.whole import Whole
from kdal_cli.metrics.cost import flops, parameters
from kdal_cli.records.card import Card
from kdal_cli.records.files import remove, written
from kdal_cli.types import Watcher

Format = Literal["onnx", "int8", "hub", "torch"]
Row = dict[str, float | str | None]

FILES: Mapping[str, str] = {"onnx": "model.onnx", "int8": "model.int8.onnx", "torch": "model.pt2", "hub": "hub"}
EXAMPLE = 4
"""Images that an exporter sees."""


@dataclass(frozen=True)
class Judges:
    """Images that a file is measured on, uint8, and their labels; empty where the data are not here.

    calibration: (N, c, H, W), what int8 is calibrated on, and pool, (P, c, H, W), of the pool both. validation: what a
    file is accepted or refused by. test: what is reported, and never acted upon.
    """

    calibration: Tensor
    pool: Tensor
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Subject:
    """A network to be shipped: its checkpoint, its card, copies of its body, and what it is measured on."""

    checkpoint: Path
    card: Card
    body: Callable[[], nn.Module]
    judges: Judges

    def whole(self) -> Whole:
        return self.around(self.body())

    def around(self, body: nn.Module) -> Whole:
        """A body with all that goes before it."""
        return Whole(body, self.card.mean, self.card.std, self.card.size).eval()

    @property
    def example(self) -> Tensor:
        """(4, c, H, W) uint8: images of the pool, or noise."""
        sides = self.card.shape
        noise = torch.randint(256, (EXAMPLE, sides.channels, sides.height, sides.width), generator=torch.manual_seed(0))
        return self.judges.pool[:EXAMPLE] if len(self.judges.pool) >= EXAMPLE else noise.byte()


def export(
    subject: Subject, wanted: Sequence[Format], max_drop: float, about: Mapping[str, str], out: Path, watcher: Watcher
) -> list[Row]:
    """Write each format into `out` and measure it; returns a row for the student itself and one for each file.

    A file is put into `out` when it is whole and measured. int8 is refused, and not left there, when it loses more than
    `max_drop` of the validation images, rounded up to a whole image.
    """
    eager = measure.torch_module(subject.whole())
    answers = Answers.of(eager, subject.judges)
    rows = [_row(subject, subject.checkpoint, "checkpoint", eager, answers, answers)]
    with tempfile.TemporaryDirectory() as draft:
        for name in wanted:
            watcher.say(f"writing {FILES[name]}")
            path = Path(draft) / FILES[name]
            try:
                run = _write(name, path, subject, about)
            except hub.NotOfTimm as why:
                rows.append(_refused(name, f"{why}: no timm folder; ONNX and torch.export work"))
                continue
            theirs = Answers.of(run, subject.judges)
            lost = answers.lost_by(theirs) if name == "int8" else 0
            allowed = int(np.ceil(max_drop * max(1, len(answers.judged))))
            if lost > allowed:
                told = f"loses {lost} of {len(answers.judged):,} images, max_drop={max_drop:g} allows {allowed}"
                remove(out / FILES[name])  # one of an earlier export would be taken for this student's
                rows.append(_refused(name, told))
                continue
            row = _row(subject, path, name, run, answers, theirs)
            _ship(path, out / FILES[name])
            rows.append(row | {"file": str(out / FILES[name])})
    return rows


@dataclass(frozen=True)
class Answers:
    """Logits of a file about the judges. judged: (J, C), of validation images, or of the pool where there are none."""

    judged: np.ndarray
    test: np.ndarray
    truth: np.ndarray | None

    @classmethod
    def of(cls, run: measure.Run, judges: Judges) -> "Answers":
        images, labels = judges.validation
        truth = labels.numpy() if len(images) else None
        by = images if len(images) else judges.pool
        judged = measure.logits(run, by.numpy()) if len(by) else np.empty((0, 1), np.float32)
        seen = judges.test[0]
        test = measure.logits(run, seen.numpy()) if len(seen) else np.empty((0, 1), np.float32)
        return cls(judged, test, truth)

    def lost_by(self, other: "Answers") -> int:
        """How many more images the other is wrong about; without labels, about how many it says something else."""
        mine, theirs = self.judged.argmax(1), other.judged.argmax(1)
        if self.truth is None:
            return int((mine != theirs).sum())
        return int((mine == self.truth).sum()) - int((theirs == self.truth).sum())


def _write(name: Format, path: Path, subject: Subject, about: Mapping[str, str]) -> measure.Run:
    """Write a format, and open what was written."""
    threads = torch.get_num_threads()
    if name == "torch":
        formats.write_program(path, subject.whole(), subject.example)
        return measure.torch_program(path)
    if name == "hub":
        whole = subject.whole()
        hub.write_hub(path, whole.body, subject.card, whole.prepared(subject.example))
        return measure.torch_module(subject.around(hub.load(path)))
    if name == "int8" and not len(subject.judges.calibration):
        cure = "run it where the data are, or name where they lie now: data.root=…"
        raise UserError("int8 is calibrated on images of the pool, and they are not here", cure=cure)
    source = path.with_name(FILES["onnx"])
    if not source.exists():
        formats.write_onnx(source, subject.whole(), subject.example, subject.card, about)
    if name == "int8":
        formats.write_int8(path, source, subject.judges.calibration.numpy())
    return measure.onnx_session(path, threads)


def _row(subject: Subject, path: Path, name: str, run: measure.Run, answers: Answers, theirs: Answers) -> Row:
    example = subject.example[:1].numpy()
    one, many = measure.pace(run, example), measure.pace(run, np.repeat(example, measure.LARGE, 0))
    whole, truth = subject.whole(), subject.judges.test[1].numpy()
    tested = len(truth) > 0
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return {
        "file": str(path),
        "format": name,
        "mb": sum(file.stat().st_size for file in files) / 1e6,
        "parameters": parameters(whole),
        "macs": flops(whole, subject.example[:1]) // 2,
        "ms_1": one.median,
        "ms_1_p95": one.p95,
        "ms_16": many.median,
        "ms_16_p95": many.p95,
        "images_per_s": 1000 * measure.LARGE / many.median,
        "test_accuracy": float((theirs.test.argmax(1) == truth).mean()) if tested else None,
        "agreement": float((theirs.test.argmax(1) == answers.test.argmax(1)).mean()) if tested else None,
        "difference": float(np.abs(theirs.test - answers.test).max()) if tested else None,
        "threads": torch.get_num_threads(),
        "instructions": measure.instructions(),
        "refused": None,
    }


def _refused(name: str, why: str) -> Row:
    return {"file": FILES[name], "format": name, "refused": why}


def _ship(draft: Path, path: Path) -> None:
    """Put a file, or a folder of files, where it belongs: all of it, or nothing."""
    if draft.is_dir():
        for file in sorted(draft.iterdir()):
            _ship(file, path / file.name)
        return
    with draft.open("rb") as source, written(path) as target:
        shutil.copyfileobj(source, target, 1 << 20)
