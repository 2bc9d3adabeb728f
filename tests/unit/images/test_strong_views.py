"""Strong views: they follow from their address alone, stay within bounds, and have their hole."""

import torch

from kdal_cli.images.augment import Augment, Resident
from kdal_cli.images.colours import OPERATIONS
from kdal_cli.images.strong import DRAWS, HOLE, LIMITS, changed, holes

IMAGES = torch.randint(0, 256, (20, 3, 12, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IDS, NUMBERS = torch.arange(20), torch.arange(100, 120)


def resident(**settings: object) -> Resident:
    return Resident(IMAGES, Augment(**settings))  # type: ignore[arg-type]


def test_a_strong_view_follows_from_image_and_number_whatever_the_company() -> None:
    whole = resident(pad=2, flip=True).strong(IDS, NUMBERS)
    assert (whole.shape, whole.dtype) == (IMAGES.shape, torch.uint8)
    alone = torch.cat([resident(pad=2, flip=True).strong(IDS[n : n + 1], NUMBERS[n : n + 1]) for n in range(20)])
    assert torch.equal(alone, whole)
    assert not torch.equal(resident(pad=2, flip=True).strong(IDS, NUMBERS + 1), whole)
    assert not torch.equal(resident(pad=2, flip=True, seed=1).strong(IDS, NUMBERS), whole)


def test_another_view_is_one_of_those_that_there_are() -> None:
    images = resident(pad=1, flip=False)
    again = images.again(IDS, NUMBERS)
    every = torch.stack([images.at(IDS, torch.full_like(IDS, view)) for view in range(9)])  # (views, 20, …)
    found = (every == again).flatten(2).all(2)  # (views, 20)
    assert (found.sum(0) >= 1).all()
    assert found.any(1).sum() > 3  # not always the same one


def test_every_kind_of_view_can_be_changed_strongly() -> None:
    for kind in ("none", "crop_flip", "photo", "photo_strong"):
        square = Resident(IMAGES[..., :12].contiguous(), Augment(kind=kind))
        assert square.strong(IDS, NUMBERS).shape == (20, 3, 12, 12)


def test_each_operation_has_its_limit() -> None:
    assert len(LIMITS) == len(OPERATIONS)
    assert all(0 < limit <= 1 for limit in LIMITS)


def test_without_strength_and_hole_nothing_changes() -> None:
    still = torch.zeros(20, DRAWS, dtype=torch.float64)  # the identity twice, a hole of side 0
    assert torch.equal(changed(IMAGES, still), IMAGES)


def test_a_hole_is_a_square_around_its_middle_cut_off_at_the_edges() -> None:
    draws = torch.tensor([[1.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]], dtype=torch.float64)
    middle, corner, none = holes(draws, 12, 16)
    side = int(HOLE * 12)
    assert middle.sum() == side**2
    assert middle[0, 3:9, 5:11].all()
    assert corner.sum() == (side // 2) ** 2
    assert corner[0, :3, :3].all()
    assert not none.any()
