"""A table of photographs: path and label, and split if there is one."""

from pathlib import Path
from typing import Annotated, Literal

from kdal_cli.data._decoded import OnBroken, Source, colour
from kdal_cli.data.photos import kept_lines
from kdal_cli.images.decode import Reading
from kdal_cli.images.links import Links
from kdal_cli.images.table import listed
from kdal_cli.types import ImageData, Watcher
from kdal_cli.values import Count, Share, Within


def csv(
    watcher: Watcher,
    *,
    path: str | Path,
    root: str | Path | None = None,
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
    """The images of the table at `path`, whose paths start at `root`, its own folder where that is None.

    An image whose label is empty has none. All else is as in `data.photos`; see `images.table` for what is read.
    """
    reading = Reading(kept_lines(size, keep), channels, colour(background), bits, max_pixels)
    file = Path(path).expanduser().absolute()
    top = (Path(root).expanduser() if root is not None else file.parent).resolve()
    held = Links.of(top, links, roots or [])

    def scan():
        return listed(file, top, held, test_share, classes or [])

    return Source("csv", top, scan, reading, on_broken, Path(store), background).load(watcher, size, crop)
