"""What choosing a query costs with each sampler of conf/sampler, and beside the code of others on the same arrays.

    python benchmarks/samplers.py [--quick] [--only badge coreset] [--peers FOLDER] [--sizes 50000 --classes 10 --k 100]

The pool lies ready: features of 200 clusters (N, 512) after a ReLU, logits of a linear layer on them, 1,000 labelled
images and 1,000 for validation, a teacher's logits, those of an earlier student, draws. So what is told is the cost of
choosing alone. Each measurement is a process of its own on Linux, forked from the one that holds the arrays, with one
thread: CPU seconds, and the most memory that it held above the arrays, in MB. Ours and its peers take turns; medians of
the turns, and of the ratios turn by turn. Whoever needs more than --limit CPU seconds or --memory MB is told so and is
not asked about more images, classes or picks; nor is one that would, were it only N times as slow. With a million
images there are 10 classes alone.

FOLDER holds the peers (see sampler_peers.py); without it the numbers are ours alone. picks_agree is the share of
picks that both make; samplers that draw by chance share few, but for `badge:sequential` and its peers, which are given
the same uniform numbers. The table is written to benchmarks/results/samplers.csv, which docs/samplers.md shows, unless
an option names a part of it.
"""

import argparse
import contextlib
import csv
import ctypes
import functools
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch and NumPy are imported

import torch
from omegaconf import OmegaConf
from sampler_peers import Peer, peers
from torch import Generator, Tensor

from kdal_cli.compose.parts import sampler
from kdal_cli.devices.engine import Engine
from kdal_cli.inference.evidence import Evidence

ROOT = Path(__file__).parents[1]
CONF, RESULTS = ROOT / "conf" / "sampler", ROOT / "benchmarks" / "results" / "samplers.csv"
WIDTH, LABELLED, CLUSTERS = 512, 1000, 200
ENOUGH = 10.0
"""CPU seconds of one comparison after which no further turn is taken."""

FEW_CLASSES = 500_000
"""Images, from which on one number of classes is enough: few samplers cost more with more of them."""

COLUMNS = ("sampler", "N", "D", "C", "k", "ours_cpu_s", "ours_peak_mb", "peer", "peer_cpu_s", "ratio", "picks_agree")
VARIANTS: dict[str, dict[str, Any]] = {"badge:sequential": {"name": "badge", "sequential": True}}
OURS = ""


@dataclass(frozen=True)
class Cost:
    """CPU seconds, MB above the arrays, the rows chosen."""

    seconds: float
    megabytes: float
    rows: frozenset[int]


Call = Callable[[], Any]

Size = tuple[int, int, int]
"""N images of the pool, C classes, k picks."""


# The pool.


class Ready:
    """A scorer whose answers lie in memory: answers (images, C), features (images, D), head (C, D)."""

    def __init__(self, answers: Tensor, features: Tensor, head: Tensor) -> None:
        self.answers, self.features, self.head = answers, features, head

    def logits(self, ids: Tensor) -> Tensor:
        return rows_of(self.answers, ids)

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return rows_of(self.answers, ids), rows_of(self.features, ids)

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        answers = self.logits(ids)
        for _ in range(count):
            yield answers * (1 + 0.3 * torch.randn(answers.shape[1], generator=rng))

    def classify(self, features: Tensor) -> Tensor:
        return features @ self.head.T


def rows_of(table: Tensor, ids: Tensor) -> Tensor:
    """Without a copy where the ids follow each other."""
    consecutive = len(ids) > 0 and bool((ids.diff() == 1).all())
    return table[int(ids[0]) : int(ids[-1]) + 1] if consecutive else table[ids]


def pool(images: int, classes: int) -> Evidence:
    """Everything that a sampler may look at, looked at already."""
    rng = torch.Generator().manual_seed(0)
    known = images + 2 * LABELLED
    features = torch.empty(known, WIDTH).normal_(generator=rng)
    centres = torch.randn(CLUSTERS, WIDTH, generator=rng)
    for some in features.split(10_000):
        some += centres[torch.randint(CLUSTERS, (len(some),), generator=rng)]
    features.relu_()
    head = torch.randn(classes, WIDTH, generator=rng) / 10
    logits = features @ head.T
    labels = logits.argmax(1)
    noisy = (logits + torch.randn(logits.shape, generator=rng) for _ in range(2))
    teacher, earlier = (Ready(answers, features, head) for answers in noisy)
    ids = torch.arange(known)
    evidence = Evidence(
        ids=ids[:images],
        labelled_ids=ids[images : images + LABELLED],
        labels=labels[images : images + LABELLED],
        classes=classes,
        scorer=Ready(logits, features, head),
        teacher=teacher,
        validation_ids=ids[images + LABELLED :],
        validation_labels=labels[images + LABELLED :],
        past=lambda rounds: iter([earlier]),
        known=known,
    )
    _ = evidence.features, evidence.labelled_features, evidence.validation_features, evidence.teacher_logits
    _ = evidence.teacher_validation_logits
    return evidence


# One measurement.


def measure(warm: Call, choose: Call, limit: int, memory: int) -> Cost | str:
    """What `choose` costs in a process of its own after `warm`, or why that is not known."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_measured, args=(warm, choose, limit, memory, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return f"over {limit} CPU seconds"
    finally:
        process.join()


def _measured(warm: Call, choose: Call, limit: int, memory: int, sender: Connection) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[5])
    data = pages * resource.getpagesize() + memory * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    with contextlib.suppress(Exception):
        warm()  # code that was never run is memory too, until it is
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or what was freed would be found again unmeasured
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the most memory held is from now on
    held, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        rows = choose()
        seconds = time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sender.send(Cost(seconds, (peak - held) / 2**10, frozenset(map(int, rows))))
    except Exception as error:
        short = isinstance(error, MemoryError) or "memory" in str(error)
        sender.send(f"over {memory} MB" if short else f"{type(error).__name__}: {error}".splitlines()[0])


def chooser(name: str) -> Peer:
    section = VARIANTS.get(name) or OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=True)
    choose = sampler(section, [])  # type: ignore[arg-type]
    return lambda evidence, k: choose(evidence, k, torch.Generator().manual_seed(0)).rows.tolist()


# All of them.


class Bench:
    """Compares what was not too much before; rows are of COLUMNS."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.peers = options, peers(options.peers)
        self.rows: list[tuple[Any, ...]] = []
        self.too_much: list[tuple[str, str, Size]] = []
        self.slowest: dict[tuple[str, str], float] = {}  # CPU seconds an image

    def compare(self, name: str, evidence: Evidence, small: Evidence, k: int) -> None:
        size = len(evidence), evidence.classes, k
        calls = {OURS: chooser(name), **self.peers.get(name, {})}
        calls = {who: call for who, call in calls.items() if not self.hopeless(name, who, size)}
        if OURS not in calls:
            return
        for call in calls.values():
            with contextlib.suppress(Exception), contextlib.redirect_stdout(None), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call(small, 5)  # imports, and whatever else is done once
        ways = {
            who: (functools.partial(call, small, 5), functools.partial(call, evidence, k))
            for who, call in calls.items()
        }
        costs = self.turns(name, size, ways)
        if OURS in costs:
            self.tell(name, size, costs)

    def turns(self, name: str, size: Size, ways: dict[str, tuple[Call, Call]]) -> dict[str, list[Cost]]:
        costs: dict[str, list[Cost]] = {who: [] for who in ways}
        spent = 0.0
        for _ in range(self.options.turns):
            for who in list(costs):
                cost = measure(*ways[who], self.options.limit, self.options.memory)
                if isinstance(cost, str):
                    self.give_up(name, who, size, cost)
                    del costs[who]
                    if who == OURS:
                        return {}
                    continue
                costs[who].append(cost)
                spent += cost.seconds
                self.slowest[name, who] = max(self.slowest.get((name, who), 0), cost.seconds / size[0])
            if spent > ENOUGH:
                break
        return costs

    def give_up(self, name: str, who: str, size: Size, why: str) -> None:
        images, classes, k = size
        print(f"  {name} {who or 'ours'} N={images:,} C={classes} k={k}: {why}", flush=True)
        self.too_much.append((name, who, size))

    def hopeless(self, name: str, who: str, size: Size) -> bool:
        """Whether it has failed at less, or would be too slow."""
        failed = [before for *which, before in self.too_much if which == [name, who]]
        if any(all(a >= b for a, b in zip(size, before, strict=True)) for before in failed):
            return True
        if (expected := self.slowest.get((name, who), 0) * size[0]) > self.options.limit:
            self.give_up(name, who, size, f"not asked, {expected:.0f} CPU seconds expected")
            return True
        return False

    def tell(self, name: str, size: Size, costs: dict[str, list[Cost]]) -> None:
        images, classes, k = size
        ours = costs.pop(OURS)
        seconds, peak = (statistics.median(x) for x in ([c.seconds for c in ours], [c.megabytes for c in ours]))
        told = (name, images, WIDTH, classes, k, f"{seconds:.3g}", f"{peak:.0f}")
        rows = []
        for peer, theirs in costs.items():
            ratio = statistics.median(b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True))
            agree = len(ours[0].rows & theirs[0].rows) / len(ours[0].rows)
            median = statistics.median(cost.seconds for cost in theirs)
            rows.append((*told, peer, f"{median:.3g}", f"{ratio:.3g}", f"{agree:.3f}"))
        for row in rows or [(*told, "", "", "", "")]:
            print(f"| {' | '.join(map(str, row))} |", flush=True)
            self.rows.append(row)


def main() -> None:
    known = sorted([*(path.stem for path in CONF.glob("*.yaml")), *VARIANTS])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small pool, one turn; writes nothing")
    parser.add_argument("--only", nargs="+", choices=known, help="these alone; writes nothing")
    parser.add_argument("--sizes", nargs="+", type=int, default=[50_000, 200_000, 1_000_000], help="N")
    parser.add_argument("--classes", nargs="+", type=int, default=[10, 100], help="C")
    parser.add_argument("--k", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--limit", type=int, default=60, help="CPU seconds of one measurement")
    parser.add_argument("--memory", type=int, default=8000, help="MB of one measurement, above the arrays")
    parser.add_argument("--peers", type=Path, help="where the code of others is")
    parser.add_argument("--csv", type=Path, default=RESULTS, help="where the table goes")
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.classes, options.k, options.turns, options.limit = [10_000], [10], [100], 1, 5
    torch.set_num_threads(1)
    cpu = Engine.start("cpu").describe()["name"]
    python = platform.python_version()
    machine = f"{time.strftime('%Y-%m-%d')}, {cpu}, one thread, torch {torch.__version__}, Python {python}"
    print(f"{machine}\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    bench = Bench(options)
    for images in options.sizes:
        for classes in options.classes[:1] if images > FEW_CLASSES else options.classes:
            evidence, small = pool(images, classes), pool(500, classes)
            for name in options.only or known:
                for k in options.k:
                    bench.compare(name, evidence, small, k)
            del evidence
    if not options.quick and not options.only:
        rows = sorted(bench.rows, key=lambda row: known.index(row[0]))
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            file.write(f"# {machine}: python {' '.join(sys.argv)}\n")
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
