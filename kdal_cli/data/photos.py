"""A folder of photographs of any proportions: kept larger than a network sees them, and cropped at random."""

from pathlib import Path
from typing import Annotated, Literal

from kdal_cli.data._decoded import OnBroken, Source, colour
from kdal_cli.errors import UserError
from kdal_cli.images.decode import Reading
from kdal_cli.images.links import Links
from kdal_cli.images.listing import scan
from kdal_cli.types import ImageData, Watcher
from kdal_cli.values import Count, Share, Within


def photos(
    watcher: Watcher,
    *,
    root: str | Path,
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
    """The images below `root`; a network sees `channels` × `size` × `size` of each.

    Of every picture `keep` × `keep` samples are stored, half as many again as `size` along each axis where it is None,
    and its proportions beside them. What is seen without augmentation is the square of `crop` times the shorter side in
    the middle; where it is None, of .875 in whole pixels. All else is as in `data.image_folder`.
    """
    lines = kept_lines(size, keep)
    reading = Reading(lines, channels, colour(background), bits, max_pixels)
    top = Path(root).expanduser().resolve()
    held = Links.of(top, links, roots or [])
    source = Source(
        "photos", top, lambda: scan(top, held, test_share, classes or []), reading, on_broken, Path(store), background
    )
    return source.load(watcher, size, crop)


def kept_lines(size: int, keep: int | None) -> int:
    """Samples along each axis of a stored picture. Raises UserError for fewer than a network sees."""
    if keep is not None and keep < size:
        raise UserError(f"data.keep={keep}", where=f"data.size={size}", cure=f"keep at least {size}")
    return keep or -(-3 * size // 2)
