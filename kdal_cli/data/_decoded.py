"""Listed image files as a data set: decoded once into a store, reported on before anything is spent."""

import gc
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import astuple, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kdal_cli.data._told import say, told
from kdal_cli.dataset import Frame, ImageData, ImageSet, Labels, OnDemand, Preparation
from kdal_cli.errors import MachineError, UserError
from kdal_cli.images.crops import in_pixels
from kdal_cli.images.decode import Found, Reading, decode_all, survey
from kdal_cli.images.depth import Ranges
from kdal_cli.images.likeness import alike
from kdal_cli.images.listing import Entry, Listing, enumerated
from kdal_cli.images.rows import Rows
from kdal_cli.images.statistics import Twins, of_digests, of_levels, refuse_alike
from kdal_cli.images.store import SPLITS, Form, Index, building, locked, read_index, write_index
from kdal_cli.types import Watcher

FORM = 4
"""Counts the ways in which `images.decode.decode` has made pixels: another number, other stores."""

CROP = 0.875
"""The share of the shorter side that is seen where nobody says another: 224 of 256 pixels."""

OnBroken = Literal["refuse", "skip"]


@dataclass(frozen=True)
class Source:
    """Image files, and how they are read. scan: what there is and what opens it, asked again when all is decoded.

    store: where to. background: what is behind what is transparent, as it was typed. decoded_bytes: of pixels, above
    which JPEGs of `quality` are kept instead.
    """

    name: str
    root: Path
    scan: Callable[[], tuple[Listing, Path | Rows]]
    reading: Reading
    on_broken: OnBroken
    store: Path
    background: str
    decoded_bytes: int
    quality: int

    def load(self, watcher: Watcher, size: int | None = None, crop: float | None = None) -> ImageData:
        """The images, decoded now or opened again. size, crop: what is seen of pictures that keep their proportions.

        Raises UserError for whatever is wrong with the files, and for training images that are all the same;
        MachineError where the store cannot be written.
        """
        with _uncollected():
            reading, (listing, opener) = self.reading, self.scan()
        crop = crop or in_pixels(size or reading.size, CROP)
        learnt = (*listing.train, *listing.validation)
        paths = {"train": [entry.path for entry in learnt], "test": [entry.path for entry in listing.test]}
        form = self._form(len(learnt) + len(listing.test))
        home = self.store.expanduser().absolute() / listing.key(*astuple(reading), FORM, form.quality)
        try:
            with locked(home.with_suffix(".lock"), watcher):
                index = read_index(home, paths, form, watcher) or self._decoded(listing, opener, form, home, watcher)
                train, test = (form.open(home, split) for split in SPLITS)
        except OSError as error:
            raise MachineError(f"decoded images cannot be kept, {error.strerror}", where=home.parent) from error
        broken = index.found.broken
        _judge(broken, self.on_broken, self.root)
        say(listing, index, reading, self.background, home, watcher)
        if form.quality is not None:
            watcher.say(f"kept as JPEGs of quality {form.quality}, and decoded on demand (data.decoded_gb)")
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

    def _form(self, images: int) -> Form:
        shape = (self.reading.channels, self.reading.size, self.reading.size)
        return Form(shape, self.quality if images * math.prod(shape) > self.decoded_bytes else None)

    def _preparation(self, size: int | None, crop: float, ranges: Ranges) -> Preparation:
        """How a file outside of the store becomes what is seen without augmentation."""
        alike = Preparation(background=self.reading.background, ranges=dict(ranges))
        return alike if size is None else replace(alike, resize="shorter", side=round(size / crop))

    def _decoded(self, listing: Listing, opener: Path | Rows, form: Form, home: Path, watcher: Watcher) -> Index:
        """Decode everything into a new store at `home`. Nothing is left there unless all of it is sound."""
        parts = (listing.train, listing.validation, listing.test)
        with _begun("reading headers", len(listing.train), watcher):
            ranges = survey(opener, listing.train, self.reading, watcher)
        found = train, held, test = Found(), Found(), Found()
        with _begun("decoding images", sum(map(len, parts)), watcher), building(home) as draft, ExitStack() as streams:
            one, two, three = (
                streams.enter_context(
                    closing(decode_all(opener, part, self.reading, ranges, what, watcher, form.quality))
                )
                for part, what in zip(parts, found, strict=True)
            )
            learnt = form.write(draft, "train", chain(one, two), lambda: train.joined(held))
            measured = form.write(draft, "test", three, lambda: test.joined(Found()))
            broken = learnt.found.broken | measured.found.broken
            _judge(broken, self.on_broken, self.root)
            _no_class_lost(listing, broken)
            if self.scan()[0] != listing:
                raise UserError("files changed while they were decoded", where=self.root, cure="start again")
            same, images = _twins(train, test, held), len(train.digests)
            refuse_alike(form.open(draft, "train")[0], images, same, self.root, _why_alike(train, images))
            assert train.levels is not None
            index = Index(learnt, measured, ranges, *of_levels(torch.from_numpy(train.levels)), same)
            write_index(draft, index)
        return index


@contextmanager
def _begun(what: str, steps: int, watcher: Watcher) -> Iterator[None]:
    watcher.begin(what, steps)
    try:
        yield
    finally:
        watcher.end()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection, which looks through all there is again and again while a million objects are made: a
    fifth of a second start."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _twins(train: Found, test: Found, held: Found) -> Twins:
    """What is there twice: the same, or much alike. held: of the validation images."""
    same = of_digests(*(np.array(part.digests, np.uint64) for part in (train, test, held)))
    known, others, own = (np.array(part.likenesses, np.uint64) for part in (train, test, held))
    return replace(same, leaked_alike=int(alike(others, known).sum()), held_alike=int(alike(own, known).sum()))


def _image_set(
    pixels: Tensor | OnDemand, entries: tuple[Entry, ...], found: Found, size: int | None, crop: float
) -> ImageSet:
    kept = [entry for entry in entries if entry.path not in found.broken]
    unknown = -1  # for a moment, and no further
    labels = torch.tensor([unknown if entry.label is None else entry.label for entry in kept], dtype=torch.int64)
    ids = (labels != unknown).nonzero().flatten()
    frame = None
    if size is not None:
        frame = Frame(torch.from_numpy(found.sizes).long(), size, crop)
    return ImageSet(pixels, Labels(len(kept), ids, labels[ids]), tuple(entry.path for entry in kept), frame)


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
