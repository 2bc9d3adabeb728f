"""Answers about files: bounded, in order, whatever the files are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdal_cli.dataset import Preparation, Shape
from kdal_cli.errors import MachineError, UserError
from kdal_cli.images.decode import Reading
from kdal_cli.inference.answering import MOST, Answer, Broken, Judge, answers

SHAPE = Shape(1, 4, 4, 3)
READING = Reading.of(SHAPE, Preparation())


def brightness(pixels: np.ndarray) -> np.ndarray:
    """Logits that say how bright the images are: class 0 is dark, class 2 is bright."""
    mean = pixels.reshape(len(pixels), -1).mean(1, keepdims=True) / 255
    return np.concatenate([4 - 8 * mean, 0 * mean, 8 * mean - 4], 1).astype(np.float32)


def picture(path: Path, level: int) -> Path:
    Image.new("L", (9, 7), level).save(path)
    return path


def looked(paths, judge=None, classify=brightness) -> list[Answer | Broken]:
    judge = judge or Judge(("dark", "grey", "bright"))
    return list(answers(paths, classify, READING, {}, judge))


def test_answers_come_in_order_with_broken_files_between_them(tmp_path) -> None:
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    paths = [
        picture(tmp_path / "a.png", 0),
        tmp_path / "x.png",
        tmp_path / "gone.png",
        picture(tmp_path / "b.png", 255),
    ]
    dark, broken, gone, bright = looked(paths)
    assert isinstance(dark, Answer)
    assert isinstance(bright, Answer)
    assert (dark.best[0][0], bright.best[0][0]) == ("dark", "bright")
    assert isinstance(broken, Broken)
    assert isinstance(gone, Broken)
    assert "No such file" in gone.why


def test_probabilities_entropy_and_the_threshold_are_those_of_the_temperature(tmp_path) -> None:
    path = picture(tmp_path / "a.png", 0)
    (answer,) = looked([path], Judge(("dark", "grey", "bright"), temperature=2.0, threshold=0.9))
    assert isinstance(answer, Answer)
    probs = torch.tensor([2.0, 0, -2.0], dtype=torch.float64).softmax(0)
    assert [p for _, p in answer.best] == pytest.approx(probs.tolist())
    assert answer.entropy == pytest.approx(float(-(probs * probs.log()).sum()))
    assert answer.unsure
    assert answer.unsure == (answer.best[0][1] < 0.9)


def test_files_are_taken_a_batch_at_a_time(tmp_path) -> None:
    path, taken, seen = picture(tmp_path / "a.png", 0), [], []

    def endless():
        while True:
            taken.append(path)
            yield path

    def classify(pixels: np.ndarray) -> np.ndarray:
        seen.append(len(pixels))
        return brightness(pixels)

    found = answers(endless(), classify, READING, {}, Judge(("dark", "grey", "bright")))
    next(found)
    found.close()
    assert seen == [MOST]
    assert len(taken) == 2 * MOST


def test_links_and_folders_are_named(tmp_path) -> None:
    (tmp_path / "link.png").symlink_to(picture(tmp_path / "a.png", 0))
    (tmp_path / "folder.png").mkdir()
    link, folder, odd = looked([tmp_path / "link.png", tmp_path / "folder.png", Path("a\0b")])
    assert isinstance(link, Broken)
    assert isinstance(folder, Broken)
    assert isinstance(odd, Broken)
    assert (link.why, folder.why) == ("a link", "not a regular file")


def test_a_network_that_has_diverged_names_the_file(tmp_path) -> None:
    with pytest.raises(MachineError, match=r"a\.png"):
        looked([picture(tmp_path / "a.png", 0)], classify=lambda pixels: brightness(pixels) * np.nan)


def test_images_that_are_no_squares_are_refused() -> None:
    with pytest.raises(UserError, match="1×4×5"):
        Reading.of(Shape(1, 4, 5, 3), Preparation())


def test_the_centre_is_cut_out_where_the_shorter_side_rules(tmp_path) -> None:
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    reading = Reading.of(SHAPE, Preparation(resize="shorter"))
    (answer,) = answers([tmp_path / "wide.png"], brightness, reading, {}, Judge(("dark", "grey", "bright")))
    (whole,) = looked([tmp_path / "wide.png"])
    assert isinstance(answer, Answer)
    assert isinstance(whole, Answer)
    assert (answer.best[0][0], whole.best[0][0]) == ("bright", "dark")


@pytest.mark.parametrize(("least", "among"), [(0.01, ("dark", "grey")), (0.5, ("dark",)), (0.999, ("dark",))])
def test_a_set_has_the_classes_of_its_least_probability_at_no_temperature_and_one_at_least(
    tmp_path, least, among
) -> None:
    path = picture(tmp_path / "a.png", 0)
    (answer,) = looked([path], Judge(("dark", "grey", "bright"), temperature=9.0, least=least))
    assert isinstance(answer, Answer)
    assert answer.among == among
