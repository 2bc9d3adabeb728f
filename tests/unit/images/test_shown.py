"""Pictures as people see them: upright, within bounds, encoded by us, and never a reason to fail."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdal_cli.images.shown import SIDE, shown

PIXELS = torch.full((3, 8, 8), 77, dtype=torch.uint8)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_pixels_become_squares_that_can_be_seen() -> None:
    grey = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    picture = shown(grey)
    assert (picture.width, picture.height, picture.suffix) == (2, 1, "png")
    assert opened(picture.data).size == (320, 160)
    assert opened(picture.data).getpixel((159, 0)) == 0
    assert opened(picture.data).getpixel((160, 0)) == 255


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "jpg"), ("png", "png"), ("bmp", "png"), ("gif", "png")])
def test_a_file_is_decoded_and_encoded_anew(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    Image.new("RGB", (40, 30), (200, 10, 10)).save(path)
    picture = shown(PIXELS, path)
    assert (picture.width, picture.height, picture.suffix) == (40, 30, kind)
    assert opened(picture.data).size == (40, 30)


def test_a_large_photo_is_shown_smaller_and_its_size_is_told(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.new("L", (10_000, 2_000)).save(path)
    picture = shown(PIXELS, path)
    assert (picture.width, picture.height) == (10_000, 2_000)
    assert max(opened(picture.data).size) <= SIDE


def test_a_photo_is_upright_and_tells_nothing_beside_its_pixels(tmp_path: Path) -> None:
    path, exif = tmp_path / "photo.jpg", Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a secret place"
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))
    image.save(path, exif=exif, comment=b"a secret place")
    picture = shown(PIXELS, path)
    assert (picture.width, picture.height) == (20, 40)
    assert opened(picture.data).size == (20, 40)
    assert opened(picture.data).getpixel((10, 5))[0] > 200
    assert b"secret" not in picture.data


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    path = tmp_path / "icon.png"
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(path)
    assert opened(shown(PIXELS, path).data).getpixel((0, 0)) == (255, 255, 255)


def test_what_cannot_be_read_is_shown_as_the_model_sees_it(tmp_path: Path) -> None:
    """Deep images too, which have no range of their own here."""
    broken, deep, link, page = (tmp_path / name for name in ("broken.jpg", "deep.png", "link.png", "page.svg"))
    broken.write_bytes(b"\xff\xd8\xff\xe0 no photo")
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(deep)
    link.symlink_to(deep)
    page.write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    for path in (broken, deep, link, page, tmp_path / "missing.png", tmp_path):
        assert shown(PIXELS, path) == shown(PIXELS)


def test_a_bomb_is_not_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (9_000, 9_000)).save(path)
    assert shown(PIXELS, path) == shown(PIXELS)
