"""A folder of image files: `train/<class>/…` and `test/<class>/…`, decoded once."""

from contextlib import closing
from pathlib import Path
from typing import Literal

import torch

from kdal_cli.errors import MachineError, UserError
from kdal_cli.images.decode import decode_all
from kdal_cli.images.listing import Entry, Listing, enumerated, scan
from kdal_cli.images.statistics import mean_std, say_twins, twins
from kdal_cli.images.store import (
    INDEX,
    Index,
    Part,
    building,
    locked,
    open_pixels,
    read_index,
    write_index,
    write_pixels,
)
from kdal_cli.types import ImageData, ImageSet, Watcher
from kdal_cli.values import Count

FORM = 1
"""Counts the ways in which `images.decode.decode` has made pixels: another number, other stores."""

OnBroken = Literal["refuse", "skip"]


def image_folder(
    watcher: Watcher,
    *,
    root: str | Path,
    size: Count = 32,
    channels: Literal[1, 3] = 3,
    on_broken: OnBroken = "refuse",
    store: str | Path = "outputs/store",
) -> ImageData:
    """The images below `root`, each `channels` × `size` × `size`, in the order of their paths; class names are sorted.

    They are decoded once, into memory-mapped files below `store`, which are opened again as long as the names, sizes
    and times of the files stay the same. Images that cannot be read are all named and refused, or with `on_broken=skip`
    left out, named, and recorded in the store's index. mean, std: of the training images.

    Raises UserError for whatever is wrong with the folder (see `images.listing.scan`), MachineError where the store
    cannot be written.
    """
    listing = scan(Path(root).expanduser().resolve())
    home = Path(store).expanduser().absolute() / listing.key(size, channels, FORM)
    try:
        with locked(home.with_suffix(".lock"), watcher):
            index = read_index(home, watcher) or _decoded(listing, home, size, channels, on_broken, watcher)
            train, test = (open_pixels(home / f"{split}.npy") for split in ("train", "test"))
    except OSError as error:
        raise MachineError(f"decoded images cannot be kept, {error.strerror}", where=home.parent) from error
    _judge(index.broken, on_broken, listing.root)
    if index.broken:
        watcher.say(f"{_told(index.broken)} left out; all are named in {home / INDEX}")
    say_twins(index.repeated, index.leaked, watcher)
    return ImageData(
        name="image_folder",
        train=ImageSet(train, torch.tensor(index.train.labels), index.train.paths),
        test=ImageSet(test, torch.tensor(index.test.labels), index.test.paths),
        classes=index.classes,
        mean=index.mean,
        std=index.std,
    )


def _decoded(listing: Listing, home: Path, size: int, channels: int, on_broken: OnBroken, watcher: Watcher) -> Index:
    """Decode everything into a new store at `home`. Nothing is left there unless all of it is sound."""
    watcher.begin("decoding images", len(listing.train) + len(listing.test))
    try:
        with building(home) as draft:
            train = _part(draft / "train.npy", listing.root, listing.train, size, channels, watcher)
            test = _part(draft / "test.npy", listing.root, listing.test, size, channels, watcher)
            _judge(train.broken | test.broken, on_broken, listing.root)
            _no_class_lost(listing, train, test)
            if scan(listing.root) != listing:
                raise UserError("files changed while they were decoded", where=listing.root, cure="start again")
            pixels = open_pixels(draft / "train.npy")
            mean, std = mean_std(pixels)
            repeated, leaked = twins(pixels, open_pixels(draft / "test.npy"))
            index = Index(listing.classes, train, test, mean, std, repeated, leaked)
            write_index(draft, index)
        return index
    finally:
        watcher.end()


def _part(path: Path, root: Path, entries: tuple[Entry, ...], size: int, channels: int, watcher: Watcher) -> Part:
    broken: dict[str, str] = {}
    with closing(decode_all(root, entries, size, channels, broken, watcher)) as images:
        sha256 = write_pixels(path, images, (channels, size, size))
    kept = [entry for entry in entries if entry.path not in broken]
    return Part(tuple(entry.path for entry in kept), tuple(entry.label for entry in kept), broken, sha256)


def _judge(broken: dict[str, str], on_broken: OnBroken, root: Path) -> None:
    """Refuse a folder with images that cannot be read, unless they are to be left out."""
    if broken and on_broken == "refuse":
        cure = "mend or remove them, or set data.on_broken=skip to leave them out"
        raise UserError(f"{_told(broken)} cannot be read", where=root, cure=cure)


def _told(broken: dict[str, str]) -> str:
    named = enumerated([f"{path!r} [{reason}]" for path, reason in broken.items()])
    return f"{len(broken):,} image{'s' * (len(broken) > 1)}, {named},"


def _no_class_lost(listing: Listing, train: Part, test: Part) -> None:
    for split, part in (("train", train), ("test", test)):
        kept = set(part.labels)
        lost = [repr(name) for label, name in enumerate(listing.classes) if label not in kept]
        if lost:
            raise UserError(f"{split}/ has no image that can be read of {enumerated(lost)}", where=listing.root)
