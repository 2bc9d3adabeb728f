"""The images of a finished run are found again as its network sees them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdal_cli.compose import parts
from kdal_cli.compose.finished import finished
from kdal_cli.errors import UserError
from kdal_cli.images.crops import cropped
from kdal_cli.lab.lab import fingerprint
from kdal_cli.types import Unwatched


@pytest.fixture
def section(tmp_path: Path) -> dict[str, object]:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for kind in ("cat", "dog"):
            (tmp_path / "photos" / split / kind).mkdir(parents=True)
            for n in range(3):
                pixels = rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "photos" / split / kind / f"{n}.png")
    return {"name": "photos", "root": str(tmp_path / "photos"), "size": 16, "split": {"validation": 0}}


def run(tmp_path: Path, section: dict[str, object], crop: float | None) -> Path:
    """The folder of a run whose network sees `crop` of the shorter side."""
    stored = {**section, "store": str(tmp_path / "store")}
    data, _ = parts.data(stored, [], Unwatched())
    sha = fingerprint(data if crop is None else cropped(data, crop))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"config": {"data": section}, "data_sha256": sha}))
    return folder


def test_photographs_of_which_a_network_sees_another_part_are_those_of_its_run(tmp_path, section) -> None:
    folder, store = run(tmp_path, section, 16 / 20), {"store": str(tmp_path / "store")}
    again = finished(folder, store, [], Unwatched(), 16 / 20)
    assert again.data is not None
    assert again.data.test.frame is not None
    assert again.data.test.frame.crop == 16 / 20
    with pytest.raises(UserError, match="these are not the images of the run"):
        finished(folder, store, [], Unwatched())


def test_what_the_configuration_says_comes_first(tmp_path, section) -> None:
    folder, store = run(tmp_path, {**section, "crop": 0.5}, None), {"store": str(tmp_path / "store")}
    assert finished(folder, store, [], Unwatched(), 16 / 20).data is not None
