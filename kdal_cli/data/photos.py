"""A folder of photographs of any proportions: kept larger than a network sees them, and cropped at random."""

from pathlib import Path
from typing import Unpack

from kdal_cli.data._settings import PhotoSettings, opened
from kdal_cli.dataset import ImageData
from kdal_cli.images.listing import scan
from kdal_cli.types import Watcher


def photos(watcher: Watcher, *, root: str | Path, **settings: Unpack[PhotoSettings]) -> ImageData:
    """The images below `root`, in the order of their paths; class names are sorted.

    Of every picture `keep` × `keep` samples are stored, half as many again as `size` along each axis where it is None,
    and its proportions beside them. What is seen without augmentation is the square of `crop` times the shorter side in
    the middle; where it is None, of .875 in whole pixels. All else is as in `data._settings.opened`.
    """
    top = Path(root).expanduser().resolve()
    return opened(watcher, "photos", top, lambda *how: (scan(top, *how), top), **settings)
