"""Parquet files of photographs: bytes or paths, and a label, as Hugging Face's `datasets` lays them out."""

from pathlib import Path
from typing import Annotated, Literal

from kdal_cli.data._decoded import OnBroken, Source, colour
from kdal_cli.data.photos import kept_lines
from kdal_cli.images.decode import Reading
from kdal_cli.images.links import Links
from kdal_cli.images.parquet import listed
from kdal_cli.types import ImageData, Watcher
from kdal_cli.values import Count, Share, Within


def parquet(
    watcher: Watcher,
    *,
    path: str | Path,
    root: str | Path | None = None,
    image: str | None = None,
    label: str | None = None,
    size: Count = 128,
    keep: Count | None = None,
    crop: Annotated[float, Within(0, 1, above=True)] | None = None,
    channels: Literal[1, 3] = 3,
    background: str = "white",
    bits: Annotated[int, Within(1, 32)] | None = None,
    test_share: Share = 0.2,
    max_pixels: Count = 200_000_000,
    links: Literal["refuse", "follow"] = "refuse",
    roots: list[str] | None = None,
    classes: list[str] | None = None,
    on_broken: OnBroken = "refuse",
    store: str | Path = "outputs/store",
) -> ImageData:
    """The images of a Parquet file, or of all that lie below a folder, each named after its split.

    image, label: names of columns, where neither type nor name tells them. root: where paths of files start, the folder
    of the Parquet files where it is None. All else is as in `data.photos`; see `images.parquet` for what is read.
    """
    reading = Reading(kept_lines(size, keep), channels, colour(background), bits, max_pixels)
    place = Path(path).expanduser().absolute()
    top = (Path(root).expanduser() if root is not None else place if place.is_dir() else place.parent).resolve()
    held = Links.of(top, links, roots or [])

    def scan():
        return listed(place, top, held, test_share, classes or [], image, label)

    _, rows = scan()
    source = Source("parquet", top, lambda: scan()[0], reading, on_broken, Path(store), background, rows)
    return source.load(watcher, size, crop)
