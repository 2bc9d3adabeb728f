"""Every mode and depth of image file becomes the pixels that a person sees; what cannot be read is named."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from images import files
from PIL import Image

from kdal_cli.images.decode import Found, Picture, Reading, decode, decode_all, survey
from kdal_cli.images.listing import Entry
from kdal_cli.images.opening import quietly
from kdal_cli.types import Unwatched

SIDE = 8
READING = Reading(SIDE, 3)
RAMP = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) * 4
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], 2)
SHAPE = np.zeros((SIDE, SIDE), bool)
SHAPE[2:6, 3:5] = True

Write = Callable[[Path], None]


def entry(path: Path) -> Entry:
    return Entry(path.name, 0, path.stat().st_size, 0)


def read(path: Path, reading: Reading = READING) -> Picture | str:
    """An image that is all of the training set."""
    with quietly():
        return decode(path.parent, entry(path), reading, survey(path.parent, [entry(path)], reading, Unwatched()))


def seen(path: Path, reading: Reading = READING) -> np.ndarray:
    """Its pixels, (H, W, c)."""
    picture = read(path, reading)
    assert isinstance(picture, Picture), picture
    return picture.pixels.transpose(1, 2, 0)


# Transparency.


def in_alpha(mode: str) -> Image.Image:
    """Black all over, and only inside the shape not transparent."""
    alpha = Image.fromarray((SHAPE * 255).astype(np.uint8))
    image = Image.new({"LA": "L", "RGBA": "RGB", "PA": "L"}[mode], (SIDE, SIDE))
    image.putalpha(alpha)
    return image.convert(mode) if mode == "PA" else image


def palette(transparency: int | bytes) -> Write:
    """Colour 0 outside, colour 1 inside, both black."""

    def write(path: Path) -> None:
        image = Image.fromarray(SHAPE.astype(np.uint8))
        image.putpalette([0] * 768)
        image.save(path, transparency=transparency)

    return write


def keyed(mode: str) -> Write:
    """One colour of an image without alpha stands for nothing."""

    def write(path: Path) -> None:
        image = Image.fromarray(np.where(SHAPE, 0, 9).astype(np.uint8)).convert(mode)
        image.save(path, transparency=9 if mode == "L" else (9, 9, 9))

    return write


def deep_grey(path: Path) -> None:
    files.png16(path, np.stack([np.zeros_like(SHAPE, np.uint16), SHAPE.astype(np.uint16) * 65535], 2))


TRANSPARENT: dict[str, tuple[str, Write]] = {
    "LA": ("png", lambda path: in_alpha("LA").save(path)),
    "RGBA": ("png", lambda path: in_alpha("RGBA").save(path)),
    "RGBA TIFF": ("tif", lambda path: in_alpha("RGBA").save(path)),
    "PA TIFF": ("tif", lambda path: in_alpha("LA").save(path)),
    "WebP": ("webp", lambda path: in_alpha("RGBA").save(path, lossless=True, exact=True)),
    "palette, one colour": ("png", palette(0)),
    "palette, alpha each": ("png", palette(bytes([0, 255]))),
    "GIF": ("gif", palette(0)),
    "grey, one value": ("png", keyed("L")),
    "RGB, one colour": ("png", keyed("RGB")),
    "16 bits LA": ("png", deep_grey),
    "16 bits RGBA": (
        "png",
        lambda path: files.png16(path, np.dstack([np.zeros((SIDE, SIDE, 3), np.uint16), SHAPE * np.uint16(65535)])),
    ),
    "16 bits grey, one value": (
        "png",
        lambda path: files.png16(path, np.where(SHAPE, 0, 300).astype(np.uint16), transparent=(300,)),
    ),
    "16 bits RGB, one colour": (
        "png",
        lambda path: files.png16(
            path, np.where(SHAPE, 0, 300).astype(np.uint16)[..., None].repeat(3, 2), transparent=(300, 300, 300)
        ),
    ),
}


@pytest.mark.parametrize(("background", "wanted"), [((255, 255, 255), (255,) * 3), ((10, 200, 30), (10, 200, 30))])
@pytest.mark.parametrize("kind", TRANSPARENT)
def test_what_is_transparent_shows_the_background(tmp_path: Path, kind: str, background, wanted):
    suffix, write = TRANSPARENT[kind]
    write(tmp_path / f"x.{suffix}")
    reading = replace(READING, background=background)
    picture = read(tmp_path / f"x.{suffix}", reading)
    assert isinstance(picture, Picture), picture
    assert picture.transparent
    pixels = picture.pixels.transpose(1, 2, 0)
    assert (pixels[SHAPE] == 0).all()
    assert (pixels[~SHAPE] == wanted).all()


def test_half_transparent_is_half_way_to_the_background_in_grey_as_well(tmp_path: Path):
    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 51))
    image.save(tmp_path / "x.png")
    assert (seen(tmp_path / "x.png") == 204).all()
    assert (seen(tmp_path / "x.png", replace(READING, channels=1)) == 204).all()


def test_alpha_that_is_opaque_everywhere_is_no_transparency(tmp_path: Path):
    Image.fromarray(np.dstack([COLOURS, np.full_like(RAMP, 255)])).save(tmp_path / "x.png")
    picture = read(tmp_path / "x.png")
    assert isinstance(picture, Picture)
    assert not picture.transparent
    assert (picture.pixels.transpose(1, 2, 0) == COLOURS).all()


# Depth.

TWELVE = 3000 + RAMP.astype(np.uint16)
"""Values from 3,000 to 3,252."""

DEEP: dict[str, tuple[str, Write]] = {
    "I;16 PNG": ("png", lambda path: Image.fromarray(TWELVE).save(path)),
    "I;16 TIFF": ("tif", lambda path: Image.fromarray(TWELVE).save(path)),
    "I;16 TIFF, big-endian": ("tif", lambda path: files.tiff(path, TWELVE[..., None], ">")),
    "I;16 TIFF, packed": ("tif", lambda path: Image.fromarray(TWELVE).save(path, compression="tiff_lzw")),
    "PGM": ("pgm", lambda path: path.write_bytes(b"P5 8 8 65535\n" + TWELVE.astype(">u2").tobytes())),
    "int16": ("tif", lambda path: files.tiff(path, (TWELVE[..., None] - 3100).astype(np.int16))),
    "int32": ("tif", lambda path: files.tiff(path, TWELVE[..., None].astype(np.int32) - 3100)),
    "uint32, over half": ("tif", lambda path: files.tiff(path, TWELVE[..., None].astype(np.uint32) + 2_147_480_000)),
    "float32": ("tif", lambda path: files.tiff(path, TWELVE[..., None].astype(np.float32) / 65536)),
    "float32, packed": (
        "tif",
        lambda path: Image.fromarray(TWELVE.astype(np.float32)).save(path, compression="tiff_deflate"),
    ),
    "PFM": ("pfm", lambda path: path.write_bytes(b"Pf\n8 8\n-1.0\n" + TWELVE[::-1].astype("<f4").tobytes())),
    "RGB PNG": ("png", lambda path: files.png16(path, TWELVE[..., None].repeat(3, 2))),
    "RGBA PNG": ("png", lambda path: files.png16(path, np.dstack([TWELVE] * 3 + [np.full_like(TWELVE, 65535)]))),
    "LA PNG": ("png", lambda path: files.png16(path, np.dstack([TWELVE, np.full_like(TWELVE, 65535)]))),
    "RGB TIFF": ("tif", lambda path: files.tiff(path, TWELVE[..., None].repeat(3, 2))),
    "RGB TIFF, big-endian": ("tif", lambda path: files.tiff(path, TWELVE[..., None].repeat(3, 2), ">")),
}


@pytest.mark.parametrize("kind", DEEP)
def test_the_range_of_the_training_images_becomes_0_to_255(tmp_path: Path, kind: str):
    suffix, write = DEEP[kind]
    write(tmp_path / f"x.{suffix}")
    picture = read(tmp_path / f"x.{suffix}")
    assert isinstance(picture, Picture), picture
    assert picture.deep
    assert not picture.transparent
    wanted = np.round(RAMP * (255 / 252))
    assert (picture.pixels == wanted).all()


def test_bits_say_another_range_and_leave_floats_alone(tmp_path: Path):
    files.png16(tmp_path / "x.png", TWELVE)
    assert seen(tmp_path / "x.png", replace(READING, bits=12)).max() == round(3252 / 4095 * 255)
    files.tiff(tmp_path / "x.tif", TWELVE[..., None].astype(np.float32))
    assert seen(tmp_path / "x.tif", replace(READING, bits=12)).max() == 255


def test_one_range_for_all_decided_by_the_training_images_alone(tmp_path: Path, ear):
    whole = np.zeros((SIDE, SIDE), np.uint16)
    whole[0, 0] = 65535
    files.png16(tmp_path / "whole.png", whole)
    files.png16(tmp_path / "twelve.png", TWELVE)
    Image.fromarray(RAMP).save(tmp_path / "eight.png")
    entries = [entry(tmp_path / f"{name}.png") for name in ("whole", "twelve", "eight")]
    ranges = survey(tmp_path, entries, READING, ear)
    assert ranges == {"integer": (0, 65535)}
    found = Found()
    taken = decode_all(tmp_path, entries, READING, ranges, found, ear)
    _, twelve, eight = (each.picture.pixels for each in taken)
    assert twelve.max() == round(3252 / 257)
    assert (eight[0] == RAMP).all()
    assert (found.deep, found.faint, found.transparent, found.broken) == (2, 1, 0, {})
    narrow = survey(tmp_path, entries[1:], READING, ear)
    cut = decode(tmp_path, entries[0], READING, narrow)
    assert isinstance(cut, Picture)
    assert sorted(set(cut.pixels.flatten().tolist())) == [0, 255]


def test_a_deep_image_that_the_training_images_say_nothing_about_is_named(tmp_path: Path):
    files.png16(tmp_path / "x.png", TWELVE)
    answer = decode(tmp_path, entry(tmp_path / "x.png"), READING, {})
    assert answer == "integer values of more than 8 bits, as no training image has: set data.bits"


def test_sixteen_bits_a_pixel_are_not_sixteen_a_channel(tmp_path: Path):
    """BMP's 5-6-5 and the like."""
    Image.fromarray(COLOURS).save(tmp_path / "x.bmp")
    data = bytearray((tmp_path / "x.bmp").read_bytes())
    data[28:30] = (16).to_bytes(2, "little")
    (tmp_path / "x.bmp").write_bytes(data)
    picture = read(tmp_path / "x.bmp")
    assert isinstance(picture, Picture), picture
    assert not picture.deep


# Everything else that people have.


def cmyk(path: Path) -> None:
    Image.fromarray(COLOURS).convert("CMYK").save(path, quality=100, subsampling=0)


def animated(path: Path) -> None:
    first, second = (Image.fromarray(image) for image in (COLOURS, 255 - COLOURS))
    first.save(path, save_all=True, append_images=[second], **({"lossless": True} if path.suffix == ".webp" else {}))


@pytest.mark.parametrize(
    ("name", "write", "off"),
    [
        ("rgb.jpg", lambda path: Image.fromarray(COLOURS).save(path, quality=100, subsampling=0), 4),
        ("progressive.jpg", lambda path: Image.fromarray(COLOURS).save(path, quality=100, progressive=True), 40),
        ("cmyk.jpg", cmyk, 4),
        ("cmyk.tif", cmyk, 1),
        ("mpo.jpg", lambda path: animated(path.with_suffix(".mpo")) or path.with_suffix(".mpo").rename(path), 60),
        ("apng.png", animated, 0),
        ("animated.webp", animated, 0),
        ("several.tif", animated, 0),
        ("rgb.bmp", lambda path: Image.fromarray(COLOURS).save(path), 0),
        ("rgb.ppm", lambda path: Image.fromarray(COLOURS).save(path), 0),
        ("packed.tif", lambda path: Image.fromarray(COLOURS).save(path, compression="tiff_lzw"), 0),
    ],
)
def test_formats_give_their_first_frame_in_colour(tmp_path: Path, name: str, write: Write, off: int):
    write(tmp_path / name)
    assert np.abs(seen(tmp_path / name).astype(int) - COLOURS).max() <= off


def test_one_bit_and_palettes_without_transparency(tmp_path: Path):
    Image.fromarray(SHAPE).save(tmp_path / "x.png")
    assert (seen(tmp_path / "x.png") == SHAPE[..., None] * 255).all()
    Image.fromarray(COLOURS).quantize(64).save(tmp_path / "y.png")
    assert (seen(tmp_path / "y.png") == np.asarray(Image.open(tmp_path / "y.png").convert("RGB"))).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_grey_and_colour_of_every_mode_have_the_shape_asked_for(tmp_path: Path, mode: str, channels: int):
    image = Image.fromarray(TWELVE) if mode == "I;16" else Image.fromarray(COLOURS).convert(mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image.save(path)
    assert seen(path, Reading(5, channels)).shape == (5, 5, channels)


BROKEN_EXIF = [
    b"",
    b"Exif\0\0",
    b"II*\0",
    b"\0\x08\0\x02\x01\x12\0\x03" * 4,
    b"Exif\0\0II*\0\xff\xff\xff\x7f",
    b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03",
    b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0",
]


@pytest.mark.parametrize("exif", BROKEN_EXIF)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_sound_image_with_broken_exif_is_read(tmp_path: Path, suffix: str, exif: bytes):
    Image.fromarray(COLOURS).save(tmp_path / f"x.{suffix}", exif=exif, **({"quality": 100} if suffix == "jpg" else {}))
    assert seen(tmp_path / f"x.{suffix}").shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_photographs_stand_upright(tmp_path: Path, suffix: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(COLOURS)
    image.save(tmp_path / f"x.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    turns = {5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1), 3: (False, 2), 2: (True, 0), 4: (True, 2)}
    mirrored, quarters = turns.get(orientation, (False, 0))
    wanted = np.rot90(COLOURS[:, ::-1] if mirrored else COLOURS, quarters)
    assert (seen(tmp_path / f"x.{suffix}") == wanted).all()


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("x.jpg", lambda path: path.write_bytes(jpeg()[:-200]), "broken: image file is truncated"),
        ("x.png", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "not an image that is read"),
        ("x.eps", lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"), "not an image"),
        ("x.pdf", lambda path: path.write_bytes(b"%PDF-1.4\n"), "not an image that is read"),
        (
            "x.heic",
            lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99)),
            "HEIC, which is not read: convert",
        ),
        ("x.tif", lambda path: files.tiff(path, np.zeros((8, 8, 1), np.uint32), ">"), "a TIFF of a kind that is not"),
        ("y.tif", lambda path: files.tiff(path, np.full((8, 8, 1), np.inf, np.float32)), "not finite numbers"),
        ("z.tif", lambda path: files.tiff(path, np.zeros((8, 8, 1), np.float64)), "a TIFF of a kind that is not read"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str, write: Write, reason: str):
    write(tmp_path / name)
    answer = read(tmp_path / name)
    assert isinstance(answer, str)
    assert reason in answer


def jpeg() -> bytes:
    Image.fromarray(COLOURS).resize((64, 64)).save(out := io.BytesIO(), "JPEG")
    return out.getvalue()
