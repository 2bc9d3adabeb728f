"""The settings that all data sets of people's own image files have, and what becomes of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from PIL import ImageColor

from kdal_cli.data._decoded import OnBroken, Source
from kdal_cli.dataset import ImageData
from kdal_cli.errors import UserError
from kdal_cli.images.decode import Reading
from kdal_cli.images.links import Links
from kdal_cli.images.listing import Listing
from kdal_cli.images.rows import Rows
from kdal_cli.types import Watcher
from kdal_cli.values import Count, NonNegative, Share, Within

GIGABYTE = 10**9

Scan = Callable[[Links, float, list[str]], tuple[Listing, Path | Rows]]
"""What there is and what opens it, given what becomes of links, `test_share` and `classes`."""


class FileSettings(TypedDict, total=False):
    """Of images in files, see `opened`."""

    size: Count
    channels: Literal[1, 3]
    background: str
    bits: Annotated[int, Within(1, 32)] | None
    test_share: Share
    max_pixels: Count
    links: Literal["refuse", "follow"]
    roots: list[str] | None
    classes: list[str] | None
    on_broken: OnBroken
    store: str | Path
    decoded_gb: NonNegative
    quality: Annotated[int, Within(1, 100)]


class PhotoSettings(FileSettings, total=False):
    """Of photographs, which keep their proportions, see `data.photos`."""

    keep: Count | None
    crop: Annotated[float, Within(0, 1, above=True)] | None


def opened(
    watcher: Watcher,
    name: str,
    root: Path,
    scan: Scan,
    *,
    squeezed: bool = False,
    size: int = 128,
    keep: int | None = None,
    crop: float | None = None,
    channels: int = 3,
    background: str = "white",
    bits: int | None = None,
    test_share: float = 0.2,
    max_pixels: int = 200_000_000,
    links: Literal["refuse", "follow"] = "refuse",
    roots: list[str] | None = None,
    classes: list[str] | None = None,
    on_broken: OnBroken = "refuse",
    store: str | Path = "outputs/store",
    decoded_gb: float = 32.0,
    quality: int = 95,
) -> ImageData:
    """The images below `root`, a folder without links; a network sees `channels` × `size` × `size` of each.

    squeezed: into such a square; else `keep` samples along each axis are stored, see `data.photos`. They are decoded
    once into files below `store`, which are opened again as long as the names, sizes and times of the images stay the
    same: pixels to be memory-mapped, or, where these would take more than `decoded_gb` · 10⁹ bytes, JPEGs of `quality`.
    Images that cannot be read are all named and refused, or with `on_broken=skip` left out, named, and recorded.
    mean, std: of the training images. See `images.decode.Reading` for `background`, `bits` and `max_pixels`,
    `images.listing.scan` for `test_share` and `classes`, `images.links.Links` for `links` and `roots`.

    Raises UserError for whatever is wrong with the files, and for training images that are all the same; MachineError
    where the store cannot be written.
    """
    held = Links.of(root, links, roots or [])
    samples = size if squeezed else _samples(size, keep)
    source = Source(
        name=name,
        root=root,
        scan=lambda: scan(held, test_share, classes or []),
        reading=Reading(samples, channels, _colour(background), bits, max_pixels),
        on_broken=on_broken,
        store=Path(store),
        background=background,
        decoded_bytes=round(decoded_gb * GIGABYTE),
        quality=quality,
    )
    return source.load(watcher) if squeezed else source.load(watcher, size, crop)


def _samples(size: int, keep: int | None) -> int:
    """Along each axis of a stored picture. Raises UserError for fewer than a network sees."""
    if keep is not None and keep < size:
        raise UserError(f"data.keep={keep}", where=f"data.size={size}", cure=f"keep at least {size}")
    return keep or -(-3 * size // 2)


def _colour(name: str) -> tuple[int, int, int]:
    """What `data.background` calls a colour. Raises UserError for a name that is none."""
    try:
        red, green, blue, *_ = ImageColor.getrgb(name)
    except ValueError:
        cure = "accepted: a colour's name or its code: white, black, '#808080'"
        raise UserError(f"data.background={name}", cure=cure) from None
    return red, green, blue
