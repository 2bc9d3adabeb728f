"""Sections of the configuration to what they describe, and each way in which they can be wrong."""

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.build import parts
from kdal_cli.errors import UserError
from kdal_cli.models.resnet import resnet
from kdal_cli.network import Network
from kdal_cli.objective import Objective
from kdal_cli.types import Batch, Shape

SHAPE = Shape(3, 8, 8, 5)
KD = {"name": "kd", "temperature": 2.0}


def network(width: int) -> Network:
    body = resnet(SHAPE, depth=8, widths=(8, 8, 8, width))
    return Network(body, (0.5,) * 3, (0.25,) * 3)


def batch(labels: int = 3) -> Batch:
    pixels = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(torch.arange(5), torch.zeros(5), pixels, torch.arange(labels))


def losses(objective: Objective, student: Network, teacher: Network, progress: float = 0.0) -> dict[str, Tensor]:
    with torch.no_grad():
        return objective(student(batch().pixels), teacher(batch().pixels), batch(), progress)


# Architectures.


def test_a_blueprint_makes_a_new_network_each_time_and_remembers_what_it_is() -> None:
    section = {"name": "mlp", "hidden": [6], "dropout": 0.1}
    blueprint = parts.blueprint(section, SHAPE, [], "student")
    one, two = blueprint.make(), blueprint.make()
    assert blueprint.spec == section
    assert one is not two
    assert one.fc.weight.shape == (5, 6)


def test_checking_it_moves_no_generator() -> None:
    before = torch.get_rng_state()
    parts.blueprint({"name": "mlp"}, SHAPE, [], "student")
    assert torch.equal(torch.get_rng_state(), before)


def no_module(shape: Shape) -> str:
    return "net"


def other_classes(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape.channels * shape.height * shape.width, shape.classes + 1))


def other_images(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(7, shape.classes))


def two_answers(shape: Shape) -> nn.Module:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    return Two()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (no_module, "student.name={name} makes a str: an nn.Module is needed"),
        (other_classes, "student answers (1, 6) for one image: logits of shape (1, 5) are needed"),
        (other_images, "student cannot take images of (3, 8, 8): "),
        (two_answers, "student answers tuple for one image: logits of shape (1, 5) are needed"),
    ],
)
def test_what_cannot_classify_these_images_is_refused_before_it_trains(make, line: str) -> None:
    name = f"{__name__}:{make.__name__}"
    with pytest.raises(UserError) as refused:
        parts.blueprint({"name": name}, SHAPE, [__name__.split(".")[0]], "student")
    assert str(refused.value).startswith(line.format(name=name))


def test_an_architecture_that_does_not_fit_the_images_says_so() -> None:
    with pytest.raises(UserError, match="4 × 4 pixels"):
        parts.blueprint({"name": "small_cnn"}, Shape(1, 3, 3, 2), [], "student")


# Everything else.


def test_a_sampler_is_its_function_with_its_arguments() -> None:
    sampler = parts.sampler({"name": "bald", "draws": 4}, [])
    assert sampler.keywords == {"draws": 4}  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"^sampler\.draws=0: accepted: a whole number at least 1"):
        parts.sampler({"name": "bald", "draws": 0}, [])
    with pytest.raises(UserError, match=r"^sampler\.rng=1 .no such key"):
        parts.sampler({"name": "margin", "rng": 1}, [])


def test_an_oracle_sells_the_labels_it_is_given() -> None:
    answer = parts.oracle({"name": "simulated", "price": 2}, torch.tensor([4, 5, 6]))(torch.tensor([2, 0]))
    assert (answer.labels.tolist(), answer.costs.tolist()) == ([6, 4], [2.0, 2.0])
    with pytest.raises(UserError, match=r"^oracle\.name=person: "):
        parts.oracle({"name": "person"}, torch.tensor([0]))
    with pytest.raises(UserError, match=r"^oracle\.price=-1: accepted: a finite number at least 0"):
        parts.oracle({"name": "simulated", "price": -1}, torch.tensor([0]))


def test_data_come_with_the_ids_of_the_pool_and_of_the_validation_images(notes) -> None:
    section = {
        "name": "blobs",
        "train": 40,
        "test": 8,
        "split": {"validation": 10, "pool": None, "seed": 0},
        "augment": {"pad": 1, "flip": False},
    }
    images, pool, validation = parts.data(section, [], notes)
    assert len(images.train) == 40
    assert sorted([*pool.tolist(), *validation.tolist()]) == list(range(40))
    assert len(validation) == 10
    with pytest.raises(UserError, match=r"^data\.split\.validation=-1"):
        parts.data({**section, "split": {"validation": -1}}, [], notes)
    with pytest.raises(UserError, match=r"^data\.trian=3 .no such key.: did you mean 'train'"):
        parts.data({**section, "trian": 3}, [], notes)


@pytest.mark.parametrize(
    "build",
    [
        lambda: parts.sampler({}, []),
        lambda: parts.oracle({}, torch.tensor([0])),
        lambda: parts.blueprint({}, SHAPE, [], "student"),
        lambda: parts.data({"split": {}}, [], None),  # type: ignore[arg-type]
    ],
    ids=["sampler", "oracle", "student", "data"],
)
def test_a_section_without_a_name_is_refused(build) -> None:
    with pytest.raises(UserError, match=r"^(sampler|oracle|student|data)\.name"):
        build()
