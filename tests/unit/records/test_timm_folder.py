"""What a folder of timm says of its model, and nonsense that it may say."""

import json
from pathlib import Path

import pytest

from kdal_cli.dataset import Preprocessing
from kdal_cli.errors import UserError
from kdal_cli.records import timm_folder

RULE = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "input_size": [3, 224, 192], "crop_pct": 0.875}


def folder(path: Path, content: object) -> Path:
    (path / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("content", [{"architecture": "net", "pretrained_cfg": RULE}, {"architecture": "net", **RULE}])
def test_architecture_and_preprocessing_are_read(tmp_path: Path, content: object) -> None:
    expected = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.2, 0.2), made_for=(224, 192), crop=0.875)
    assert timm_folder.is_folder(folder(tmp_path, content))
    assert timm_folder.read(tmp_path) == ("net", expected)


def test_a_folder_may_leave_the_preprocessing_open(tmp_path: Path) -> None:
    assert timm_folder.read(folder(tmp_path, {"architecture": "net"})) == ("net", None)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 10_000,
        "[1]",
        {"architecture": 5},
        {"architecture": "net", "pretrained_cfg": 3},
        {"architecture": "net", "mean": [0.5], "std": [0.0]},
        {"architecture": "net", "mean": [0.5], "std": [0.5, 0.5]},
        {"architecture": "net", "mean": ["a"], "std": [1]},
        {"architecture": "net", "mean": [float("nan")], "std": [1]},
        {"architecture": "net", **RULE, "input_size": [3]},
    ],
)
def test_nonsense_is_refused_in_one_line(tmp_path: Path, content: object) -> None:
    with pytest.raises(UserError, match="does not say which model it is"):
        timm_folder.read(folder(tmp_path, content))


def test_grey_images_have_the_mean_over_the_colours() -> None:
    rule = Preprocessing((0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
    grey = rule.over(1)
    assert grey.mean == pytest.approx((0.4,))
    assert grey.std == pytest.approx((0.2,))
    assert rule.over(3) is rule
