"""Parquet files of photographs: bytes or paths, and a label, as Hugging Face's `datasets` lays them out."""

from pathlib import Path
from typing import Unpack

from kdal_cli.data._settings import PhotoSettings, opened
from kdal_cli.dataset import ImageData
from kdal_cli.images.links import Links
from kdal_cli.images.listing import Listing
from kdal_cli.images.parquet import listed
from kdal_cli.images.rows import Rows
from kdal_cli.types import Watcher


def parquet(
    watcher: Watcher,
    *,
    path: str | Path,
    root: str | Path | None = None,
    image: str | None = None,
    label: str | None = None,
    **settings: Unpack[PhotoSettings],
) -> ImageData:
    """The images of a Parquet file, or of all that lie below a folder, each named after its split.

    image, label: names of columns, where neither type nor name tells them. root: where paths of files start, the folder
    of the Parquet files where it is None. All else is as in `data.photos`; see `images.parquet` for what is read.
    """
    place = Path(path).expanduser().absolute()
    top = (Path(root).expanduser() if root is not None else place if place.is_dir() else place.parent).resolve()

    def scan(links: Links, test_share: float, classes: list[str]) -> tuple[Listing, Rows]:
        return listed(place, top, links, test_share, classes, image, label)

    return opened(watcher, "parquet", top, scan, **settings)
