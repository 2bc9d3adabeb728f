"""Contact sheets: every image in its place, as it is, with its number and its name."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from kdal_cli.report.contact import HEAD, HIGH, SIDE, WIDE, contact_png


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return image.convert("RGB")


def pixels(count: int, channels: int = 3, size: tuple[int, int] = (8, 8)) -> torch.Tensor:
    rng = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, channels, *size), dtype=torch.uint8, generator=rng)


def names(count: int) -> list[str]:
    return [f"class {i}" for i in range(count)]


def cell(sheet: Image.Image, number: int, columns: int) -> np.ndarray:
    """The square of an image, (SIDE, SIDE, 3)."""
    row, column = divmod(number, columns)
    left, top = column * WIDE + (WIDE - SIDE) // 2, HEAD + row * HIGH
    return np.asarray(sheet.crop((left, top, left + SIDE, top + SIDE)))


def test_the_same_bytes_twice_and_none_of_them_a_date_or_a_version() -> None:
    png = contact_png(pixels(3), names(3), title="a query")
    assert png == contact_png(pixels(3), names(3), title="a query")
    assert not Image.open(io.BytesIO(png)).info


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 5, 1), (5, 5, 1), (7, 7, 1), (10, 10, 1), (11, 10, 2)])
def test_a_sheet_grows_by_rows_of_ten(count: int, columns: int, rows: int) -> None:
    assert opened(contact_png(pixels(count), names(count))).size == (WIDE * columns, HEAD + HIGH * rows)


@pytest.mark.parametrize(("channels", "size"), [(1, (4, 4)), (3, (4, 4)), (3, (2, 4)), (3, (4, 2))])
def test_each_image_is_itself_in_its_place(channels: int, size: tuple[int, int]) -> None:
    """Every pixel of a small image is a square of its colour."""
    images = pixels(12, channels, size)
    sheet, side = opened(contact_png(images, names(12))), SIDE // max(size)
    for n, image in enumerate(images.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()):
        here = cell(sheet, n, 10)
        top, left = ((SIDE - side * length) // 2 for length in size)
        middles = here[top + side // 2 :: side, left + side // 2 :: side][: size[0], : size[1]]
        assert (middles == image).all()


def test_what_is_not_there_is_paper() -> None:
    sheet = opened(contact_png(pixels(11), names(11)))
    assert all((cell(sheet, n, 10) == 255).all() for n in range(11, 20))
    assert not any((cell(sheet, n, 10) == 255).all() for n in range(11))


def test_large_images_are_averaged_down() -> None:
    stripes = torch.zeros(1, 3, 2 * SIDE, 2 * SIDE, dtype=torch.uint8)
    stripes[..., ::2] = 200
    assert (cell(opened(contact_png(stripes, ["a"])), 0, 5) == 100).all()


def test_every_name_is_written_with_its_number_and_long_ones_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    text = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda draw, at, said, *more, **style: written.append(said) or text(draw, at, said, *more, **style),
    )
    contact_png(pixels(12), [*names(11), "a very long name of a class"], title="query", subtitle="round 3")
    assert written == ["query", "round 3", *(f"{n + 1}. class {n}" for n in range(11)), "12. a very long…"]
    written.clear()
    contact_png(pixels(1), ["a very long name of a class"])
    assert written[-1] == "1. a very long name …"


def test_names_from_outside_are_drawn_and_not_obeyed() -> None:
    evil = ["$\\frac{$", "\x1b[2J\nline", "鹿", "x" * 500, ""]
    opened(contact_png(pixels(5), evil, title="$\\bad{$\n\x00", subtitle="y" * 1000))
