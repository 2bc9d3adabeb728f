"""A table of photographs: path and label, and split if there is one."""

from pathlib import Path
from typing import Unpack

from kdal_cli.data._settings import PhotoSettings, opened
from kdal_cli.dataset import ImageData
from kdal_cli.images.table import listed
from kdal_cli.types import Watcher


def csv(
    watcher: Watcher, *, path: str | Path, root: str | Path | None = None, **settings: Unpack[PhotoSettings]
) -> ImageData:
    """The images of the table at `path`, whose paths start at `root`, its own folder where that is None.

    An image whose label is empty has none. All else is as in `data.photos`; see `images.table` for what is read.
    """
    file = Path(path).expanduser().absolute()
    top = (Path(root).expanduser() if root is not None else file.parent).resolve()
    return opened(watcher, "csv", top, lambda *how: (listed(file, top, *how), top), **settings)
