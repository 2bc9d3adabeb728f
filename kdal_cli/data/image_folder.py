"""A folder of image files: `train/<class>/…`, and `val/` and `test/` like it, decoded once."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from PIL import ImageColor
from torch import Tensor

from kdal_cli.errors import MachineError, UserError
from kdal_cli.images.decode import Found, Reading, decode_all, survey
from kdal_cli.images.depth import Ranges
from kdal_cli.images.links import Links
from kdal_cli.images.listing import Entry, Listing, enumerated, scan
from kdal_cli.images.opening import LARGEST
from kdal_cli.images.statistics import mean_std, refuse_alike, say_twins, twins
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
from kdal_cli.types import ImageData, ImageSet, Labels, Watcher
from kdal_cli.values import Count, Share, Within

FORM = 2
"""Counts the ways in which `images.decode.decode` has made pixels: another number, other stores."""

OnBroken = Literal["refuse", "skip"]


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
    on_broken: OnBroken = "refuse",
    store: str | Path = "outputs/store",
) -> ImageData:
    """The images below `root`, each `channels` × `size` × `size`, in the order of their paths; class names are sorted.

    They are decoded once, into memory-mapped files below `store`, which are opened again as long as the names, sizes
    and times of the files stay the same. Images that cannot be read are all named and refused, or with `on_broken=skip`
    left out, named, and recorded in the store's index. mean, std: of the training images. See `images.decode.Reading`
    for `background`, `bits` and `max_pixels`, `images.listing.scan` for `test_share`, `images.links.Links` for `links`
    and `roots`.

    Raises UserError for whatever is wrong with the folder, and for training images that are all the same; MachineError
    where the store cannot be written.
    """
    reading = Reading(size, channels, _colour(background), bits, max_pixels)
    top = Path(root).expanduser().resolve()
    source = _Source(top, Links.of(top, links, roots or []), test_share, reading, on_broken)
    listing = source.scan()
    home = Path(store).expanduser().absolute() / listing.key(*astuple(reading), FORM)
    learnt = (*listing.train, *listing.validation)
    paths = {"train": [entry.path for entry in learnt], "test": [entry.path for entry in listing.test]}
    try:
        with locked(home.with_suffix(".lock"), watcher):
            index = read_index(home, paths, (channels, size, size), watcher) or source.decoded(listing, home, watcher)
            train, test = (open_pixels(home / f"{split}.npy") for split in ("train", "test"))
    except OSError as error:
        raise MachineError(f"decoded images cannot be kept, {error.strerror}", where=home.parent) from error
    broken = index.found.broken
    _judge(broken, on_broken, top)
    _say(listing, index, background, bits, home, watcher)
    kept = sum(entry.path not in broken for entry in listing.train)
    return ImageData(
        name="image_folder",
        train=_image_set(train, learnt, broken),
        test=_image_set(test, listing.test, broken),
        classes=listing.classes,
        mean=index.mean,
        std=index.std,
        validation=torch.arange(kept, len(train)),
    )


@dataclass(frozen=True)
class _Source:
    """The folder, and how it is read."""

    root: Path
    links: Links
    test_share: float
    reading: Reading
    on_broken: OnBroken

    def scan(self) -> Listing:
        return scan(self.root, self.links, self.test_share)

    def decoded(self, listing: Listing, home: Path, watcher: Watcher) -> Index:
        """Decode everything into a new store at `home`. Nothing is left there unless all of it is sound."""
        count = len(listing.train)
        with _begun("reading headers", count, watcher):
            ranges = survey(self.root, listing.train, self.reading, watcher)
        total = count + len(listing.validation) + len(listing.test)
        with _begun("decoding images", total, watcher), building(home) as draft:
            train = self._part(draft / "train.npy", (*listing.train, *listing.validation), ranges, watcher)
            test = self._part(draft / "test.npy", listing.test, ranges, watcher)
            broken = train.found.broken | test.found.broken
            _judge(broken, self.on_broken, self.root)
            _no_class_lost(listing, broken)
            if self.scan() != listing:
                raise UserError("files changed while they were decoded", where=self.root, cure="start again")
            kept = sum(entry.path not in broken for entry in listing.train)
            pixels = open_pixels(draft / "train.npy")
            same = twins(pixels[:kept], open_pixels(draft / "test.npy"), pixels[kept:])
            refuse_alike(pixels[:kept], same, self.root, _why_alike(train.found, kept))
            index = Index(train, test, ranges, *mean_std(pixels[:kept]), same)
            write_index(draft, index)
        return index

    def _part(self, path: Path, entries: tuple[Entry, ...], ranges: Ranges, watcher: Watcher) -> Part:
        found, reading = Found(), self.reading
        with closing(decode_all(self.root, entries, reading, ranges, found, watcher)) as images:
            return Part(write_pixels(path, images, (reading.channels, reading.size, reading.size)), found)


@contextmanager
def _begun(what: str, steps: int, watcher: Watcher) -> Iterator[None]:
    watcher.begin(what, steps)
    try:
        yield
    finally:
        watcher.end()


def _image_set(pixels: Tensor, entries: tuple[Entry, ...], broken: Mapping[str, str]) -> ImageSet:
    kept = [entry for entry in entries if entry.path not in broken]
    labels = Labels.complete(torch.tensor([entry.label for entry in kept]))
    return ImageSet(pixels, labels, tuple(entry.path for entry in kept))


def _colour(name: str) -> tuple[int, int, int]:
    try:
        red, green, blue, *_ = ImageColor.getrgb(name)
    except ValueError:
        cure = "accepted: a colour's name or its code: white, black, '#808080'"
        raise UserError(f"data.background={name}", cure=cure) from None
    return red, green, blue


def _judge(broken: dict[str, str], on_broken: OnBroken, root: Path) -> None:
    """Refuse a folder with images that cannot be read, unless they are to be left out."""
    if broken and on_broken == "refuse":
        cure = "mend or remove them, or set data.on_broken=skip to leave them out"
        raise UserError(f"{_told(broken)} cannot be read", where=root, cure=cure)


def _told(broken: dict[str, str]) -> str:
    named = enumerated([f"{path!r} [{reason}]" for path, reason in broken.items()])
    return f"{len(broken):,} image{'s' * (len(broken) > 1)}, {named},"


def _no_class_lost(listing: Listing, broken: Mapping[str, str]) -> None:
    for entries in (listing.train, listing.validation, listing.test):
        kept = {entry.label for entry in entries if entry.path not in broken}
        lost = [repr(name) for label, name in enumerate(listing.classes) if entries and label not in kept]
        if lost:
            split = entries[0].path.split("/")[0]
            raise UserError(f"{split}/ has no image that can be read of {enumerated(lost)}", where=listing.root)


def _why_alike(found: Found, images: int) -> str:
    """What to do about training images that are all the same."""
    if found.transparent:
        return "they are transparent in places, and no different from data.background: set another"
    if found.deep:
        return "they have more than 8 bits a channel: set data.bits to how many are used"
    return f"look at one of these {images:,} files: there is nothing in them to learn from"


def _say(listing: Listing, index: Index, background: str, bits: int | None, home: Path, watcher: Watcher) -> None:
    """What the user should know of the images before anything is spent."""
    found, total = index.found, len(listing.train) + len(listing.validation) + len(listing.test)
    for note in listing.notes:
        watcher.say(note)
    if found.broken:
        watcher.say(f"{_told(found.broken)} left out; all are named in {home / INDEX}")
        total -= len(found.broken)
    if found.transparent:
        what = f"{found.transparent:,} of {total:,} images are transparent in places"
        watcher.say(f"{what}: put on {background} (data.background)")
    if found.deep:
        what = f"{found.deep:,} of {total:,} images have more than 8 bits a channel"
        spans = " and ".join(f"{kind}s from {low:,.6g} to {high:,.6g}" for kind, (low, high) in index.ranges.items())
        whose = "the range of the training images" if bits is None else f"data.bits={bits}"
        watcher.say(f"{what}: {spans}, {whose}, become 0 to 255")
    if found.faint:
        watcher.say(f"{found.faint:,} of {total:,} images use less than a tenth of the 256 levels: they look blank")
    if listing.validation:
        split = listing.validation[0].path.split("/")[0]
        what = f"the {len(listing.validation):,} images of {split}/ are the validation set"
        watcher.say(f"{what}; data.split.validation is not used")
    say_twins(index.twins, watcher)
