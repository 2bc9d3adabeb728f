"""Photographs read by Pillow, as `data=photos` does, and by torchcodec: are the pixels alike, and which is faster?

    python benchmarks/decoders.py PHOTOS        # a folder of JPEGs, somewhere below it

The photographs as they are; enlarged to the size of a phone's, in one scan and progressive; and JPEGs of other kinds, a
few of each, of a folder that is thrown away. Times are those of the processor, the least of three passes, one thread,
files in the page cache; what comes after the pixels, the same for each reader, is not in them.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchcodec.decoders import decode_jpeg  # pyright: ignore[reportPrivateImportUsage]

from kdal_cli.images.decode import Picture, Reading, decode
from kdal_cli.images.listing import Entry
from kdal_cli.images.opening import Unreadable, opened, quietly, regular
from kdal_cli.images.upright import turn

ORIENTATION = 274
"""The tag of EXIF that says which way up a photograph is."""

READING = Reading(192, 3)

Reader = Callable[[Path], np.ndarray | str]
"""(c, 192, 192) uint8, or in words why there is none."""


def as_stored(path: Path) -> np.ndarray | str:
    """What `data=photos` makes of it."""
    picture = decode(path.parent, Entry(path.name, 0, path.stat().st_size, 0), READING, {})
    return picture.pixels if isinstance(picture, Picture) else picture


def by_pillow(path: Path) -> np.ndarray | str:
    try:
        with regular(path) as file, opened(file, READING.longest) as image:
            square = image.convert("RGB").resize((READING.size, READING.size), Image.Resampling.BILINEAR)
            exif = image.info.get("exif")
            upright = turn(exif) if isinstance(exif, bytes) else None
            return np.asarray(square if upright is None else square.transpose(upright)).transpose(2, 0, 1)
    except (OSError, Unreadable) as error:
        return str(error)


def by_torchcodec(path: Path) -> np.ndarray | str:
    whole = _decoded(path)
    if isinstance(whole, str):
        return whole
    size = (READING.size, READING.size)
    return interpolate(whole[None], size, mode="bilinear", antialias=True)[0].numpy()


def by_both(path: Path) -> np.ndarray | str:
    """Decoded by torchcodec, resized by Pillow."""
    whole = _decoded(path)
    return whole if isinstance(whole, str) else _resized(Image.fromarray(whole.permute(1, 2, 0).contiguous().numpy()))


def _decoded(path: Path) -> torch.Tensor | str:
    """(c, H, W) uint8, upright."""
    try:
        whole = decode_jpeg(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8))
    except RuntimeError as error:
        return str(error)
    assert isinstance(whole, torch.Tensor)  # a list for a list
    return whole


def _resized(image: Image.Image) -> np.ndarray:
    rows = np.asarray(image.resize((READING.size, READING.size), Image.Resampling.BILINEAR))
    return rows.transpose(2, 0, 1)


READERS: dict[str, Reader] = {"Pillow": by_pillow, "torchcodec": by_torchcodec, "torchcodec, Pillow resizes": by_both}


def compare(name: str, paths: Sequence[Path]) -> None:
    """A line for each reader: milliseconds an image, and how far its pixels are from those that are stored."""
    stored = [as_stored(path) for path in paths]
    for reader, read in READERS.items():
        spent, answers = [], list[np.ndarray | str]()
        for _ in range(3):
            began = time.process_time()
            answers = [read(path) for path in paths]
            spent.append(1000 * (time.process_time() - began) / len(paths))
        count = sum(not isinstance(answer, str) for answer in answers)
        both = [
            (a, b) for a, b in zip(stored, answers, strict=True) if not isinstance(a, str) and not isinstance(b, str)
        ]
        gaps = np.concatenate([np.abs(a.astype(int) - b).ravel() for a, b in both] or [np.zeros(0, int)])
        apart = f"{gaps.max()} | {100 * (gaps > 0).mean():.2f} | {100 * (gaps > 1).mean():.2f}" if both else "| | "
        print(f"| {name} | {reader} | {count} of {len(paths)} | {min(spent):.2f} | {apart} |", flush=True)


def variants(photo: Path, to: Path) -> dict[str, list[Path]]:
    """One photograph as JPEGs of other kinds."""
    with Image.open(photo) as source:
        image = source.convert("RGB")
    found: dict[str, list[Path]] = {}

    def save(kind: str, name: str, picture: Image.Image, **how: Any) -> None:
        path = to / f"{name}.jpg"
        picture.save(path, quality=90, **how)
        found.setdefault(kind, []).append(path)

    for number in range(2, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = number
        save("turned by EXIF", f"turned{number}", image, exif=exif)
    save("grey", "grey", image.convert("L"))
    save("CMYK", "cmyk", image.convert("CMYK"))
    save("4:4:4", "full", image, subsampling=0)
    save("RGB, no YCbCr", "rgb", image, keep_rgb=True)
    whole = io.BytesIO()
    image.save(whole, format="JPEG", quality=90)
    cut = to / "cut.jpg"
    cut.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    found["cut off half-way"] = [cut]
    flipped = bytearray(whole.getvalue())
    for place in range(len(flipped) // 2, len(flipped) - 2, 97):
        flipped[place] ^= 255
    (to / "flipped.jpg").write_bytes(flipped)
    found["bytes flipped"] = [to / "flipped.jpg"]
    return found


def enlarged(photos: Sequence[Path], to: Path, width: int, **how: Any) -> list[Path]:
    """To `width` pixels, with grain, so that a decoder has something to do."""
    to.mkdir()
    for number, photo in enumerate(photos):
        with Image.open(photo) as source:
            large = source.convert("RGB").resize((width, width * 3 // 4), Image.Resampling.BICUBIC)
        grain = np.random.default_rng(number).integers(-8, 9, (large.height, large.width, 1))
        noisy = np.clip(np.asarray(large).astype(int) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(to / f"{number}.jpg", quality=90, **how)
    return sorted(to.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    photos = sorted(parser.parse_args().photos.rglob("*.jpg"))
    torch.set_num_threads(1)
    print("| files | reader | read | ms an image | largest difference | % of values apart | by more than 1 |")
    print("|---|---|---|---|---|---|---|")
    with quietly(), tempfile.TemporaryDirectory() as folder:
        to = Path(folder)
        compare("as they are", photos)
        for width in (500, 1600, 4000):
            compare(f"{width} pixels wide", enlarged(photos[:: len(photos) // 20], to / str(width), width))
        late = enlarged(photos[:: len(photos) // 20], to / "progressive", 1600, progressive=True)
        compare("1600 wide, progressive", late)
        for kind, paths in variants(photos[0], to).items():
            compare(kind, paths)


if __name__ == "__main__":
    main()
