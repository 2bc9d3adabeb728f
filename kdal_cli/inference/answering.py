"""Image files into answers: decoded while others are looked at, a batch at a time, so that a folder may be of any size.

Axis letters: B batch, C classes, c channels, H W pixels.
"""

import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdal_cli.errors import MachineError
from kdal_cli.images.decode import Picture, Reading, decode
from kdal_cli.images.depth import Ranges
from kdal_cli.images.listing import Entry
from kdal_cli.images.opening import quietly
from kdal_cli.network import Network
from kdal_cli.types import Calibration

Classify = Callable[[np.ndarray], np.ndarray]
"""pixels (B, c, H, W) uint8 -> logits (B, C) float32."""

MOST, BYTES = 128, 1 << 24
"""Images of a batch, and bytes of their pixels, at most."""


@dataclass(frozen=True)
class Answer:
    """What is answered about one file. best: (class, probability), the most probable first. entropy: in nats.

    unsure: whether the first probability is below the threshold. among: a set that holds the true class as often as
    was asked for, the most probable first; None where none was asked for.
    """

    path: Path
    best: tuple[tuple[str, float], ...]
    entropy: float
    unsure: bool
    among: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Broken:
    """A file that cannot be read, and in words why."""

    path: Path
    why: str


@dataclass(frozen=True)
class Judge:
    """How logits become answers. temperature, threshold: see `kdal_cli.types.Calibration`. top: classes to name.

    least: the probability, at T = 1, that a class of a set has at least; None makes no sets.
    """

    classes: tuple[str, ...]
    temperature: float = 1.0
    threshold: float = 0.0
    top: int = 3
    least: float | None = None

    @classmethod
    def of(
        cls,
        classes: tuple[str, ...],
        calibration: Calibration | None,
        threshold: float,
        top: int,
        least: float | None = None,
    ) -> "Judge":
        return cls(classes, calibration.temperature if calibration else 1.0, threshold, min(top, len(classes)), least)

    def __call__(self, path: Path, logits: Tensor) -> Answer:
        """logits (C,). Raises MachineError where one is not finite."""
        if not logits.isfinite().all():
            raise MachineError("the model's logits are not finite", where=path, cure="use another checkpoint")
        log_probs = (logits.double() / self.temperature).log_softmax(0)  # (C,)
        probs = log_probs.exp()
        best = probs.topk(self.top)
        named = tuple((self.classes[c], p) for p, c in zip(best.values.tolist(), best.indices.tolist(), strict=True))
        unsure = named[0][1] < self.threshold
        return Answer(path, named, float(-(probs * log_probs).sum()), unsure, self._among(logits))

    def _among(self, logits: Tensor) -> tuple[str, ...] | None:
        """The set of an image, of one class at least: that makes it hold the true one more often, never less."""
        if self.least is None:
            return None
        probs, order = logits.double().softmax(0).sort(descending=True, stable=True)
        count = max(1, int((probs >= self.least).sum()))
        return tuple(self.classes[c] for c in order[:count].tolist())


def answers(
    paths: Iterable[Path], classify: Classify, reading: Reading, ranges: Ranges, judge: Judge
) -> Generator[Answer | Broken, None, None]:
    """What is answered about each file, in order. To be closed by whoever stops half-way."""
    for files, pictures in _decoded(paths, reading, ranges):
        sound = [picture.pixels for picture in pictures if isinstance(picture, Picture)]
        logits = iter(torch.from_numpy(classify(np.stack(sound)))) if sound else iter(())  # of (C,)
        for path, picture in zip(files, pictures, strict=True):
            yield Broken(path, picture) if isinstance(picture, str) else judge(path, next(logits))


def by_network(network: Network) -> Classify:
    """A network as a function of pixels, on the device where it is."""

    def classify(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels).to(network.mean.device)).logits.float().cpu().numpy()

    network.eval()
    return classify


def _decoded(
    paths: Iterable[Path], reading: Reading, ranges: Ranges
) -> Iterator[tuple[list[Path], list[Picture | str]]]:
    """(files, what each shows or why it cannot be read), a batch at a time; the next one is decoded meanwhile."""
    batch = max(1, min(MOST, BYTES // (reading.channels * reading.size**2)))
    work = partial(_look, reading=reading, ranges=ranges)
    names = iter(paths)
    with quietly(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        ahead: list[tuple[Path, Future[Picture | str]]] = []
        while True:
            coming = [(path, pool.submit(work, path)) for path in islice(names, batch)]
            if ahead:
                yield [path for path, _ in ahead], [future.result() for _, future in ahead]
            if not coming:
                return
            ahead = coming


def _look(path: Path, reading: Reading, ranges: Ranges) -> Picture | str:
    try:
        facts = path.lstat()
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        return f"cannot be opened, {getattr(error, 'strerror', None) or error}"
    if stat.S_ISLNK(facts.st_mode):
        return "a link"
    size = facts.st_size if stat.S_ISREG(facts.st_mode) else -1
    return decode(Path(), Entry(str(path), 0, size, facts.st_mtime_ns), reading, ranges)
