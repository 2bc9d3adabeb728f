"""Several looks at an image: which parts they are, and that their probabilities are averaged."""

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.dataset import Frame
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.inference.predict import predict_logits
from kdal_cli.inference.tta import averaged_logits
from kdal_cli.network import Network

IDS = torch.tensor([2, 0, 1])


@pytest.fixture
def pixels() -> Tensor:
    return torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(nn.Sequential(nn.Flatten(), nn.Linear(256, 4)), (0.5,), (0.2,))


def test_flip_is_the_mean_of_the_probabilities_of_an_image_and_its_mirror_image(network: Network, pixels) -> None:
    images, mirrored = Resident(pixels, Augment(pad=2)), Resident(pixels.flip(3), Augment())
    both = [predict_logits(network, each, IDS).softmax(1) for each in (images, mirrored)]
    got = averaged_logits(network, images, IDS, "flip")
    assert torch.allclose(got.exp(), (both[0] + both[1]) / 2, atol=1e-6)
    assert torch.equal(averaged_logits(network, images, IDS, "none"), predict_logits(network, images, IDS))


def test_ten_crop_looks_at_the_centre_and_the_corners_and_their_mirror_images(network: Network, pixels) -> None:
    """Of 16 pixels 14 are seen, from 0, 1 or 2 on, enlarged to 16; whatever training pads."""
    seen: list[Tensor] = []
    network.body.register_forward_pre_hook(lambda body, args: seen.append(args[0].clone()))
    averaged_logits(network, Resident(pixels, Augment(pad=2, flip=True)), IDS, "ten_crop")
    wanted = []
    for top, left in ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2)):
        part = pixels[IDS][:, :, top : top + 14, left : left + 14]
        large = nn.functional.interpolate(part, (16, 16), mode="bilinear", antialias=True)
        wanted += [large, large.flip(3)]
    assert torch.equal(torch.stack(seen), (torch.stack(wanted).float() - network.mean) / network.std)


def test_corners_are_those_of_the_picture_in_its_own_proportions() -> None:
    """16 × 32, kept as 24 × 24: squares of 14 reach from the left to 14/32 of the width."""
    across = torch.arange(24, dtype=torch.uint8).expand(1, 1, 24, 24).contiguous()
    images = Resident(across, Augment(), frame=Frame(torch.tensor([[16, 32]]), 12, 0.875))
    left = images.looked_at((0, 0), mirrored=False).whole(torch.tensor([0]))
    right = images.looked_at((1, 1), mirrored=False).whole(torch.tensor([0]))
    assert int(left.min()) == 0
    assert int(left.max()) in (9, 10)
    assert int(right.max()) == 23
    assert int(right.min()) in (13, 14)
    mirrored = images.looked_at("whole", mirrored=True).whole(torch.tensor([0]))
    assert torch.equal(mirrored, images.whole(torch.tensor([0])).flip(3))


def test_corners_of_images_that_are_no_squares_are_refused(network: Network) -> None:
    images = Resident(torch.zeros(3, 1, 8, 32, dtype=torch.uint8), Augment())
    assert averaged_logits(network, images, IDS, "flip").shape == (3, 4)
    with pytest.raises(UserError, match="tta=ten_crop of images of 8 × 32: tta=flip"):
        averaged_logits(network, images, IDS, "ten_crop")
