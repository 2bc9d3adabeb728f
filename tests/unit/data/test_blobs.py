"""Synthetic images: addressed by their keywords, in balance, and learnable."""

import pytest
import torch

from kdal_cli.data.blobs import blobs
from kdal_cli.errors import UserError


def test_shapes_balance_and_types(ear):
    data = blobs(ear, train=30, test=9, classes=3, size=5, channels=2)
    assert data.train.pixels.shape == (30, 2, 5, 5)
    assert data.train.pixels.dtype == torch.uint8
    assert data.train.labels.all().bincount().tolist() == [10, 10, 10]
    assert data.test.labels.all().bincount().tolist() == [3, 3, 3]
    assert data.classes == ("0", "1", "2")
    assert len(data.mean) == len(data.std) == 2


def test_the_seed_is_its_own(ear):
    torch.manual_seed(1)
    first = blobs(ear)
    torch.manual_seed(2)
    assert torch.equal(first.train.pixels, blobs(ear).train.pixels)
    assert not torch.equal(first.train.pixels, blobs(ear, seed=1).train.pixels)


def test_more_training_images_leave_the_test_set_as_it_is(ear):
    assert torch.equal(blobs(ear, train=100).test.pixels, blobs(ear, train=200).test.pixels)


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 1.0, 1.0), (1.5, 0.98, 1.0), (8.0, 0.3, 0.8)])
def test_noise_decides_how_hard_it_is(ear, noise: float, low: float, high: float):
    data = blobs(ear, noise=noise)
    means = torch.stack([data.train.pixels[data.train.labels.all() == c].double().mean(0).flatten() for c in range(4)])
    guessed = torch.cdist(data.test.pixels.double().flatten(1), means).argmin(1)
    assert low <= (guessed == data.test.labels.all()).double().mean() <= high


def test_fewer_images_than_classes_are_refused(ear):
    with pytest.raises(UserError, match="cannot show 4 classes"):
        blobs(ear, test=3)
