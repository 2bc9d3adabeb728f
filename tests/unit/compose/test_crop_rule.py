"""Photographs are cropped as the weights expect that a student starts from, and as its checkpoint has it."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from kdal_cli.compose.bench import Bench
from kdal_cli.dataset import Frame, ImageData, ImageSet, Labels, Preparation, Shape
from kdal_cli.images.crops import in_pixels
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.records import checkpoint
from kdal_cli.records.card import Card
from kdal_cli.records.run import Request, Run
from kdal_cli.report.display import Display

SHAPE = Shape(3, 16, 16, 2)
STUDENT = {"name": "small_cnn", "width": 4}


@pytest.fixture
def photos() -> ImageData:
    labels, frame = Labels.complete(torch.tensor([0, 1])), Frame(torch.tensor([[30, 20]] * 2), 16, 16 / 18)
    part = ImageSet(torch.zeros(2, 3, 24, 24, dtype=torch.uint8), labels, frame=frame)
    how = Preparation("shorter", 18)
    return ImageData("photos", part, part, ("cat", "dog"), (0.5,) * 3, (0.5,) * 3, preparation=how)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder as timm saves one, of a network that was evaluated on 80 % of the shorter side."""
    rule = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 16, 16], "crop_pct": 0.8}
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "config.json").write_text(json.dumps({"architecture": "small_cnn", "pretrained_cfg": rule}))
    save_file(small_cnn(SHAPE, width=4).state_dict(), tmp_path / "w" / "model.safetensors")
    return tmp_path / "w"


def seen(photos: ImageData, stage: str = "al-loop", /, **values: object) -> tuple[float, float, int]:
    """(crop of the training images, of the test images, side that files are resized to)."""
    values = {"data": {}, "student": STUDENT, "trust": [], "download": False} | values
    display = Display(Console(file=io.StringIO()))
    data = Bench(values, Run(Path()), display, Request(stage, ""))._cropped(photos)
    assert data.train.frame is not None
    assert data.test.frame is not None
    return data.train.frame.crop, data.test.frame.crop, data.preparation.side


def test_what_the_students_weights_expect_is_what_is_seen(photos: ImageData, weights: Path) -> None:
    student = STUDENT | {"weights": str(weights)}
    assert seen(photos, student=student) == (0.8, 0.8, 20)
    assert seen(photos, student=student, data={"crop": 16 / 18}) == (16 / 18, 16 / 18, 18)
    assert seen(photos) == (16 / 18, 16 / 18, 18)


@pytest.mark.parametrize("side", [16, 18, 21, 29])
def test_a_checkpoint_is_evaluated_as_it_was_trained(photos: ImageData, tmp_path: Path, side: int) -> None:
    """Its preparation says in whole pixels what it sees, and a student that starts from it sees that too."""
    how = Preparation("shorter", side)
    card = Card("student", STUDENT, SHAPE, ("cat", "dog"), (0.5,) * 3, (0.5,) * 3, "photos", {}, preparation=how)
    checkpoint.write(tmp_path / "student.safetensors", small_cnn(SHAPE, width=4), card)
    path = str(tmp_path / "student.safetensors")
    assert seen(photos, "evaluate", student=None, checkpoint=path) == (16 / side, 16 / side, side)
    assert seen(photos, student=STUDENT | {"weights": path}) == (16 / side, 16 / side, side)


@pytest.mark.parametrize(("size", "crop", "side"), [(224, 0.875, 256), (224, 0.9, 248), (224, 0.95, 235), (8, 1.0, 8)])
def test_shares_are_in_the_whole_pixels_of_timms_evaluation(size: int, crop: float, side: int) -> None:
    assert in_pixels(size, crop) == size / side
