"""Pictures that look alike have nearly the same bits."""

import io

import numpy as np
from PIL import Image

from kdal_cli.images.likeness import alike, likeness


def picture(seed: int) -> Image.Image:
    """Soft blotches, as photographs have."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    return Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)


def resaved(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.resize((60, 60), Image.Resampling.BILINEAR).save(file, "JPEG", quality=70)
    return Image.open(file)


def test_a_picture_resized_and_saved_again_is_found_and_others_are_not() -> None:
    known = np.array([likeness(picture(seed)) for seed in range(50)], np.uint64)
    again = np.array([likeness(resaved(picture(seed))) for seed in range(50)], np.uint64)
    strangers = np.array([likeness(picture(seed)) for seed in range(100, 150)], np.uint64)
    assert alike(again, known).mean() > 0.95
    assert not alike(strangers, known).any()


def test_bits_by_hand_and_no_bits_are_like_nothing() -> None:
    ramp = Image.fromarray(np.tile(np.arange(0, 252, 28, dtype=np.uint8), (8, 1)))
    assert likeness(ramp) == 2**64 - 1
    assert likeness(Image.new("L", (9, 8), 7)) == 0
    flat = np.zeros(2, np.uint64)
    assert not alike(flat, flat).any()
    assert not alike(np.array([3], np.uint64), flat).any()
    assert not alike(np.array([3], np.uint64), np.empty(0, np.uint64)).any()


def test_four_bits_are_alike_wherever_they_are_and_five_are_not() -> None:
    rng = np.random.default_rng(0)
    known = rng.integers(1, 2**63, 400, dtype=np.uint64)
    apart = np.repeat([4, 5], 200)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, count, replace=False)) for count in apart]
    others = known ^ np.array(flips, np.uint64)
    assert (alike(others, known) == (apart == 4)).all()
    assert (alike(known, others[:0]) == np.zeros(400, bool)).all()
