"""What is refused before a single image is read."""

from pathlib import Path

import pytest
import torch

from kdal_cli.compose.early import refuse_early
from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models.resnet import resnet
from kdal_cli.records import checkpoint
from kdal_cli.records.card import Card

SHAPE = Shape(1, 8, 8, 2)
RESNET = {"name": "resnet", "depth": 8, "widths": [4, 4, 6, 8]}
SMALL = {"name": "mlp", "hidden": [4]}


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    card = Card("teacher", RESNET, SHAPE, ("a", "b"), (0.5,), (0.25,), "blobs", {"data": "blobs", "labels": 3})
    checkpoint.write(tmp_path / "ours.safetensors", resnet(SHAPE, depth=8, widths=(4, 4, 6, 8)), card)
    return tmp_path / "ours.safetensors"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    torch.save(resnet(SHAPE, depth=8, widths=(4, 4, 6, 8)).state_dict(), tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


def taught(**keys: object) -> dict:
    return {"student": SMALL, "teacher": {"model": RESNET, "recipe": {"steps": 1}, **keys}}


def test_what_is_well_passes(ours: Path, theirs: Path) -> None:
    refuse_early({"student": SMALL, "teacher": {"kind": "previous", "recipe": {"steps": 1}}}, [])
    refuse_early({**taught(seed=[0, 1]), "assistants": {"first": RESNET}}, [])
    refuse_early(taught(checkpoint=[str(ours), str(theirs)]), [])
    refuse_early(taught(checkpoint=str(ours), model=None), [])
    refuse_early({"student": None, "checkpoint": str(ours)}, [])
    refuse_early({"student": RESNET, "checkpoint": str(theirs)}, [])


def test_classes_of_weights_from_elsewhere_are_left_to_the_data(theirs: Path) -> None:
    """Their shapes hang on images that nobody has seen yet."""
    refuse_early({"student": RESNET, "checkpoint": str(theirs)}, [])


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"student": {"name": "resnt"}}, "student.name=resnt: did you mean 'resnet'?"),
        ({"student": {**SMALL, "width": 3}}, "student.width=3 (no such key)"),
        ({"student": {"name": "resnet", "depth": 9}}, "no CIFAR ResNet has 9 layers"),
        ({"student": SMALL, "assistants": {"first": {"name": "resnt"}}}, "assistants.first.name=resnt"),
        (taught(model={"name": "resnt"}), "teacher.model.name=resnt"),
        (taught(checkpoint="nowhere.pth"), "no such checkpoint (nowhere.pth)"),
        (taught(checkpoint=["{ours}", "nowhere.pth"]), "no such checkpoint (nowhere.pth)"),
        (taught(checkpoint=3), "teacher.checkpoint=3: accepted: a path"),
        (taught(checkpoint="{ours}", model=SMALL), "checkpoint is resnet depth=8 widths=[4, 4, 6, 8], not mlp hid"),
        (taught(checkpoint="{theirs}", model=SMALL), "checkpoint is not one of mlp hidden=[4]: it lacks layer1.linear"),
        (
            taught(checkpoint="{theirs}", model=None),
            "this checkpoint does not say what it is ({theirs}): name its arch",
        ),
        ({"student": None, "checkpoint": "nowhere.pth"}, "no such checkpoint (nowhere.pth)"),
        ({"student": None, "checkpoint": "{theirs}"}, "this checkpoint does not say what it is"),
        ({"student": {**RESNET, "depth": 14}, "checkpoint": "{theirs}"}, "it lacks layer1.1 (10 tensors), layer2.1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_it_is_told(ours: Path, theirs: Path, values: dict, line: str) -> None:
    places = {"{ours}": str(ours), "{theirs}": str(theirs)}
    values = filled(values, places)
    with pytest.raises(UserError) as refused:
        refuse_early(values, [])
    assert filled(line, places) in str(refused.value)


def filled(value: object, places: dict[str, str]):
    """Nested values with the paths put in."""
    if isinstance(value, dict):
        return {key: filled(each, places) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, places) for each in value]
    for name, path in places.items() if isinstance(value, str) else ():
        value = value.replace(name, path)
    return value
