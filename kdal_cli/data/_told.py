"""What the user should know of images before anything is spent, a line each."""

from pathlib import Path

import numpy as np

from kdal_cli.images.decode import Reading
from kdal_cli.images.listing import VALIDATION, Listing, enumerated
from kdal_cli.images.statistics import say_twins
from kdal_cli.images.store import INDEX, Index
from kdal_cli.types import Watcher


def say(listing: Listing, index: Index, reading: Reading, background: str, home: Path, watcher: Watcher) -> None:
    """Counts, sizes, and everything about these images that is not as plain as it could be."""
    found, total = index.found, len(listing.train) + len(listing.validation) + len(listing.test)
    for note in listing.notes:
        watcher.say(note)
    if found.broken:
        watcher.say(f"{told(found.broken)} left out; all are named in {home / INDEX}")
        total -= len(found.broken)
    _say_sizes(found.sizes, reading.size, watcher)
    if found.turned:
        watcher.say(f"{found.turned:,} of {total:,} images are set upright as their EXIF says")
    if found.transparent:
        what = f"{found.transparent:,} of {total:,} images are transparent in places"
        watcher.say(f"{what}: put on {background} (data.background)")
    if found.deep:
        what = f"{found.deep:,} of {total:,} images have more than 8 bits a channel"
        spans = " and ".join(f"{kind}s from {low:,.6g} to {high:,.6g}" for kind, (low, high) in index.ranges.items())
        whose = "the range of the training images" if reading.bits is None else f"data.bits={reading.bits}"
        watcher.say(f"{what}: {spans}, {whose}, become 0 to 255")
    if found.faint:
        watcher.say(f"{found.faint:,} of {total:,} images use less than a tenth of the 256 levels: they look blank")
    _say_counts(listing, watcher)
    say_twins(index.twins, watcher)


def told(broken: dict[str, str]) -> str:
    """Images that cannot be read, each with its reason."""
    named = enumerated([f"{path!r} [{reason}]" for path, reason in broken.items()])
    return f"{len(broken):,} image{'s' * (len(broken) > 1)}, {named},"


def _say_counts(listing: Listing, watcher: Watcher) -> None:
    """What is not in the plan that every stage tells: validation images, images without a label, classes with few."""
    if listing.validation:
        split = listing.validation[0].path.split("/")[0]
        whose = f"of {split}/" if split in VALIDATION else "of that split"
        what = f"the {len(listing.validation):,} images {whose} are the validation set"
        watcher.say(f"{what}; data.split.validation is not used")
    unknown = sum(entry.label is None for entry in listing.train)
    if unknown:
        watcher.say(f"{unknown:,} of {len(listing.train):,} training images have no label")


def _say_sizes(sizes: np.ndarray, kept: int, watcher: Watcher) -> None:
    """How large the pictures (N, 2) are, where they are not all of one size; how many are smaller than what is kept."""
    if not len(sizes) or (sizes == sizes[0]).all():
        return
    shorter = sizes.min(1)
    low, high, middle, small = shorter.min(), shorter.max(), int(np.median(shorter)), int((shorter < kept).sum())
    span = f"of {middle:,} pixels" if low == high else f"from {low:,} to {high:,} pixels, median {middle:,}"
    what = f"pictures of several sizes, shorter sides {span}"
    watcher.say(what + (f"; {small:,} are below the {kept} that are kept, and enlarged" if small else ""))
