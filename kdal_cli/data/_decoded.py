"""Listed image files as a data set: decoded once into a store, reported on before anything is spent."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import ImageColor
from torch import Tensor

from kdal_cli.data._told import say, told
from kdal_cli.errors import MachineError, UserError
from kdal_cli.images.crops import in_pixels
from kdal_cli.images.decode import Found, Reading, decode_all, survey
from kdal_cli.images.depth import Ranges
from kdal_cli.images.likeness import alike
from kdal_cli.images.listing import Entry, Listing, enumerated
from kdal_cli.images.rows import Rows
from kdal_cli.images.statistics import Twins, mean_std, refuse_alike, twins
from kdal_cli.images.store import (
    Index,
    Part,
    building,
    locked,
    open_pixels,
    read_index,
    write_index,
    write_pixels,
)
from kdal_cli.types import Frame, ImageData, ImageSet, Labels, Preparation, Watcher

FORM = 3
"""Counts the ways in which `images.decode.decode` has made pixels: another number, other stores."""

CROP = 0.875
"""The share of the shorter side that is seen where nobody says another: 224 of 256 pixels."""

OnBroken = Literal["refuse", "skip"]


@dataclass(frozen=True)
class Source:
    """Image files, and how they are read. scan: what there is, asked again when all is decoded. store: where to.
    background: what is behind what is transparent, as it was typed. rows: where images lie that are no files.
    """

    name: str
    root: Path
    scan: Callable[[], Listing]
    reading: Reading
    on_broken: OnBroken
    store: Path
    background: str
    rows: Rows | None = None

    def load(self, watcher: Watcher, size: int | None = None, crop: float | None = None) -> ImageData:
        """The images, decoded now or opened again. size, crop: what is seen of pictures that keep their proportions.

        Raises UserError for whatever is wrong with the files, and for training images that are all the same;
        MachineError where the store cannot be written.
        """
        reading, listing = self.reading, self.scan()
        crop = crop or in_pixels(size or reading.size, CROP)
        home = self.store.expanduser().absolute() / listing.key(*astuple(reading), FORM)
        learnt = (*listing.train, *listing.validation)
        paths = {"train": [entry.path for entry in learnt], "test": [entry.path for entry in listing.test]}
        shape = (reading.channels, reading.size, reading.size)
        try:
            with locked(home.with_suffix(".lock"), watcher):
                index = read_index(home, paths, shape, watcher) or self._decoded(listing, home, watcher)
                train, test = (open_pixels(home / f"{split}.npy") for split in ("train", "test"))
        except OSError as error:
            raise MachineError(f"decoded images cannot be kept, {error.strerror}", where=home.parent) from error
        broken = index.found.broken
        _judge(broken, self.on_broken, self.root)
        say(listing, index, reading, self.background, home, watcher)
        kept = sum(entry.path not in broken for entry in listing.train)
        return ImageData(
            name=self.name,
            train=_image_set(train, learnt, index.train.found, size, crop),
            test=_image_set(test, listing.test, index.test.found, size, crop),
            classes=listing.classes,
            mean=index.mean,
            std=index.std,
            validation=torch.arange(kept, len(train)),
            preparation=self._preparation(size, crop, index.ranges),
        )

    def _preparation(self, size: int | None, crop: float, ranges: Ranges) -> Preparation:
        """How a file outside of the store becomes what is seen without augmentation."""
        alike = Preparation(background=self.reading.background, ranges=dict(ranges))
        return alike if size is None else replace(alike, resize="shorter", side=round(size / crop))

    def _decoded(self, listing: Listing, home: Path, watcher: Watcher) -> Index:
        """Decode everything into a new store at `home`. Nothing is left there unless all of it is sound."""
        count = len(listing.train)
        with _begun("reading headers", count, watcher):
            ranges = survey(self.rows or self.root, listing.train, self.reading, watcher)
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
            same = _twins(pixels, open_pixels(draft / "test.npy"), kept, train.found, test.found)
            refuse_alike(pixels[:kept], same, self.root, _why_alike(train.found, kept))
            index = Index(train, test, ranges, *mean_std(pixels[:kept]), same)
            write_index(draft, index)
        return index

    def _part(self, path: Path, entries: tuple[Entry, ...], ranges: Ranges, watcher: Watcher) -> Part:
        found, reading = Found(), self.reading
        with closing(decode_all(self.rows or self.root, entries, reading, ranges, found, watcher)) as images:
            return Part(write_pixels(path, images, (reading.channels, reading.size, reading.size)), found)


def colour(name: str) -> tuple[int, int, int]:
    """What `data.background` calls a colour. Raises UserError for a name that is none."""
    try:
        red, green, blue, *_ = ImageColor.getrgb(name)
    except ValueError:
        cure = "accepted: a colour's name or its code: white, black, '#808080'"
        raise UserError(f"data.background={name}", cure=cure) from None
    return red, green, blue


@contextmanager
def _begun(what: str, steps: int, watcher: Watcher) -> Iterator[None]:
    watcher.begin(what, steps)
    try:
        yield
    finally:
        watcher.end()


def _twins(pixels: Tensor, test: Tensor, kept: int, learnt: Found, measured: Found) -> Twins:
    """What is there twice: the same, or much alike. kept: training images, before those for validation."""
    same = twins(pixels[:kept], test, pixels[kept:])
    known, others = (np.array(found.likenesses, np.uint64) for found in (learnt, measured))
    for found in (learnt, measured):
        found.likenesses.clear()  # a store need not know them
    leaked, held = (int(alike(some, known[:kept]).sum()) for some in (others, known[kept:]))
    return Twins(same.repeated, same.leaked, same.held, leaked, held)


def _image_set(pixels: Tensor, entries: tuple[Entry, ...], found: Found, size: int | None, crop: float) -> ImageSet:
    kept = [entry for entry in entries if entry.path not in found.broken]
    known = [(id, entry.label) for id, entry in enumerate(kept) if entry.label is not None]
    ids, answers = torch.tensor(known, dtype=torch.int64).view(-1, 2).T.contiguous()
    frame = None
    if size is not None:
        frame = Frame(torch.tensor(found.sides, dtype=torch.int64).view(-1, 2), size, crop)
    return ImageSet(pixels, Labels(len(kept), ids, answers), tuple(entry.path for entry in kept), frame)


def _judge(broken: dict[str, str], on_broken: OnBroken, root: Path) -> None:
    """Refuse a folder with images that cannot be read, unless they are to be left out."""
    if broken and on_broken == "refuse":
        cure = "mend or remove them, or set data.on_broken=skip to leave them out"
        raise UserError(f"{told(broken)} cannot be read", where=root, cure=cure)


def _no_class_lost(listing: Listing, broken: Mapping[str, str]) -> None:
    for entries in (listing.train, listing.validation, listing.test):
        had = {entry.label for entry in entries if entry.label is not None}
        kept = {entry.label for entry in entries if entry.path not in broken}
        lost = [repr(listing.classes[label]) for label in sorted(had - kept)]
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
