"""Mean and spread against NumPy, duplicates against a count by hand."""

import numpy as np
import pytest
import torch

from kdal_cli.errors import UserError
from kdal_cli.images import statistics
from kdal_cli.images.statistics import Twins, mean_std, refuse_alike, say_twins, twins


@pytest.mark.parametrize("chunk", [1, 3, 4096])
def test_mean_and_std_are_numpys_whatever_the_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(statistics, "CHUNK", chunk)
    x = torch.randint(0, 256, (10, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = mean_std(x)
    wanted = x.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, wanted.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, wanted.std((0, 2, 3)), rtol=1e-12)


def test_a_channel_of_one_value_gets_the_spread_one():
    x = torch.full((2, 2, 3, 3), 51, dtype=torch.uint8)
    x[0, 1] = 0
    mean, std = mean_std(x)
    assert mean == pytest.approx((0.2, 0.1))
    assert std == pytest.approx((1.0, 0.1))


def test_twins_are_counted_within_train_and_between_train_and_test(ear):
    image = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 2, 2)
    found = twins(image[[0, 1, 1, 1, 2]], image[[3, 2, 2, 4]], image[[0, 4]])
    assert found == Twins(repeated=2, leaked=2, held=1)
    say_twins(found, ear)
    assert ear.said[0].startswith("2 training images repeat")
    assert ear.said[1].startswith("WARNING: 1 validation images")
    assert ear.said[2].startswith("WARNING: 2 test images")


def test_no_twins_no_word(ear):
    say_twins(Twins(0, 0), ear)
    assert ear.said == []


def test_a_training_set_of_one_image_is_refused_with_its_reason():
    black, ramp = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(4, dtype=torch.uint8).view(1, 1, 2, 2)
    with pytest.raises(UserError, match=r"^the 3 training images are all the same: every pixel is 0 \(here\): look"):
        refuse_alike(black[0], 3, twins(black, ramp), "here", "look")
    with pytest.raises(UserError, match=r"^the 2 training images are all the same \(here\): look"):
        refuse_alike(ramp[0], 2, twins(ramp.expand(2, 1, 2, 2), ramp), "here", "look")
    two = torch.cat([black, ramp])
    refuse_alike(two[0], 4, twins(two, black), "here", "look")
