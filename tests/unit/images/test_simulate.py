"""Pools made worse on purpose: a long tail has the counts of its formula, copies are copies and lie behind the rest."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.dataset import ImageData, ImageSet, Labels
from kdal_cli.images.simulate import long_tail, with_duplicates


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


# Long tails.

TEN = torch.arange(50_000) % 10  # 5,000 images of each of ten classes, as CIFAR-10 has


@pytest.mark.parametrize(
    ("ratio", "counts"),
    [
        (1.0, [5000] * 10),
        (10.0, [5000, 3871, 2997, 2321, 1797, 1391, 1077, 834, 646, 500]),
        (100.0, [5000, 2997, 1797, 1077, 646, 387, 232, 139, 83, 50]),
    ],
)
def test_the_counts_are_those_of_the_formula(ratio: float, counts: list[int]) -> None:
    """n_c = 5000 · ratio^(−c/9), rounded."""
    found = TEN[long_tail(TEN, ratio, rng())].bincount().tolist()
    assert found == counts
    assert found == [round(5000 * ratio ** (-c / 9)) for c in range(10)]


@st.composite
def labelled(draw: st.DrawFn) -> Tensor:
    classes, n = draw(st.integers(1, 6)), draw(st.integers(1, 80))
    return torch.randint(classes, (n,), generator=rng(draw(st.integers(0, 2**32))))


@given(labelled(), st.floats(1, 500), st.integers(0, 2**32))
def test_it_is_a_sorted_subset_in_which_every_class_is_left_and_none_has_more_than_it_had(labels, ratio, seed) -> None:
    ids = long_tail(labels, ratio, rng(seed))
    assert ids.dtype == torch.int64
    assert ids.tolist() == sorted(set(ids.tolist()))
    had, has = labels.bincount(), labels[ids].bincount(minlength=int(labels.max()) + 1)
    last = max(1, len(had) - 1)
    wanted = [max(1, round(int(had.max()) * ratio ** (-c / last))) for c in range(len(had))]
    assert has.tolist() == [min(h, w) for h, w in zip(had.tolist(), wanted, strict=True)]
    assert torch.equal(ids, long_tail(labels, ratio, rng(seed)))


def test_which_images_are_left_is_drawn() -> None:
    one, two = (long_tail(TEN, 10, rng(seed)) for seed in (0, 1))
    assert not torch.equal(one, two)
    kept = one[TEN[one] == 9]
    assert 20_000 < float(kept.double().mean()) < 30_000  # and not the first 500


# Duplicates.


@pytest.fixture
def data() -> ImageData:
    pixels = torch.randint(0, 256, (12, 3, 2, 2), dtype=torch.uint8, generator=rng())
    train = ImageSet(pixels, Labels.complete(torch.arange(12) % 3), tuple(f"{id}.png" for id in range(12)))
    return ImageData(
        "some",
        train,
        ImageSet(pixels[:2], Labels.complete(torch.zeros(2, dtype=torch.int64))),
        ("a", "b", "c"),
        (0.5,),
        (1,),
    )


POOL = torch.tensor([1, 4, 5, 8, 9, 11])  # of the other six some are validation images


@pytest.mark.parametrize(("share", "copies"), [(0.5, 3), (1.0, 6), (2.5, 15), (0.01, 0)])
def test_copies_are_new_ids_behind_the_others_and_in_the_pool(data: ImageData, share: float, copies: int) -> None:
    longer, pool = with_duplicates(data, POOL, share, rng())
    assert len(longer.train) == len(longer.train.labels.all()) == len(longer.train.paths) == 12 + copies
    assert pool.tolist() == [*POOL.tolist(), *range(12, 12 + copies)]
    assert torch.equal(longer.train.pixels[:12], data.train.pixels)
    assert torch.equal(longer.train.labels.all()[:12], data.train.labels.all())
    assert longer.train.paths[:12] == data.train.paths


def test_a_copy_has_pixels_label_and_path_of_an_image_of_the_pool_and_never_of_validation(data: ImageData) -> None:
    longer, _ = with_duplicates(data, POOL, 20.0, rng())
    originals = [int(path.removesuffix(".png")) for path in longer.train.paths[12:]]
    assert torch.equal(longer.train.pixels[12:], data.train.pixels[originals])
    assert torch.equal(longer.train.labels.all()[12:], data.train.labels.all()[originals])
    assert set(originals) == set(POOL.tolist())


def test_images_without_files_have_copies_without_files(data: ImageData) -> None:
    plain = ImageData("some", ImageSet(data.train.pixels, data.train.labels), data.test, data.classes, (0.5,), (1,))
    longer, _ = with_duplicates(plain, POOL, 1.0, rng())
    assert (len(longer.train), longer.train.paths) == (18, ())


def test_what_was_given_and_the_test_images_are_left_as_they_were(data: ImageData) -> None:
    before, pool = data.train.pixels.clone(), POOL.clone()
    longer, _ = with_duplicates(data, POOL, 1.0, rng())
    longer.train.pixels.zero_()
    assert torch.equal(data.train.pixels, before)
    assert torch.equal(POOL, pool)
    assert longer.test is data.test
    assert longer.shape == data.shape


def test_the_same_draw_gives_the_same_copies_and_another_one_others(data: ImageData) -> None:
    one, two, three = (with_duplicates(data, POOL, 2.0, rng(seed))[0].train.paths for seed in (0, 0, 1))
    assert one == two
    assert one != three
