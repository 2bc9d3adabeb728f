"""Harm that a command does to itself: what a child of `Kdal` is told to do before it starts."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kdal_cli.records.snapshots import Snapshots


def snapshot_at_every_check() -> None:
    """Keep the state of a training at each of its checks, not once a minute: small runs have states to lose, too."""
    start = Snapshots.__init__
    Snapshots.__init__ = lambda self, path, label, every=0.0: start(self, path, label, every)


def die() -> None:
    """As `kill -9` does it: nothing is flushed, nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class DieBefore:
    """Die before the n-th time that something is made durable, by an fsync or a rename, of the files named `of`."""

    step: int
    of: str = ""

    def __call__(self) -> None:
        snapshot_at_every_check()
        each_durable_step(self._die, self.of)

    def _die(self, step: int, path: Path) -> None:
        if step == self.step:
            die()


@dataclass(frozen=True)
class TearLine:
    """Die with the n-th line of the ledger half on disk."""

    number: int

    def __call__(self) -> None:
        each_durable_step(self._tear, "ledger.jsonl")

    def _tear(self, number: int, path: Path) -> None:
        if number == self.number:
            line = path.read_bytes().splitlines()[-1]
            os.truncate(path, path.stat().st_size - len(line) // 2)
            die()


@dataclass(frozen=True)
class FailFrom:
    """The disk refuses, with this error number, from the n-th time on that files named `of` are made durable."""

    step: int
    error: int
    of: str = ""

    def __call__(self) -> None:
        snapshot_at_every_check()
        each_durable_step(self._fail, self.of)

    def _fail(self, step: int, path: Path) -> None:
        if step >= self.step:
            raise OSError(self.error, os.strerror(self.error))


def each_durable_step(do: Callable[[int, Path], None], of: str = "") -> None:
    """Call `do(1, path)`, `do(2, path)`, … before each fsync and each rename of paths that have `of` in their name."""
    count = 0
    fsync, replace = os.fsync, os.replace

    def step(path: Path) -> None:
        nonlocal count
        if of in path.name:
            count += 1
            do(count, path)

    def counted_fsync(descriptor: int) -> None:
        step(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    def counted_replace(source: os.PathLike, target: os.PathLike, **folders: int) -> None:
        step(Path(target))
        replace(source, target, **folders)

    os.fsync, os.replace = counted_fsync, counted_replace
