"""docs/losses.md: what every loss of conf/loss is, from its YAML, the docstrings of its terms and the benchmark.

What a term reads is declared nowhere: each is called on two small networks and watched.
"""

import csv
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from docstrings import linked, paragraphs
from gains import NOT_MEASURED, Study, study
from omegaconf import OmegaConf
from torch import Tensor, nn

import kdal_cli.losses
from kdal_cli.compose.loss import LossPlan, plan_loss
from kdal_cli.compose.registry import resolve
from kdal_cli.dataset import Shape
from kdal_cli.devices.engine import Engine
from kdal_cli.models.resnet import resnet
from kdal_cli.models.simkd import simkd
from kdal_cli.network import Network
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.training.objective import Part
from kdal_cli.training.sight import doubled, look
from kdal_cli.types import Batch, Examples, Output

ROOT = Path(__file__).parents[1]
CONF, COSTS, PAGE = ROOT / "conf" / "loss", ROOT / "benchmarks" / "results" / "losses.csv", ROOT / "docs" / "losses.md"
GAINS = {"2026-11-29-digits-losses.csv": "digits", "2026-11-30-fashion-losses.csv": "fashion"}
"""{table of a study: what it is called}"""

SHAPE = Shape(3, 8, 8, 5)
STUDENTS: dict[str, Callable[[nn.Module], nn.Module]] = {  # of a loss that is for one kind of student
    "simkd": lambda backbone: simkd(SHAPE, backbone=backbone, features=32),
}
ASKED = "the student's answers to other pixels"
STRONG, SECOND, AGAIN = "a strong view", "a second one", "another view"

INTRODUCTION = """\
# Losses

Written by `make docs` from `conf/loss`, the docstrings of `kdal_cli/losses` and `benchmarks/results/losses.csv`; edit
those.

`loss=<name>` chooses one, `kdal distill loss=<name> --cfg job` shows its settings, and `loss.<term>.<setting>=<value>`
changes them. All are beside cross-entropy on the labels, unless w_hard is 0. Axis letters: B images of a batch,
C classes, D features, c channels and h × w places of a map; s student, t teacher, z logits, q softmax, y label. A term
is one number an image, (B,), or one for the batch, ().

*needs*: what the terms read of both networks, and of the batch. Labels are those that are paid for; the section says
what stands in for one where there is none. *learns*: parameters of its own, which train with the student and never
ship. *cost*: of a training step, in steps with `kd`. *digits*, *fashion*: test accuracy in % at 100 labels, and what it
is above `none` on the same labels, in points: what the settings of conf reach on two small data sets, not a ranking."""


@dataclass(frozen=True)
class Loss:
    """A file of conf/loss. head: its first comment. needs: what its terms read. cost, learned, gains: as measured."""

    name: str
    head: str
    plan: LossPlan
    terms: Mapping[str, str]
    needs: str
    cost: str
    learned: str
    gains: Sequence[str]

    @property
    def row(self) -> str:
        cells = [f"[{self.name}](#{self.name})", linked(self.head), self.needs, self.learned, self.cost, *self.gains]
        return f"| {' | '.join(cells)} |"

    def section(self, known: set[str]) -> str:
        """known: losses with a section of their own, which is where a term of that name is described."""
        elsewhere = [name for name in dict.fromkeys(self.terms.values()) if name in known - {self.name}]
        own = [name for name in dict.fromkeys(self.terms.values()) if name not in elsewhere]
        lines = [f"## {self.name}", f"`{self.plan.sentence}`"]
        lines += [text for name in own for text in described(name)]
        if elsewhere:
            lines.append(f"Its terms: {', '.join(f'[{name}](#{name})' for name in elsewhere)}.")
        return "\n\n".join(lines)


def page() -> str:
    """The whole of docs/losses.md."""
    machine, costs = measured()
    gains = [study(table, by="loss", value="student.accuracy", plain="none") for table in GAINS]
    losses = [read(path, costs, gains) for path in sorted(CONF.glob("*.yaml")) if not path.name.startswith("_")]
    known = {loss.name for loss in losses}
    table = [
        f"| loss | what it is | needs | learns | cost | {' | '.join(GAINS.values())} |",
        "|---|---|---|---|---|" + "---|" * len(GAINS),
        *(loss.row for loss in losses),
    ]
    costs_told = f"Cost and parameters are of resnet20 taught by resnet56, 64 images of 32 × 32 a step. {machine}."
    gains_told = (
        "Digits: [the study](../benchmarks/results/2026-11-29-digits.md), mean of three seeds: the default student, "
        "trained until its labels are fitted, taught by a ResNet-8 of 97.8 % that has 600 images of its own. "
        "Fashion-MNIST: [the study](../benchmarks/results/2026-11-30-fashion-losses.md), one seed: a CNN of 16 "
        "channels, taught by one of 32 and 88.0 % that has 20,000 images of its own."
    )
    sections = [loss.section(known) for loss in losses]
    return "\n\n".join([INTRODUCTION, costs_told, gains_told, "\n".join(table), *sections]) + "\n"


def measured() -> tuple[str, dict[str, dict[str, str]]]:
    """What the benchmark says of its machine, and {loss: its row}."""
    if not COSTS.exists():
        return "Not measured", {}
    machine, *rows = COSTS.read_text(encoding="utf-8").splitlines()
    return machine.removeprefix("# "), {row["loss"]: row for row in csv.DictReader(rows)}


def read(path: Path, costs: Mapping[str, Mapping[str, str]], gains: Sequence[Study]) -> Loss:
    section: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path), resolve=True)  # type: ignore[assignment]
    section.pop("defaults", None)  # what it shares with others is what the code has by default
    plan = plan_loss(section, [], SHAPE)
    terms = {name: section[name]["name"] for name in plan.terms}
    row, first = costs.get(path.stem, {}), costs.get(f"{path.stem}:first", {})
    cost = row.get("ratio", NOT_MEASURED) + (f", first stage {first['ratio']}" if first else "")
    learned = f"{int(row['learned_parameters']):,}" if row else NOT_MEASURED
    head = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    reached = [study.cell(path.stem) for study in gains]
    return Loss(path.stem, head, plan, terms, needs(path.stem, plan), cost, learned, reached)


# What a term reads.


def needs(loss: str, plan: LossPlan) -> str:
    """In words: `features, maps; labels`."""
    torch.manual_seed(0)
    body = resnet(SHAPE, depth=8, widths=(8, 8, 16, 24))
    student = network(STUDENTS[loss](body) if loss in STUDENTS else body)
    teacher = network(resnet(SHAPE, depth=8, widths=(8, 16, 24, 32)))
    examples = Examples(torch.arange(8), torch.arange(4) % SHAPE.classes)
    objective = plan(student, teacher, examples)
    live = LiveTeacher(teacher, Engine.start("cpu"), "fp32")
    pixels = torch.randint(0, 256, (8, SHAPE.channels, SHAPE.height, SHAPE.width), dtype=torch.uint8)
    batch = Batch(examples.ids, torch.zeros(8), pixels, examples.labels)
    found = {"labels"} if not objective.parts else set()
    for part in objective.parts.values():
        seen = doubled(batch, dict.fromkeys(objective.more, "both"))
        found |= read_by(part, look(student, seen), live(batch), seen)
    networks = [word for word in ("logits", "features", "maps", STRONG, SECOND, AGAIN, ASKED) if word in found]
    batches = [word for word in ("labels", "ids") if word in found]
    teachers = [] if objective.needs_teacher else ["no teacher"]
    return "; ".join(", ".join(words) for words in (networks, batches, teachers) if words)


def network(body: nn.Module) -> Network:
    return Network(body, (0.5,) * SHAPE.channels, (0.25,) * SHAPE.channels).train()


def read_by(part: Part, student: Output, teacher: Output, batch: Batch) -> set[str]:
    """What a term reads of the student, as its gradient tells, and of the batch."""
    found: set[str] = set()

    class Watched(Batch):
        def __getattribute__(self, name: str) -> Any:
            found.add(name)
            return super().__getattribute__(name)

    def model(pixels: Tensor) -> Output:
        found.add(ASKED)
        assert student.model is not None
        return student.model(pixels)

    ours = replace(student.detach().each(lambda tensor: tensor.requires_grad_()), model=model)
    term = getattr(part.term, "first_stage", part.term) if part.when == "first" else part.term
    scheduled = {key: schedule(0.5) for key, schedule in part.scheduled.items()}
    seen = Watched(batch.ids, batch.views, batch.pixels, batch.labels)
    shown = {"strong": (ours.strong, STRONG), "second": (ours.second, SECOND), "again": (batch.again, AGAIN)}
    found |= {shown[other][1] for other in part.others} | ({"logits"} if "strong" in part.others else set())
    term(ours, teacher, seen, **{other: shown[other][0] for other in part.others}, **scheduled).mean().backward()
    shown = {"logits": [ours.logits], "features": [ours.features], "maps": list(ours.maps.values())}
    return found | {word for word, tensors in shown.items() if any(tensor.grad is not None for tensor in tensors)}


# What a docstring says.


def described(name: str) -> list[str]:
    """The head of a term's docstring, and of those of the functions of its module that this one names."""
    term = resolve(kdal_cli.losses, name, [], name)
    head = paragraphs(term)[0]
    module = sys.modules[term.__module__]
    named = [getattr(module, word, None) for word in dict.fromkeys(re.findall(r"`(\w+)`", head))]
    functions = [thing for thing in named if inspect.isfunction(thing) and thing is not term]
    return [linked(text) for text in paragraphs(term)[:2]] + [
        linked(f"`{function.__name__}`: " + "\n\n".join(paragraphs(function)[:2])) for function in functions
    ]
