"""Every student of conf learns digits, and answers by what it has learnt however soon it is looked at."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from kdal_cli.compose.parts import blueprint
from kdal_cli.data.digits import digits
from kdal_cli.dataset import ImageData
from kdal_cli.devices.engine import Engine
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.inference.predict import predict
from kdal_cli.lab.checkup import as_trained
from kdal_cli.metrics.classification import accuracy
from kdal_cli.models.torchvision import torchvision
from kdal_cli.network import Network
from kdal_cli.streams import Streams
from kdal_cli.training.fit import fit
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples, Unwatched

CONF = Path(__file__).parents[2] / "conf" / "student"
NOT_ALONE = {"custom", "simkd", "timm"}  # what only the user knows; a teacher's classifier; networks for photos
STUDENTS = sorted(path.stem for path in CONF.glob("[!_]*.yaml") if path.stem not in NOT_ALONE)
STEPS = {"mlp": 2000, "mobilenet_v3_small": 2400, **{name: 600 for name in STUDENTS if name.startswith("shufflenet")}}
"""Of those that need more than 300 to beat logistic regression."""
LONGER = {"mobilenet_v2", "mobilenet_v2_half", "shufflenet_v1"}
"""Made for larger images: of 8 × 8 pixels they leave one, and learn for longer than a test may take."""
HEAVY = {"inception_v3"}
"""Enlarges what it sees to 75 pixels: 300 steps would take half an hour."""
RECIPE = {"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.01, "warmup": 0.1, "precision": "fp32", "checks": 1}


@cache
def data() -> ImageData:
    return digits(Unwatched())


def shipped(name: str) -> nn.Module:
    section: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))  # type: ignore[assignment]
    return blueprint(section, data().shape, [], "student").make()


def trained(
    body: Callable[[], nn.Module], steps: int, batch: int = 64
) -> tuple[Network, Resident, torch.Tensor, torch.Tensor]:
    """A network, after so many steps on all training images of digits, and these images, their ids and labels."""
    engine, augment = Engine.start("cpu", 1), Augment(pad=1)
    images, ids, labels = (
        Resident(data().train.pixels, augment),
        torch.arange(len(data().train)),
        data().train.labels.all(),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(body(), data().mean, data().std)
    engine.place(network)
    recipe = Recipe(steps=steps, batch=batch, augment=augment, **RECIPE)
    fit(network, images, Examples(ids, labels), Objective(), recipe, engine, Streams(0), Unwatched())
    return network, images, ids, labels


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mlp", "small_cnn", "resnet8"])
def test_after_a_few_steps_a_student_is_as_good_when_it_is_looked_at_as_when_it_trains(name: str) -> None:
    as_good_as_it_trains(lambda: shipped(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps"), [*((name, 300) for name in sorted(LONGER)), *((name, 30) for name in HEAVY)]
)
def test_so_is_one_that_takes_longer_at_a_time_when_it_has_learnt_something(name: str, steps: int) -> None:
    as_good_as_it_trains(lambda: shipped(name), steps)


@pytest.mark.slow
def test_so_is_a_mnasnet_whose_statistics_hardly_move() -> None:
    as_good_as_it_trains(lambda: torchvision(data().shape, arch="mnasnet0_5"), 200)


def as_good_as_it_trains(body: Callable[[], nn.Module], steps: int = 30) -> None:
    """A momentum of .01 takes statistics a quarter of the way in 30 steps, one of .0003 a hundredth."""
    network, images, ids, labels = trained(body, steps, batch=32)
    some = ids[::4]
    looked_at = accuracy(predict(network, images, some).logits, labels[some])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        training = accuracy(as_trained(network, images, some), labels[some])
    assert training > 0.2
    assert looked_at > training - 0.05


@cache
def logistic_regression() -> float:
    """What the simplest thing scores on the test images, from the same labels."""
    from sklearn.linear_model import LogisticRegression

    train, test = (
        (part.pixels.flatten(1).numpy() / 255, part.labels.all().numpy()) for part in (data().train, data().test)
    )
    return float(LogisticRegression(max_iter=2000).fit(*train).score(*test))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*STUDENTS} - LONGER - HEAVY))
def test_every_student_beats_logistic_regression_on_digits(name: str) -> None:
    network, *_ = trained(lambda: shipped(name), STEPS.get(name, 300))
    test = Resident(data().test.pixels, Augment())
    score = accuracy(predict(network, test, torch.arange(len(data().test))).logits, data().test.labels.all())
    assert score > logistic_regression()
