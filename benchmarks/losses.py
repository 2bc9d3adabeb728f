"""What a training step costs with each loss of conf/loss, against plain kd; and some terms beside torchdistill's.

    python benchmarks/losses.py [--threads 1] [--turns 7] [--only kd at]

A step is the teacher's answer, the student's, the loss at half of the training, and the backward pass: resnet20 taught
by resnet56, 64 images of 3 × 32 × 32, half of them with labels, 100 classes, float32; no optimizer. Each step of a loss
comes right after one with kd, so that a machine that slows down slows both; medians of the turns, and of the ratios
turn by turn. A first stage is a row of its own, `<loss>:first`. The table is written to benchmarks/results/losses.csv,
which docs/losses.md shows, unless --only names a part of it.

The peers get the very tensors that our terms get, loss and backward pass alone. Left out are those whose formula is
another: torchdistill's cc correlates the whole batch, ours neighbours as the authors' code does; it has no dkd.
"""

import argparse
import csv
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from kdal_cli.compose.loss import plan_loss
from kdal_cli.dataset import Shape
from kdal_cli.devices.engine import Engine
from kdal_cli.models.resnet import resnet
from kdal_cli.models.simkd import simkd
from kdal_cli.network import Network
from kdal_cli.plain import several
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.training.objective import Objective
from kdal_cli.training.sight import doubled, look
from kdal_cli.types import Batch, Examples, Output

CONF = Path(__file__).parents[1] / "conf" / "loss"
RESULTS = Path(__file__).parent / "results" / "losses.csv"
COLUMNS = ("loss", "ms", "ratio", "learned_parameters")
SHAPE = Shape(3, 32, 32, 100)
BATCH, LABELLED, IMAGES = 64, 32, 50_000
STUDENTS: dict[str, Callable[[nn.Module], nn.Module]] = {  # of a loss that is for one kind of student
    "simkd": lambda backbone: simkd(SHAPE, backbone=backbone, features=64),
}
Step = Callable[[], object]


def names() -> list[str]:
    return sorted(path.stem for path in CONF.glob("*.yaml") if not path.name.startswith("_"))


def section(loss: str) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(CONF / f"{loss}.yaml"), resolve=True)
    assert isinstance(values, dict)
    values.pop("defaults", None)  # what it shares with others is what the code has by default
    return values  # type: ignore[return-value]


class Bench:
    """One loss as kdal builds it, its two networks, and a batch that never changes."""

    def __init__(self, loss: str) -> None:
        torch.manual_seed(0)
        body = resnet(SHAPE, depth=20)
        self.student = self._network(STUDENTS[loss](body) if loss in STUDENTS else body).train()
        teacher = self._network(resnet(SHAPE, depth=56))
        labels = torch.randint(SHAPE.classes, (IMAGES // 2,))
        examples = Examples(torch.arange(IMAGES), labels)
        self.objective: Objective = plan_loss(section(loss), [], SHAPE)(self.student, teacher, examples).train()
        self.teacher = LiveTeacher(teacher, Engine.start("cpu"), "fp32")
        ids = torch.cat([torch.arange(LABELLED), IMAGES // 2 + torch.arange(BATCH - LABELLED)])
        pixels = torch.randint(0, 256, (BATCH, SHAPE.channels, SHAPE.height, SHAPE.width), dtype=torch.uint8)
        self.batch = doubled(Batch(ids, torch.zeros_like(ids), pixels, labels[:LABELLED]), self.objective.more)

    def _network(self, body: nn.Module) -> Network:
        return Network(body, (0.5,) * SHAPE.channels, (0.25,) * SHAPE.channels)

    def step(self, *, first: bool = False) -> None:
        """One training step but for the optimizer."""
        theirs = self.teacher(self.batch) if self.objective.needs_teacher else None
        parts = self.objective(look(self.student, self.batch), theirs, self.batch, 0.5, first=first)
        torch.stack(list(parts.values())).sum().backward()
        for network in (self.student, self.objective):
            network.zero_grad()

    @property
    def learned(self) -> int:
        """Parameters of the terms: they train with the student and never ship."""
        return sum(p.numel() for p in self.objective.parameters() if p.requires_grad)

    def answers(self) -> tuple[Output, Output]:
        """The student's as leaves, so that a backward pass ends there, and the teacher's."""
        student, teacher = self.student(self.batch.pixels).detach(), self.teacher(self.batch)
        return student.each(lambda tensor: tensor.requires_grad_()), teacher


def milliseconds(step: Step) -> float:
    started = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - started)


def side_by_side(step: Step, other: Step, turns: int) -> tuple[float, float]:
    """(ms of `step`, its ratio to `other`), medians of so many turns of both after one that does not count."""
    step()
    other()
    pairs = [(milliseconds(other), milliseconds(step)) for _ in range(turns)]
    return statistics.median(ms for _, ms in pairs), statistics.median(ms / base for base, ms in pairs)


# Peers.


def peers(student: Output, teacher: Output) -> Mapping[str, Callable[[], Tensor]]:
    """Losses of torchdistill, by the name of ours, each of these two answers."""
    from torchdistill.losses import mid_level as theirs
    from torchdistill.models.wrapper import Regressor4VID

    stages = list(student.maps)
    pairs = {path: {"student": at(path), "teacher": at(path)} for path in stages}
    flows = {
        low: {
            "student_first": at(low),
            "student_second": at(high),
            "teacher_first": at(low),
            "teacher_second": at(high),
        }
        for low, high in pairwise(stages)
    }
    widths = [(student.maps[path].shape[1], teacher.maps[path].shape[1]) for path in stages]
    regressors = {p: Regressor4VID(ours, to, to, 1e-5, 5.0) for p, (ours, to) in zip(stages, widths, strict=True)}
    ours, others = shown(student), shown(teacher)

    def vid() -> Tensor:
        """As its wrapper does: what a regressor says of a map stands for the map."""
        said = {path: {"output": regressor(student.maps[path])} for path, regressor in regressors.items()}
        return theirs.VIDLoss(pairs)(said, others)

    losses: dict[str, nn.Module] = {
        "kd": theirs.KDLoss("logits", "output", "logits", "output", temperature=4.0, alpha=0.0),
        "dist": theirs.DISTLoss("logits", "output", "logits", "output", tau=4.0),
        "at": theirs.ATLoss(pairs, mode="code"),
        "sp": theirs.SPKDLoss(stages[-1], stages[-1], "batchmean"),
        "rkd": theirs.RKDLoss("features", "features", 25.0, 50.0, "mean"),
        "pkt": theirs.PKTLoss("features", "output", "features", "output"),
        "fsp": theirs.FSPLoss(flows),
    }
    return {name: partial(loss, ours, others) for name, loss in losses.items()} | {"vid": vid}


def at(path: str) -> dict[str, str]:
    """What a module answers, in the words of torchdistill."""
    return {"path": path, "io": "output"}


def shown(output: Output) -> dict[str, dict[str, Tensor]]:
    """What it has seen of a network, by module."""
    seen = {"logits": output.logits, "features": output.features, **output.maps}
    return {path: {"output": tensor} for path, tensor in seen.items()}


def differentiated(loss: Callable[[], Tensor]) -> Step:
    return lambda: loss().mean().backward()


def beside_peers(turns: int) -> None:
    print("\n| term | ms | ratio to torchdistill's |\n|---|---|---|")
    stages, stem_too = Bench("at").answers(), Bench("fsp").answers()  # the maps that most terms here look at, and all
    for name in peers(*stages):
        student, teacher = stem_too if name == "fsp" else stages
        bench, peer = Bench(name), peers(student, teacher)[name]
        term = partial(bench.objective.parts[name].term, student, teacher, bench.batch)
        ms, ratio = side_by_side(differentiated(term), differentiated(peer), 20 * turns)
        print(f"| {name} | {ms:.2f} | {ratio:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=names(), help="print these and write nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cpu = Engine.start("cpu").describe()["name"]
    machine = (
        f"{time.strftime('%Y-%m-%d')}, {cpu}, {several(options.threads, 'thread')}, torch {torch.__version__}, "
        f"Python {platform.python_version()}; {options.turns} turns"
    )
    print(f"{machine}\n| loss | ms | ratio | learned parameters |\n|---|---|---|---|")
    rows: list[tuple[str, str, str, int]] = []
    plain = Bench("kd")
    for loss in options.only or names():
        bench = Bench(loss)
        for first in (False, True) if bench.objective.first else (False,):
            ms, ratio = side_by_side(partial(bench.step, first=first), plain.step, options.turns)
            rows.append((f"{loss}:first" if first else loss, f"{ms:.0f}", f"{ratio:.2f}", bench.learned))
            print("| {} | {} | {} | {:,} |".format(*rows[-1]), flush=True)
    if not options.only:
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            file.write(
                f"# {machine}: python benchmarks/losses.py --threads {options.threads} --turns {options.turns}\n"
            )
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    beside_peers(options.turns)


if __name__ == "__main__":
    main()
