"""Every view against the obvious way to make it, resident and streaming."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from kdal_cli.images.augment import Augment, Resident

AUGMENTS = [Augment(p, flip) for p in (0, 1, 2) for flip in (False, True)]


@pytest.fixture
def pixels() -> Tensor:
    return torch.randint(0, 256, (7, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def through_pillow(image: Tensor, augment: Augment, view: int) -> Tensor:
    """Pad, crop, mirror one image (c, H, W), a step at a time."""
    _, h, w = image.shape
    flip, place = divmod(view, (2 * augment.pad + 1) ** 2)
    dy, dx = divmod(place, 2 * augment.pad + 1)
    picture = ImageOps.expand(Image.fromarray(image.permute(1, 2, 0).numpy()), augment.pad, fill=0)
    picture = picture.crop((dx, dy, dx + w, dy + h))
    return torch.from_numpy(np.array(ImageOps.mirror(picture) if flip else picture)).permute(2, 0, 1)


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
@pytest.mark.parametrize("limit", [None, 0], ids=["resident", "streaming"])
def test_every_view_of_every_image_is_what_pillow_makes(pixels: Tensor, augment: Augment, limit: int | None):
    images = Resident(pixels, augment, limit_bytes=limit)
    ids = torch.arange(len(pixels)).repeat_interleave(augment.count)
    views = torch.arange(augment.count).repeat(len(pixels))
    seen = images.at(ids, views)
    assert seen.dtype == torch.uint8
    assert seen.is_contiguous()
    for image, view, got in zip(ids.tolist(), views.tolist(), seen, strict=True):
        assert torch.equal(got, through_pillow(pixels[image], augment, view)), (image, view)


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
@pytest.mark.parametrize("limit", [None, 0], ids=["resident", "streaming"])
def test_whole_is_the_identity_view_and_the_image_itself(pixels: Tensor, augment: Augment, limit: int | None):
    images = Resident(pixels, augment, limit_bytes=limit)
    ids = torch.tensor([3, 0, 3, 6])
    whole = images.whole(ids)
    assert whole.is_contiguous()
    assert torch.equal(whole, pixels[ids])
    assert torch.equal(whole, images.at(ids, torch.full_like(ids, augment.identity)))


def test_it_streams_exactly_when_the_padded_pixels_do_not_fit(pixels: Tensor):
    padded = 7 * 3 * (6 + 4) * (5 + 4)
    assert Resident(pixels, Augment(2), limit_bytes=padded).resident
    assert not Resident(pixels, Augment(2), limit_bytes=padded - 1).resident
    assert Resident(pixels, Augment(0), limit_bytes=0).resident, "nothing is copied, so everything fits"


def test_memory_mapped_pixels_stream_to_the_same_bits(pixels: Tensor, tmp_path):
    np.save(tmp_path / "x.npy", pixels.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
    ids, views = torch.tensor([6, 1, 1]), torch.tensor([49, 0, 13])
    streaming = Resident(mapped, Augment(2, flip=True), limit_bytes=0)
    assert torch.equal(streaming.at(ids, views), Resident(pixels, Augment(2, flip=True)).at(ids, views))


def test_numbers_of_views():
    assert Augment(4, flip=True).count == 162
    assert Augment(2, flip=True).count == 50
    assert Augment().count == 1
    assert Augment(4).identity == 40
    assert Augment().identity == 0


def test_no_images_give_no_pixels(pixels: Tensor):
    none = torch.empty(0, dtype=torch.int64)
    assert Resident(pixels, Augment(1)).at(none, none).shape == (0, 3, 6, 5)
    assert Resident(pixels, Augment(1)).whole(none).shape == (0, 3, 6, 5)


@pytest.mark.parametrize(("image", "view"), [(-1, 0), (7, 0), (0, -1), (0, 18)])
def test_an_id_or_a_view_that_is_not_there_is_refused(pixels: Tensor, image: int, view: int):
    with pytest.raises(IndexError, match=r"there are (7 images|18 views)"):
        Resident(pixels, Augment(1, flip=True)).at(torch.tensor([image]), torch.tensor([view]))
