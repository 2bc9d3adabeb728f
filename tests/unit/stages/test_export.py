"""By what an exported file is judged: validation labels, or the student's own answers where there are none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kdal_cli.dataset import Shape
from kdal_cli.export import measure
from kdal_cli.records.card import Card
from kdal_cli.stages import export as stage
from kdal_cli.stages.export import Answers, Judges, Subject, export
from kdal_cli.types import Unwatched

NOTHING = torch.empty(0, 1, 2, 2, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)


def answers(judged: list[int], truth: list[int] | None) -> Answers:
    return Answers(np.eye(3)[judged], np.empty((0, 1)), None if truth is None else np.array(truth))


def test_with_labels_only_what_gets_worse_counts() -> None:
    student, truth = answers([0, 1, 2, 0], [0, 1, 2, 2]), [0, 1, 2, 2]
    assert student.lost_by(answers([0, 1, 0, 0], truth)) == 1
    assert student.lost_by(answers([0, 1, 2, 2], truth)) == -1
    assert student.lost_by(answers([0, 1, 2, 1], truth)) == 0


def test_without_labels_every_other_answer_counts() -> None:
    assert answers([0, 1, 2, 0], None).lost_by(answers([0, 1, 0, 1], None)) == 2


class Flipped(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.flatten(1))


@pytest.mark.parametrize(("max_drop", "refused"), [(0.0, True), (0.5, True), (1.0, False)])
def test_int8_that_loses_more_than_it_may_is_refused_and_an_older_one_goes(
    tmp_path, monkeypatch, max_drop, refused
) -> None:
    pixels = torch.randint(256, (20, 1, 2, 2), dtype=torch.uint8)
    body = Flipped()
    labels = torch.from_numpy(measure.torch_module(body)(pixels.float().numpy()).argmax(1))
    judges = Judges(pixels, pixels, (pixels, labels), NOTHING)
    card = Card("student", {"name": "x"}, Shape(1, 2, 2, 2), ("a", "b"), (0.0,), (1 / 255,), "x", {})

    def wrong(name: str, path: Path, subject: Subject, about: object) -> measure.Run:
        path.write_bytes(b"8 bits")
        right = measure.torch_module(subject.whole())
        return lambda pixels: -right(pixels)

    monkeypatch.setattr(stage, "_write", wrong)
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    (tmp_path / "student").write_bytes(b"weights")
    (tmp_path / "model.int8.onnx").write_bytes(b"of another student")
    subject = Subject(tmp_path / "student", card, lambda: body, judges)
    first, row = export(subject, ["int8"], max_drop, {}, tmp_path, Unwatched())
    assert first["refused"] is None
    assert bool(row["refused"]) is refused
    assert (tmp_path / "model.int8.onnx").exists() is not refused
    if refused:
        assert "loses 20 of 20 images" in str(row["refused"])
