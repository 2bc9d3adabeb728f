"""Views that are drawn: each follows from its number, and lies within its picture in the proportions of that."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor

from kdal_cli.dataset import Frame
from kdal_cli.images import colours, crops
from kdal_cli.images.augment import ENDLESS, Augment, Resident
from kdal_cli.images.draws import uniform

KINDS = ("none", "crop_flip", "photo", "photo_strong")


@pytest.fixture
def pixels() -> Tensor:
    return torch.randint(0, 256, (9, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def frame() -> Frame:
    return Frame(torch.tensor([[30, 40], [40, 30], [32, 32]] * 3), 16, 0.875)


def test_draws_are_those_of_splitmix64_and_evenly_spread() -> None:
    def mixed(x: int) -> int:
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) % 2**64
        return x ^ x >> 31

    golden, (seed, id, view) = 0x9E3779B97F4A7C15, (3, 5, 2**31 - 1)
    address = mixed((mixed((seed * golden + id) % 2**64) * golden + view) % 2**64)
    wanted = [(mixed((address + n * golden) % 2**64) >> 11) / 2**53 for n in (1, 2, 3)]
    assert uniform(seed, torch.tensor([id]), torch.tensor([view]), 3)[0].tolist() == wanted
    ids, views = torch.arange(200).repeat_interleave(50), torch.arange(50).repeat(200)
    many = uniform(0, ids, views, 4)
    assert len(many[:, 0].unique()) == len(many)
    assert (many.mean(0) - 0.5).abs().max() < 5 * math.sqrt(1 / 12 / len(many))


@given(st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 4000)), min_size=1, max_size=20), st.floats(0, 1))
def test_random_parts_lie_within_their_pictures_as_large_and_as_slim_as_allowed(sizes, least: float) -> None:
    n = len(sizes)
    draws = uniform(1, torch.arange(n), torch.zeros(n, dtype=torch.int64), crops.DRAWS)
    parts = crops.random(torch.tensor(sizes), draws, least)
    assert (parts[:, :2] >= -1e-9).all()
    assert (parts[:, 2:] <= 1 + 1e-9).all()
    height, width = torch.tensor(sizes).double().unbind(1)
    high, wide = (parts[:, 2] - parts[:, 0]) * height, (parts[:, 3] - parts[:, 1]) * width
    assert (wide / high >= crops.SLIM - 1e-9).all()
    assert (wide / high <= crops.WIDE + 1e-9).all()
    within = (width / height >= crops.SLIM) & (width / height <= crops.WIDE)
    assert (high * wide >= least * height * width * (1 - 1e-9))[within].all()


def test_the_middle_is_a_square_of_the_shorter_side() -> None:
    parts = crops.centre(torch.tensor([[100, 200], [300, 150]]), 0.5)
    assert parts.tolist() == [[0.25, 0.375, 0.75, 0.625], [0.375, 0.25, 0.625, 0.75]]


@pytest.mark.parametrize("size", [5, 24, 40])
def test_parts_are_what_pillow_makes_of_them_and_matrices_make_the_same(pixels: Tensor, size: int) -> None:
    rows, flip = torch.tensor([0, 3, 8, 3]), torch.tensor([False, True, False, False])
    parts = torch.tensor([[0, 0, 1, 1], [0.25, 0.125, 0.75, 1], [0.5, 0.5, 0.51, 0.51], [0.9, 0, 1, 1]]).double()
    found = crops.resampled(pixels, rows, parts, flip, size)
    for row, part, mirrored, got in zip(rows.tolist(), (parts * 24).round().long().tolist(), flip, found, strict=True):
        top, left, bottom, right = part
        picture = Image.fromarray(pixels[row].permute(1, 2, 0).numpy())
        picture = picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        wanted = np.asarray(ImageOps.mirror(picture) if mirrored else picture).transpose(2, 0, 1)
        assert np.abs(got.numpy().astype(int) - wanted).max() <= 1
    ends = crops._lines(parts, 24, 24)
    apart = crops._by_matrices(pixels, rows, ends, size).int() - crops._one_by_one(pixels, rows, ends, size).int()
    assert apart.abs().max() <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("framed", [True, False])
def test_a_view_follows_from_its_number_whatever_its_company(pixels: Tensor, frame: Frame, kind, framed: bool) -> None:
    augment = Augment(2, True, kind)
    images = Resident(pixels, augment, frame=frame if framed else None)
    streaming = Resident(pixels, augment, limit_bytes=0, frame=frame if framed else None)
    ids, views = torch.tensor([8, 0, 3, 3]), torch.tensor([0, 7, 7, 13]) % augment.count
    seen, side = images.at(ids, views), 16 if framed else 24
    assert (seen.shape, seen.dtype) == ((4, 3, side, side), torch.uint8)
    assert torch.equal(seen[1:3], images.at(ids[1:3], views[1:3]))
    assert torch.equal(seen, streaming.at(ids, views))
    assert torch.equal(images.whole(ids), streaming.whole(ids))
    assert torch.equal(seen[2], seen[3]) == (kind == "none")
    if kind == "none":
        assert torch.equal(seen, images.whole(ids))
    other = Resident(pixels, Augment(2, True, kind, seed=1), frame=frame if framed else None).at(ids, views)
    assert torch.equal(other, seen) == (kind in ("none", "crop_flip"))


def test_a_picture_as_it_is_is_not_distorted() -> None:
    """A circle in a picture of 20 × 40, stored as a square of 32 × 32, is a circle again."""
    down, across = torch.meshgrid(torch.arange(200.0), torch.arange(400.0), indexing="ij")
    circle = (((down - 99.5) ** 2 + (across - 199.5) ** 2) < 60**2).float()[None, None] * 255
    stored = torch.nn.functional.interpolate(circle, (64, 64), mode="bilinear", antialias=True).round().to(torch.uint8)
    seen = Resident(stored, Augment(), frame=Frame(torch.tensor([[200, 400]]), 32, 1.0)).whole(torch.tensor([0]))[0, 0]
    inside = seen > 127
    assert abs(int(inside.any(0).sum()) - int(inside.any(1).sum())) <= 1
    assert int(inside.any(0).sum()) == pytest.approx(32 * 120 / 200, abs=1)


def test_how_many_views_there_are() -> None:
    assert Augment(kind="none", views=5).count == 1
    assert Augment(kind="photo").count == ENDLESS
    assert Augment(kind="photo", views=16).count == 16
    assert Augment(4, flip=True, views=8).count == 8


def test_a_few_crops_of_an_image_are_some_of_all_and_others_for_other_images(pixels: Tensor) -> None:
    every, few = Resident(pixels, Augment(1, True)), Resident(pixels, Augment(1, True, views=3))
    places = []
    for id in range(9):
        all18 = every.at(torch.full((18,), id), torch.arange(18))
        three = few.at(torch.full((3,), id), torch.arange(3))
        places.append([int((all18 == image).flatten(1).all(1).nonzero()[0]) for image in three])
    assert len({tuple(three) for three in places}) > 5
    with pytest.raises(IndexError, match="there are 3 views"):
        few.at(torch.tensor([0]), torch.tensor([3]))


# Colours.


def test_every_operation_keeps_to_the_range_and_does_nothing_or_little_at_no_strength() -> None:
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 255
    none, whole = torch.zeros(4, 1, 1, 1), torch.ones(4, 1, 1, 1)
    still = {"_autocontrast", "_equalize"}  # these have no strength
    for operation in colours.OPERATIONS:
        for sign in (whole, -whole):
            strong = operation(images, whole, sign)
            assert strong.shape == images.shape
            assert strong.min() >= -1e-3
            assert strong.max() <= 255 + 1e-3
            if operation.__name__ not in still:
                assert (operation(images, none, sign) - images).abs().max() <= 1, operation.__name__
    assert len(colours.OPERATIONS) == 14


def test_one_operation_an_image_by_its_own_draw() -> None:
    images = torch.rand(14, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    draws = torch.stack([(torch.arange(14) + 0.5) / 14, torch.full((14,), 0.5), torch.full((14,), 0.9)], 1).double()
    changed = colours.trivially_augmented(images, draws)
    for n, operation in enumerate(colours.OPERATIONS):
        half = torch.full((1, 1, 1, 1), 0.5)
        assert torch.allclose(changed[n], operation(images[n : n + 1], half, torch.ones_like(half))[0]), n


@pytest.mark.parametrize("channels", [1, 3])
def test_no_change_in_the_middle_of_the_range(channels: int) -> None:
    images = torch.rand(2, channels, 4, 4) * 255
    assert torch.allclose(colours.jittered(images, torch.full((2, 3), 0.5), 0.4), images, atol=1e-3)
    brighter = colours.jittered(images, torch.tensor([[1.0, 0.5, 0.5]]).repeat(2, 1), 0.4)
    assert torch.allclose(brighter, (images * 1.4).clamp(max=255), atol=1e-2)


def test_solarize_posterize_and_equalize_by_hand() -> None:
    images = torch.tensor([0.0, 100, 127, 128, 200, 255]).view(1, 1, 1, 6)
    half, one = torch.full((1, 1, 1, 1), 0.5), torch.ones(1, 1, 1, 1)
    by_name = {operation.__name__: operation for operation in colours.OPERATIONS}
    assert by_name["_solarize"](images, half, one).flatten().tolist() == [0, 100, 127, 127, 55, 0]
    assert by_name["_posterize"](images, half, one).flatten().tolist() == [0, 96, 120, 128, 200, 248]
    assert by_name["_equalize"](images, half, one).flatten().tolist() == [0, 51, 102, 153, 204, 255]
