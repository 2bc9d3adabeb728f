"""The bundled digits: the same as scikit-learn's own reader gives, divided once and for all."""

import hashlib

import numpy as np
import torch

from kdal_cli.data.digits import digits


def test_shapes_counts_and_classes(ear):
    data = digits(ear)
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.train.pixels.shape[1:] == (1, 8, 8)
    assert data.train.pixels.dtype == torch.uint8
    assert data.train.pixels.max() == 255
    assert data.train.labels.all().dtype == torch.int64
    assert data.classes == tuple("0123456789")
    assert data.train.labels.all().bincount().min() > 100
    assert data.test.labels.all().bincount(minlength=10).min() > 10


def test_no_image_is_both_in_train_and_in_test(ear):
    data = digits(ear)
    train, test = ({image.tobytes() for image in split.pixels.numpy()} for split in (data.train, data.test))
    assert len(train) == 1437
    assert len(test) == 360
    assert not train & test


def test_the_split_is_the_one_that_was_published(ear):
    """A change of this digest is a change of every number ever measured on the digits."""
    data = digits(ear)
    digest = hashlib.sha256()
    for split in (data.train, data.test):
        digest.update(split.pixels.numpy().tobytes())
        digest.update(split.labels.all().numpy().astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "bc6ef7d94e64b9b8"


def test_pixels_and_labels_are_those_of_scikit_learn(ear):
    from sklearn.datasets import load_digits

    theirs, data = load_digits(), digits(ear)
    parts = (data.train, data.test)
    pixels, labels = torch.cat([part.pixels for part in parts]), torch.cat([part.labels.all() for part in parts])
    ours = {image.tobytes(): label for image, label in zip(pixels.numpy(), labels.tolist(), strict=True)}
    scaled = np.round(theirs.images * 15.9375).astype(np.uint8)
    assert ours == {image.tobytes(): label for image, label in zip(scaled, theirs.target.tolist(), strict=True)}
