"""A small network through every format: each file answers what the network answers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kdal_cli.dataset import Preparation, Shape
from kdal_cli.export import formats, measure
from kdal_cli.export.onnx_file import open_onnx
from kdal_cli.export.whole import Whole
from kdal_cli.images.decode import Reading
from kdal_cli.inference.answering import Answer, Judge, answers
from kdal_cli.records.card import Card
from kdal_cli.types import Calibration

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

SHAPE = Shape(3, 8, 8, 4)
CARD = Card(
    role="student",
    model={"name": "tiny"},
    shape=SHAPE,
    classes=("a", "b", "c", "d"),
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
    data="blobs",
    trained_on={"labels": 0},
    preparation=Preparation(background=(0, 128, 255)),
    calibration=Calibration(2.0, 10, (0.1, 0.1), 0.3, ((0.0, 1.0, 0.5), (0.3, 0.5, 0.9))),
)
STANDALONE = Path(measure.__file__).with_name("standalone.py")


def whole() -> Whole:
    """Weights large enough for the answers to differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 8, 3, stride=2)
        body = nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4))
        nn.init.normal_(body[4].weight)
    return Whole(body, CARD.mean, CARD.std).eval()


def pixels(n: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def onnx_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    formats.write_onnx(path, whole(), torch.from_numpy(pixels(4)), CARD, {"license": "cc0-1.0"})
    return path


def test_onnx_takes_bytes_in_batches_of_any_size_and_says_what_it_is(onnx_path) -> None:
    wanted = measure.logits(measure.torch_module(whole()), pixels())
    found = measure.logits(measure.onnx_session(onnx_path, 1), pixels())
    assert np.abs(found - wanted).max() < 1e-4
    with open_onnx(onnx_path, 1) as file:
        assert file.card == CARD
        assert np.abs(file.classify(pixels(1)) - wanted[:1]).max() < 1e-4


def test_int8_keeps_the_card_and_almost_every_answer(onnx_path) -> None:
    path = onnx_path.with_name("int8.onnx")
    formats.write_int8(path, onnx_path, pixels(64))
    wanted = measure.logits(measure.torch_module(whole()), pixels())
    found = measure.logits(measure.onnx_session(path, 1), pixels())
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.9
    with open_onnx(path, 1) as file:
        assert file.card == CARD


def test_the_program_of_torch_export_answers_the_same(tmp_path) -> None:
    formats.write_program(tmp_path / "model.pt2", whole(), torch.from_numpy(pixels(4)))
    found = measure.logits(measure.torch_program(tmp_path / "model.pt2"), pixels(5))
    assert np.abs(found - measure.logits(measure.torch_module(whole()), pixels(5))).max() < 1e-5


def photos(folder: Path) -> list[Path]:
    """Images of several kinds: larger, transparent, grey, turned by EXIF, a large JPEG."""
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.save(folder / "plain.png")
    noise.convert("L").save(folder / "grey.png")
    clear = noise.convert("RGBA")
    clear.putalpha(Image.fromarray(rng.integers(0, 256, (20, 30), dtype=np.uint8)))
    clear.save(folder / "clear.png")
    noise.save(folder / "turned.jpg", exif=exif)
    noise.resize((400, 300)).save(folder / "large.jpg")
    return sorted(folder.iterdir())


BLOCKED = "import sys; sys.modules['torch'] = sys.modules['kdal_cli'] = None; sys.argv = sys.argv[1:]; "


def test_the_script_beside_it_needs_no_torch_and_sees_what_kdal_sees(onnx_path, tmp_path) -> None:
    files = photos(tmp_path)
    run = BLOCKED + f"exec(compile(open({str(STANDALONE)!r}).read(), 'predict.py', 'exec'))"
    words = ["predict.py", str(onnx_path), *map(str, files)]
    done = subprocess.run([sys.executable, "-c", run, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = [line.split("\t") for line in done.stdout.splitlines()]
    reading, judge = Reading.of(SHAPE, CARD.preparation), Judge.of(CARD.classes, CARD.calibration, 0.3, 4)
    with open_onnx(onnx_path, 1) as file:
        ours = list(answers(files, file.classify, reading, {}, judge))
    for (path, name, probability), answer in zip(told, ours, strict=True):
        assert isinstance(answer, Answer)
        assert (path, name) == (str(answer.path), answer.best[0][0])
        assert float(probability.split()[0]) == pytest.approx(answer.best[0][1], abs=2e-2)


def test_a_pace_is_the_median_and_the_slow_end() -> None:
    now, slow = [0.0], iter(range(1000))

    def run(pixels: np.ndarray) -> np.ndarray:
        now[0] += 0.010 if next(slow) % 20 == 0 else 0.001
        return pixels

    found = measure.pace(run, pixels(1), clock=lambda: now[0])
    assert (found.median, found.p95) == (pytest.approx(1.0), pytest.approx(10.0))
