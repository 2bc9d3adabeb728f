"""What the benchmarks share: costs of sides that take turns in one process, the table of them, CIFAR-10."""

import argparse
import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdal_cli.data.cifar10 import SOURCE
from kdal_cli.dataset import ImageData, ImageSet, Labels
from kdal_cli.devices.engine import Engine, cpu_has_bf16
from kdal_cli.plain import several

OURS = "kdal"
COLUMNS = ("case", "side", "wall s", "CPU s", "ratio", "CPU ratio")


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and of the CPU in this process and those it started; `shown` is whatever came of it."""

    wall: float
    cpu: float
    shown: Any = None


def nothing(shown: list[Any]) -> str:
    """What there is to show of a side that has nothing but its cost."""
    return ""


def measured(work: Callable[[], Any]) -> Cost:
    """What `work` costs; it is heard no more than what it returns."""
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        before, started = os.times(), time.perf_counter()
        shown = work()
        wall, after = time.perf_counter() - started, os.times()
    return Cost(wall, sum(after[:4]) - sum(before[:4]), shown)


def interleaved(sides: Mapping[str, Callable[[int], Cost]], turns: Iterable[int]) -> dict[str, list[Cost]]:
    """The costs of each side, which take turns; a side is told the number of the turn."""
    costs: dict[str, list[Cost]] = {who: [] for who in sides}
    for turn in turns:
        for who, side in sides.items():
            costs[who].append(side(turn))
    return costs


def repeated(ways: Mapping[str, Callable[[], Cost]]) -> dict[str, Callable[[int], Cost]]:
    """Sides to which every turn is the same."""
    return {who: lambda turn, way=way: way() for who, way in ways.items()}


def head(*more: str) -> None:
    """The machine, and the head of the table."""
    cpu, threads = Engine.start("cpu").describe()["name"], torch.get_num_threads()
    when, python = time.strftime("%Y-%m-%d"), platform.python_version()
    bf16 = f"bf16 in hardware: {cpu_has_bf16()}"
    print(f"{when}, {cpu}, {bf16}, {several(threads, 'thread')}, torch {torch.__version__}, Python {python}")
    print(f"| {' | '.join((*COLUMNS, *more))} |\n{'|---' * (len(COLUMNS) + len(more))}|", flush=True)


def tell(
    case: str, costs: Mapping[str, list[Cost]], shown: Callable[[list[Any]], str] = nothing, ours: str = OURS
) -> None:
    """A row a side. Names of one project's variants begin with its name; the fastest of them is in bold."""
    wall = {who: statistics.median(cost.wall for cost in each) for who, each in costs.items()}
    for who, each in costs.items():
        pairs = list(zip(each, costs[ours], strict=True))
        ratios = (statistics.median(getattr(a, kind) / getattr(b, kind) for a, b in pairs) for kind in ("wall", "cpu"))
        told = [f"{ratio:.2f}" for ratio in ratios]
        family = [other for other in costs if other.split(",")[0] == who.split(",")[0]]
        if who.split(",")[0] != OURS and who == min(family, key=lambda other: wall[other]):
            told[0] = f"**{told[0]}**"
        seconds = f"{wall[who]:.3g}", f"{statistics.median(cost.cpu for cost in each):.3g}"
        more = [text] if (text := shown([cost.shown for cost in each])) else []
        print(f"| {' | '.join((case, who, *seconds, *told, *more))} |", flush=True)


def options(about: str | None, *, peers: bool = False, turns: int = 3) -> argparse.ArgumentParser:
    """What every benchmark is told."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    if peers:
        parser.add_argument("--peers", type=Path, required=True, help="where the code of others is")
        parser.add_argument("--data", type=Path, default=Path("data/cifar10.npz"), help="CIFAR-10 as data=npz reads it")
    parser.add_argument("--quick", action="store_true", help="a minute: smaller, for fewer turns")
    parser.add_argument("--turns", type=int, default=turns)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser


def cifar10(file: Path, pool: int, test: int) -> ImageData:
    """The first images of each split."""
    with np.load(file) as archive:
        train, tested = (
            ImageSet(
                torch.from_numpy(archive[f"x_{split}"][:n]),
                Labels.complete(torch.from_numpy(archive[f"y_{split}"][:n])),
            )
            for split, n in (("train", pool), ("test", test))
        )
    return ImageData("cifar10", train, tested, tuple(map(str, range(10))), SOURCE.mean, SOURCE.std)
