"""A bench in a folder of its own, for runs of a second."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from kdal_cli.commands._lab import Blueprint, Lab
from kdal_cli.data._augment import Augment, Resident
from kdal_cli.data._split import Ids
from kdal_cli.engine import Engine
from kdal_cli.models.mlp import mlp
from kdal_cli.report.display import Display
from kdal_cli.run import Run
from kdal_cli.streams import Streams
from kdal_cli.tracking import Tracking
from kdal_cli.types import ImageData

Bench = Callable[..., Lab]


@pytest.fixture
def bench(tmp_path: Path, images: ImageData, resident: Resident, engine: Engine) -> Bench:
    """`bench("name")`: a new lab with its run in that folder, 80 images in the pool and 16 to validate."""

    def make(name: str = "run", *, seed: int = 0, pool: int = 80) -> Lab:
        (tmp_path / name).mkdir(exist_ok=True)
        display = Display(Console(file=io.StringIO()))
        ids = Ids(torch.arange(pool), torch.arange(80, 96), torch.arange(pool))
        test = Resident(images.test.pixels, Augment())
        tracking = Tracking(None, None, display.say, first=True)
        return Lab(images, resident, test, ids, engine, Streams(seed), Run(tmp_path / name), display, tracking)

    return make


@pytest.fixture
def student(images: ImageData) -> Blueprint:
    """One hidden layer: 2 · (36 · 8 + 8 · 3) = 624 floating-point operations for an image."""
    return Blueprint({"name": "mlp", "hidden": [8]}, lambda: mlp(images.shape, hidden=(8,)))
