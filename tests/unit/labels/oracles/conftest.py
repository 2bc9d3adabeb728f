"""A desk for people in a test: three classes, images of one colour, an empty folder."""

from pathlib import Path

import pytest
import torch

from kdal_cli.images.shown import shown
from kdal_cli.labels.desk import Desk
from kdal_cli.records.files import hold


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def desk(tmp_path: Path, said: list[str]) -> Desk:
    hold(tmp_path)
    pixels = (torch.arange(20) * 10).to(torch.uint8).reshape(20, 1, 1, 1).expand(20, 1, 4, 6)
    classes, paths = ("dress", "hat", "<b>shoe</b>"), tuple(f"photos/{id}.jpg" for id in range(20))
    return Desk(tmp_path / "asking", classes, paths, lambda id: shown(pixels[id]), lambda *_: b"sheet", said.append)
