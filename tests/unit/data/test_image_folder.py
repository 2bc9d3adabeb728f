"""Folders of sound image files: which pixels, in which order, and what is passed over."""

import numpy as np
import pytest
import torch
from PIL import Image

CLASSES = ("cat", "dog")


def test_pixels_labels_paths_and_classes(load, ear, pixels):
    data = load()
    assert data.classes == CLASSES
    assert data.train.pixels.shape == (6, 3, 8, 8)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.train.paths == tuple(f"train/{name}/{i}.png" for name in CLASSES for i in range(3))
    for seed, image in enumerate([*data.train.pixels, *data.test.pixels]):
        assert torch.equal(image, torch.from_numpy(pixels(seed)).permute(2, 0, 1)), seed
    assert ear.begun == [("reading headers", 6), ("decoding images", 10)]
    assert (ear.steps, ear.images) == (16, 16)
    assert ear.said == []
    assert data.mean == pytest.approx(np.mean([pixels(i) for i in range(6)], (0, 1, 2)) / 255)


def test_images_are_resized_as_pillow_does_with_antialias(root, load, pixels, png):
    png(root / "train/cat/0.png", 99, (40, 24))
    wanted = Image.fromarray(pixels(99, (40, 24))).resize((8, 8), Image.Resampling.BILINEAR)
    assert torch.equal(load().train.pixels[0], torch.from_numpy(np.array(wanted)).permute(2, 0, 1))


def test_grey_and_sizes_have_stores_of_their_own(load, decoded):
    assert load(channels=1).train.pixels.shape == (6, 1, 8, 8)
    assert load(size=4).train.pixels.shape == (6, 3, 4, 4)
    assert len(decoded) == 20
    assert load(channels=1).train.pixels.shape == (6, 1, 8, 8)
    assert len(decoded) == 20


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "bmp", "webp", "gif", "tif", "ppm"])
def test_formats_and_modes(root, load, suffix: str, pixels):
    Image.fromarray(pixels(50)).save(root / f"train/cat/9.{suffix}")
    assert len(load().train) == 7


def test_hidden_things_and_files_deeper_down_are_no_trouble(root, load, png):
    for hidden in (".ipynb_checkpoints", "train/.ipynb_checkpoints", "train/cat/.ipynb_checkpoints", "notes/cow"):
        (root / hidden).mkdir(parents=True)
        (root / hidden / "x.png").write_text("no image")
    (root / "train/.DS_Store").write_text("")
    (root / "train/cat/.hidden.png").write_text("")
    (root / "train/cat/more").mkdir()
    png(root / "train/cat/more/deep.png", 70)
    data = load()
    assert data.classes == CLASSES
    assert data.train.paths[3] == "train/cat/more/deep.png"


def test_duplicates_are_counted_and_leaks_told_loudly_each_time(root, load, ear, png):
    png(root / "train/dog/again.png", 0)
    png(root / "test/dog/leaked.png", 1)
    for _ in range(2):
        ear.said.clear()
        load()
        assert ear.said[0].startswith("1 training images repeat")
        assert ear.said[1].startswith("WARNING: 1 test images")


def test_pixels_can_be_written_to_without_touching_the_store(load, tmp_path):
    load().train.pixels[0] = 7
    assert load().train.pixels[0].max() > 7
