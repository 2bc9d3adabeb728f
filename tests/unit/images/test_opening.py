"""What opening an image file costs is known from its header; and nothing but a regular file is opened."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from images import files, memory
from PIL import Image, TiffImagePlugin

from kdal_cli.images.opening import ROOM, Unreadable, opened, quietly, regular

SLACK = 15_000_000
"""Bytes beyond `ROOM` for copies of blocks, and for what a decoder needs whatever the image."""


def scene(side: int) -> Image.Image:
    """Something between a photograph and a drawing."""
    y, x = np.mgrid[:side, :side].astype(np.uint32)
    return Image.fromarray(np.stack([x >> 3, y >> 3, (x ^ y) >> 2], 2).astype(np.uint8))


def write_all(folder: Path, side: int) -> list[Path]:
    """Square images of one scene, in every way in which they are stored."""
    rgb = scene(side)
    grey, rgba, palette, deep = rgb.convert("L"), rgb.copy(), rgb.quantize(64), np.asarray(rgb).astype(np.uint16) * 200
    rgba.putalpha(128)
    turned = Image.Exif()
    turned[274] = 6
    lzw, fast = {"compression": "tiff_lzw"}, {"compress_level": 1}
    for name, image, keywords in [
        ("rgb.png", rgb, fast),
        ("rgba.png", rgba, fast),
        ("palette.png", palette, {"transparency": 3, **fast}),
        ("bit.png", grey.convert("1"), fast),
        ("grey16.png", Image.fromarray(deep[..., 0]), fast),
        ("float.tif", Image.fromarray(deep[..., 0].astype(np.float32)), lzw),
        ("cmyk.tif", rgb.convert("CMYK"), lzw),
        ("turned.tif", rgb, {"exif": turned, **lzw}),
        ("rgb.jpg", rgb, {}),
        ("progressive.jpg", rgb, {"progressive": True, "subsampling": 0}),
        ("cmyk.jpg", rgb.convert("CMYK"), {"progressive": True}),
        ("rgba.webp", rgba, {"quality": 50, "method": 0}),
        ("palette.gif", palette, {"transparency": 3}),
        ("rgb.bmp", rgb, {}),
    ]:
        image.save(folder / name, **keywords)
    files.png16(folder / "rgb16.png", deep)
    files.png16(folder / "la16.png", deep[..., :2])
    files.tiff(folder / "rgb16.tif", deep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TiffImagePlugin, "STRIP_SIZE", 1 << 40)
        rgba.save(folder / "one_strip.tif", compression="tiff_adobe_deflate")
    return sorted(folder.iterdir())


def took(rooms: list[int], paths: list[Path]) -> list[tuple[int, str, int, str]]:
    """(room, file, bytes at most, what came of it), each file decoded to 32 × 32 with each room."""
    words = [sys.executable, memory.__file__, "32", ",".join(map(str, rooms)), *map(str, paths)]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    cases = [(room, path.name) for room in rooms for path in paths]
    answers = [line.split(" ", 1) for line in lines]
    return [(*case, int(count), answer) for case, (count, answer) in zip(cases, answers, strict=True)]


def test_no_image_takes_more_memory_than_there_is_room_for(tmp_path: Path):
    for room, name, taken, answer in took([35_000_000, 70_000_000], write_all(tmp_path, 1600)):
        assert taken < room + SLACK, name
        if answer != "read":
            assert room < 70_000_000, name
            assert taken < 2_000_000, name  # refused by its header
            assert "to decode, more than" in answer or "a file of" in answer, name


@pytest.mark.slow
def test_nor_does_one_of_the_size_that_is_just_allowed(tmp_path: Path):
    for _, name, taken, _ in took([ROOM], write_all(tmp_path, 4600)):
        assert taken < 300_000_000, name


def test_a_photo_of_many_megapixels_is_read_reduced_on_request(tmp_path: Path):
    Image.new("RGB", (9000, 8000), "red").save(tmp_path / "x.jpg")
    refused = pytest.raises(Unreadable, match=r"9,000 × 8,000 pixels, more than data.max_pixels=64000000")
    with quietly(), regular(tmp_path / "x.jpg") as file:
        with refused, opened(file, 100):
            pass
        with opened(file, 100, 72_000_000) as image:
            assert image.size == (1125, 1000)
        with opened(file, 1500, 72_000_000) as image:
            assert image.size == (4500, 4000)


@pytest.mark.parametrize(
    ("width", "height", "kind", "bits", "reason"),
    [
        (9000, 9000, files.GREY, 1, "9,000 × 9,000 pixels, more than data.max_pixels"),
        (2**31 - 1, 2**31 - 1, files.COLOUR, 8, "more than data.max_pixels"),
        (1, 50_000_000, files.COLOUR, 8, r"1 × 50,000,000 pixels of PNG take 7,800 MB to decode, more than 285 MB"),
        (50_000_000, 1, files.COLOUR, 8, r"50,000,000 × 1 pixels of PNG take 1,400 MB to decode"),
        (6000, 7000, files.COLOUR_ALPHA, 8, r"6,000 × 7,000 pixels of PNG take 337 MB to decode"),
    ],
)
def test_a_header_that_promises_too_much_is_enough(tmp_path: Path, width, height, kind, bits, reason: str):
    files.write_png(tmp_path / "x.png", width, height, bits, kind, files.chunk(b"IDAT", b"x"))
    with quietly(), regular(tmp_path / "x.png") as file, pytest.raises(Unreadable, match=reason), opened(file, 32):
        pass


def test_links_pipes_folders_and_giants_are_not_opened(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "giant").open("wb") as file:
        file.truncate(400_000_000)  # a hole: it takes no space
    for name, reason in {
        "link": "a link",
        "pipe": "not a regular file",
        ".": "not a regular file",
        "nowhere": "cannot be opened, No such file",
        "giant": "a file of 400 MB",
    }.items():
        with pytest.raises(Unreadable, match=reason), regular(tmp_path / name):
            pass


def test_formats_that_start_other_programs_are_never_asked():
    script = io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    with pytest.raises(Unreadable, match="not an image that is read"), opened(script, 8):
        pass
