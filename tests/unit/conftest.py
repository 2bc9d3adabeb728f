"""What most unit tests stand on: a watcher that remembers, a CPU, images that can be learnt in a second, a lab."""

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from rich.console import Console

from kdal_cli.data.blobs import blobs
from kdal_cli.dataset import ImageData
from kdal_cli.devices.engine import Engine
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.images.split import Ids
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.lab import Lab
from kdal_cli.models.mlp import mlp
from kdal_cli.network import Network
from kdal_cli.records.run import Run
from kdal_cli.records.tracking import Tracking
from kdal_cli.report.display import Display
from kdal_cli.streams import Streams


class Notes:
    """A watcher that writes everything down."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.measured: list[dict[str, float]] = []
        self.begun: list[tuple[str, int]] = []
        self.steps = self.images = self.ended = 0

    def say(self, text: str) -> None:
        self.said.append(text)

    def begin(self, what: str, steps: int, *, at_most: bool = False) -> None:
        self.begun.append((what, steps))

    def advance(self, steps: int, images: int) -> None:
        self.steps += steps
        self.images += images

    def figures(self, values: Mapping[str, float]) -> None:
        self.measured.append(dict(values))

    def end(self) -> None:
        self.ended += 1


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def ear() -> Iterator[Notes]:
    """A watcher that remembers, for work that ends what it begins."""
    listener = Notes()
    yield listener
    assert listener.ended == len(listener.begun)


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine.start("cpu")


@pytest.fixture(scope="session")
def two() -> Iterator[Engine]:
    """Two processes with a thread each; the second starts when it is first needed, which takes seconds."""
    engine = Engine.start("cpu", threads=1, devices=2)
    yield engine
    engine.team.close()


@pytest.fixture(scope="session")
def images() -> ImageData:
    """96 + 60 grey images of 6 × 6 pixels in 3 classes, far enough apart for any classifier."""
    return blobs(Notes(), train=96, test=60, classes=3, size=6, noise=1.0)


@pytest.fixture(scope="session")
def resident(images: ImageData) -> Resident:
    """The training images, 18 views each."""
    return Resident(images.train.pixels, Augment(pad=1, flip=True))


MakeNetwork = Callable[..., Network]


@pytest.fixture
def make_network(images: ImageData) -> MakeNetwork:
    """`make_network(seed, width, dropout)`: one hidden layer, `layer1`; the same seed gives the same weights."""

    def make(seed: int = 0, width: int = 16, dropout: float = 0.0) -> Network:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Network(mlp(images.shape, hidden=(width,), dropout=dropout), images.mean, images.std)

    return make


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
