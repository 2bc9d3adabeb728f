"""A folder of image files, each squeezed into a square of one size, decoded once."""

from pathlib import Path
from typing import Annotated, Literal

from kdal_cli.data._decoded import OnBroken, Source, colour
from kdal_cli.images.decode import Reading
from kdal_cli.images.links import Links
from kdal_cli.images.listing import scan
from kdal_cli.images.opening import LARGEST
from kdal_cli.types import ImageData, Watcher
from kdal_cli.values import Count, Share, Within


def image_folder(
    watcher: Watcher,
    *,
    root: str | Path,
    size: Count = 32,
    channels: Literal[1, 3] = 3,
    background: str = "white",
    bits: Annotated[int, Within(1, 32)] | None = None,
    test_share: Share = 0.2,
    max_pixels: Count = LARGEST,
    links: Literal["refuse", "follow"] = "refuse",
    roots: list[str] | None = None,
    classes: list[str] | None = None,
    on_broken: OnBroken = "refuse",
    store: str | Path = "outputs/store",
) -> ImageData:
    """The images below `root`, each `channels` × `size` × `size`, in the order of their paths; class names are sorted.

    They are decoded once, into memory-mapped files below `store`, which are opened again as long as the names, sizes
    and times of the files stay the same. Images that cannot be read are all named and refused, or with `on_broken=skip`
    left out, named, and recorded in the store's index. mean, std: of the training images. See `images.decode.Reading`
    for `background`, `bits` and `max_pixels`, `images.listing.scan` for `test_share` and `classes`,
    `images.links.Links` for `links` and `roots`.

    Raises UserError for whatever is wrong with the folder, and for training images that are all the same; MachineError
    where the store cannot be written.
    """
    reading = Reading(size, channels, colour(background), bits, max_pixels)
    top = Path(root).expanduser().resolve()
    held = Links.of(top, links, roots or [])
    source = Source(
        "image_folder",
        top,
        lambda: scan(top, held, test_share, classes or []),
        reading,
        on_broken,
        Path(store),
        background,
    )
    return source.load(watcher)
