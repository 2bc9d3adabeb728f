"""What is sent arrives as it was; images are not sent, but looked at where they are."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kdal_cli.dataset import Shape
from kdal_cli.devices.parcel import Lent, pack, unpack
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.images.pixels import open_pixels
from kdal_cli.models.resnet import resnet
from kdal_cli.network import Network, freeze

IDS = torch.tensor([699, 0, 4])
VIEWS = torch.tensor([17, 3, 9])


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (700, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def sent(thing):
    """A thing that was in a parcel, and how large that was."""
    parcel = pack(thing, Lent())
    return unpack(parcel), len(parcel)


def test_images_arrive_in_all_their_views_and_are_not_in_the_parcel(pixels: torch.Tensor) -> None:
    images = Resident(pixels, Augment(pad=1, flip=True))
    there, size = sent(images)
    assert torch.equal(there.at(IDS, VIEWS), images.at(IDS, VIEWS))
    assert torch.equal(there.whole(IDS), pixels[IDS])
    assert size < 5000 < pixels.numel()


def test_images_of_a_file_are_read_from_that_file(pixels: torch.Tensor, tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", pixels.numpy())
    lent = Lent()
    mapped = open_pixels(tmp_path / "train.npy")
    place = lent.place(mapped)
    assert (Path(place.handle).resolve(), place.shape) == (tmp_path / "train.npy", (700, 3, 8, 8))
    assert torch.equal(unpack(pack(Resident(mapped, Augment()), lent)).whole(IDS), pixels[IDS])
    part = lent.place(mapped[2:])
    assert (Path(part.handle).resolve(), part.offset) == (tmp_path / "train.npy", place.offset + 2 * pixels[0].numel())
    lent.close()


def test_images_of_a_file_that_was_replaced_are_those_that_were_opened(pixels: torch.Tensor, tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", pixels.numpy())
    mapped = open_pixels(tmp_path / "train.npy")
    np.save(tmp_path / "new.npy", 255 - pixels.numpy())
    (tmp_path / "new.npy").replace(tmp_path / "train.npy")
    assert torch.equal(sent(Resident(mapped, Augment()))[0].whole(IDS), pixels[IDS])


def test_the_same_images_are_in_one_file_however_often_they_are_sent(pixels: torch.Tensor) -> None:
    lent = Lent()
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for augment in (Augment(), Augment(pad=2), Augment()):
        pack(Resident(pixels, augment), lent)
    assert len(os.listdir("/proc/self/fd")) == files + 1  # noqa: PTH208
    lent.close()
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_a_frozen_network_arrives_frozen_with_its_taps_and_channels_last() -> None:
    network = freeze(Network(resnet(Shape(3, 8, 8, 4), depth=8), (0.5,) * 3, (0.2,) * 3))
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    network.tap(["layer2"])
    there, _ = sent(network)
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    ours, theirs = network(images), there.train()(images)
    assert torch.equal(theirs.logits, ours.logits)
    assert torch.equal(theirs.maps["layer2"], ours.maps["layer2"])
    assert not there.training
    assert not any(p.requires_grad for p in there.parameters())
    assert there.body.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_what_is_one_thing_here_is_one_thing_there() -> None:
    layer = nn.Linear(2, 2)
    (one, two), _ = sent((layer, nn.ModuleList([layer])))
    assert two[0] is one


def test_a_lambda_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"cannot be sent to another process: .*lambda.*: define it at the top"):
        pack(lambda: None, Lent())
