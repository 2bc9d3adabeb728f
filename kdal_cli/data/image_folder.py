"""A folder of image files, each squeezed into a square of one size, decoded once."""

from pathlib import Path
from typing import Unpack

from kdal_cli.data._settings import FileSettings, opened
from kdal_cli.dataset import ImageData
from kdal_cli.images.listing import scan
from kdal_cli.images.opening import LARGEST
from kdal_cli.types import Watcher


def image_folder(watcher: Watcher, *, root: str | Path, **settings: Unpack[FileSettings]) -> ImageData:
    """The images below `root`, each `channels` × `size` × `size`, in the order of their paths; class names are sorted.

    All else is as in `data._settings.opened`, but that images are small unless their size is set.
    """
    top = Path(root).expanduser().resolve()
    small: FileSettings = {"size": 32, "max_pixels": LARGEST, **settings}
    return opened(watcher, "image_folder", top, lambda *how: (scan(top, *how), top), squeezed=True, **small)
