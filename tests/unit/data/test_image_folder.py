"""Folders of sound image files: which pixels, in which order, and what is passed over."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdal_cli.data import _decoded as source
from kdal_cli.errors import UserError

CLASSES = ("cat", "dog")


def test_pixels_labels_paths_and_classes(load, ear, pixels):
    data = load()
    assert data.classes == CLASSES
    assert data.train.pixels.shape == (6, 3, 8, 8)
    assert data.train.labels.all().tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.labels.all().tolist() == [0, 0, 1, 1]
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


# Validation and test images.


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_folder_of_validation_images_is_rows_of_the_training_images_that_are_in_no_pool(
    root, load, ear, png, pixels, name: str
):
    for label, kind in enumerate(CLASSES):
        (root / name / kind).mkdir(parents=True)
        png(root / name / kind / "x.png", 80 + label)
    for _ in range(2):  # decoded, and out of the store
        ear.said.clear()
        data = load()
        assert data.validation.tolist() == [6, 7]
        assert data.train.labels.all().tolist() == [0, 0, 0, 1, 1, 1, 0, 1]
        assert data.train.paths[6:] == (f"{name}/cat/x.png", f"{name}/dog/x.png")
        assert torch.equal(data.train.pixels[7], torch.from_numpy(pixels(81)).permute(2, 0, 1))
        assert data.mean == pytest.approx(np.mean([pixels(i) for i in range(6)], (0, 1, 2)) / 255)
        assert ear.said == [f"the 2 images of {name}/ are the validation set; data.split.validation is not used"]


def test_validation_images_that_are_training_images_are_told(root, load, ear, png):
    for kind in CLASSES:
        (root / "val" / kind).mkdir(parents=True)
        png(root / "val" / kind / "x.png", 0)
    load()
    assert ear.said[-1].startswith("WARNING: 2 validation images are training images too")


def test_without_a_test_folder_a_share_of_each_class_is_the_test_set(root, load, ear, png):
    (root / "test").rename(root / "val")
    for i in range(3, 10):
        for label, kind in enumerate(CLASSES):
            png(root / "train" / kind / f"{i}.png", 100 + 2 * i + label)
    data = load(test_share=0.3)
    assert ear.said[0] == "no test/: 6 of the 20 images of train/ are the test set (data.test_share=0.3)"
    assert data.test.labels.all().tolist() == [0, 0, 0, 1, 1, 1]
    assert len(data.train) == 14 + 4
    assert data.validation.tolist() == list(range(14, 18))
    assert not set(data.test.paths) & set(data.train.paths)
    assert all(path.startswith("train/") for path in data.test.paths)


def test_which_images_these_are_hardly_changes_with_one_more(root, load, png):
    (root / "test").rename(root.parent / "aside")
    before = load(test_share=0.5)
    png(root / "train/cat/9.png", 90)
    after = load(test_share=0.5)
    assert len(set(before.test.paths) - set(after.test.paths)) <= 1


def test_a_share_of_nothing_is_no_test_set_and_a_class_of_one_has_none_to_give(root, load):
    (root / "test").rename(root.parent / "aside")
    assert len(load(test_share=0.0).test) == 0
    for i in range(2):
        (root / f"train/dog/{i}.png").unlink()
    with pytest.raises(UserError, match="train/ has one image of 'dog'"):
        load()


# Names.


def test_two_unicode_forms_of_a_name_are_one_class(root, load, ear):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    (root / "train/dog").rename(root / "train" / composed)
    (root / "test/dog").rename(root / "test" / decomposed)
    (root / "train" / decomposed).mkdir()
    (root / "train" / composed / "2.png").rename(root / "train" / decomposed / "2.png")
    data = load()
    assert data.classes == (composed, "cat")
    assert data.train.labels.all().tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.labels.all().tolist() == [0, 0, 1, 1]
    assert sorted(data.train.paths[:3]) == list(data.train.paths[:3])
    assert ear.said == [f"{composed!r}: spelt in two Unicode forms, taken for one class each"]


def test_classes_that_differ_in_case_alone_are_told(root, load, ear, png):
    for split, seed in (("train", 90), ("test", 91)):
        (root / split / "Cat").mkdir()
        png(root / split / "Cat/x.png", seed)
    assert load().classes == ("Cat", "cat", "dog")
    assert ear.said == ["classes 'Cat' and 'cat' differ in case or spacing alone"]


# Links.


@pytest.fixture
def linked(root: Path, tmp_path: Path) -> Path:
    """The test images moved to a folder outside, with links to them left behind, and a link to a folder of cats."""
    store = tmp_path / "elsewhere"
    (root / "test").rename(store)
    for path in [*store.rglob("*.png")]:
        link = root / "test" / path.relative_to(store)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    (root / "train/cat").rename(root / ".cats")
    (root / "train/cat").symlink_to("../.cats")
    return store


def test_links_are_followed_on_request_inside_the_roots(root, load, linked, pixels):
    with pytest.raises(UserError, match=r"is a link out of the folder, to .*data.roots=\["):
        load(links="follow")
    data = load(links="follow", roots=[str(linked)])
    for seed, image in enumerate([*data.train.pixels, *data.test.pixels]):
        assert torch.equal(image, torch.from_numpy(pixels(seed)).permute(2, 0, 1)), seed
    assert data.train.paths[0] == "train/cat/0.png"


def test_what_a_link_leads_to_is_part_of_what_is_decoded_once(load, linked, decoded, png):
    load(links="follow", roots=[str(linked)])
    png(linked / "cat/0.png", 93)
    load(links="follow", roots=[str(linked)])
    assert len(decoded) == 20


def test_a_link_to_nothing_is_a_broken_image_and_a_circle_is_refused(root, load):
    (root / "train/cat/gone.png").symlink_to(root / "train/cat/nowhere.png")
    with pytest.raises(UserError, match=r"1 image, 'train/cat/gone.png' \[not a regular file\]"):
        load(links="follow")
    for one, other in (("cat", "dog"), ("dog", "cat")):
        (root / "train" / one / "loop").symlink_to(root / "train" / other)
    with pytest.raises(UserError, match="is a link that leads in a circle"):
        load(links="follow")


def test_a_root_for_links_that_is_no_folder_is_refused(root, load):
    with pytest.raises(UserError, match=r"data.roots: there is no folder .*nowhere"):
        load(links="follow", roots=[str(root / "nowhere")])


def test_a_link_that_is_planted_after_the_listing_is_not_followed(root, load, tmp_path, monkeypatch, png):
    """The file is checked where it is opened, not only where it was listed."""
    png(tmp_path / "secret.png", 95)
    moved, survey = root / "train/cat/0.png", source.survey

    def planting(*arguments):
        moved.unlink()
        moved.symlink_to(tmp_path / "secret.png")
        return survey(*arguments)

    monkeypatch.setattr(source, "survey", planting)
    with pytest.raises(UserError, match=r"'train/cat/0.png' \[a link\]"):
        load()


# What is said of the images.


def test_transparent_deep_and_blank_images_are_counted_each_time(root, load, ear):
    for split in ("train", "test"):
        black = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
        black.putpixel((0, 0), (0, 0, 0, 0))
        black.save(root / split / "cat/icon.png")
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 10).save(root / split / "dog/deep.png")
    Image.new("RGB", (8, 8), "navy").save(root / "train/dog/blank.png")
    for _ in range(2):
        ear.said.clear()
        load(background="navy")
        assert ear.said[:3] == [
            "2 of 15 images are transparent in places: put on navy (data.background)",
            "2 of 15 images have more than 8 bits a channel: integers from 0 to 630, the range of the training images, "
            "become 0 to 255",
            "1 of 15 images use less than a tenth of the 256 levels: they look blank",
        ]
    ear.said.clear()
    load(bits=12)
    assert any("integers from 0 to 4,095, data.bits=12, become 0 to 255" in text for text in ear.said)


@pytest.mark.parametrize(
    ("mode", "keywords", "cure"),
    [
        ("RGBA", {"background": "black"}, "they are transparent in places, and no different from data.background"),
        ("I;16", {"bits": 16}, "they have more than 8 bits a channel: set data.bits"),
        ("RGB", {}, "look at one of these 6 files"),
    ],
)
def test_training_images_that_are_all_the_same_are_refused_for_that_reason(root, load, stores, mode, keywords, cure):
    for n, path in enumerate(sorted(root.rglob("*.png"))):
        image = Image.new("RGBA", (8, 8), (0, 0, 0, n)) if mode == "RGBA" else Image.new(mode, (8, 8))
        (Image.fromarray(np.full((8, 8), n % 3, np.uint16)) if mode == "I;16" else image).save(path)
    with pytest.raises(UserError, match=rf"^the 6 training images are all the same: every pixel is 0 .*{cure}"):
        load(**keywords)
    assert stores() == []


def test_a_background_that_is_no_colour_is_refused(load):
    with pytest.raises(UserError, match=r"^data.background=transparent: accepted: a colour's name or its code"):
        load(background="transparent")
