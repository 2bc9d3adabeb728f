"""docs/samplers.md: what every sampler of conf/sampler does, from its YAML, its docstring and the benchmark.

What a sampler looks at is declared nowhere: each is called on a small pool and watched.
"""

import csv
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from docstrings import linked, paragraphs
from gains import NOT_MEASURED, Study, study
from omegaconf import OmegaConf
from torch import Generator, Tensor

import kdal_cli.samplers
from kdal_cli.compose.parts import sampler
from kdal_cli.compose.registry import resolve
from kdal_cli.inference.evidence import Evidence

ROOT = Path(__file__).parents[1]
CONF, COSTS = ROOT / "conf" / "sampler", ROOT / "benchmarks" / "results" / "samplers.csv"
PAGE = ROOT / "docs" / "samplers.md"
SIZES = ({"N": "50000", "C": "10", "k": "100"}, {"N": "1000000", "C": "10", "k": "100"})
KNOWN, CLASSES, WIDTH = 60, 4, 6

INTRODUCTION = """\
# Samplers

Written by `make docs` from `conf/sampler`, the docstrings of `kdal_cli/samplers` and `benchmarks/results/samplers.csv`;
edit those.

`sampler=<name>` chooses one, `kdal al-loop sampler=<name> --cfg job` shows its settings, and
`sampler.<setting>=<value>` changes them. Axis letters: N images of the pool, M labelled, C classes, D features,
K draws, k images of the query; z features, p softmax of the scorer's logits, ŷ its most likely class.

*looks at*: what it reads of the pool. Draws need a student with dropout (`student.dropout=0.2`) or a committee
(`scorer=seeds`, `scorer=rounds`, `scorer=both`). Every sampler that has the setting `space` measures distances there:
`features` of the scorer, features of the `teacher`, `probabilities`, `pixels`, a run of `kdal pretrain`, or a file of
vectors of your own, `.npy` or `.safetensors` with one row for each image of the data set. What the teacher is asked is
charged (`teacher.price`) and counted in the curve (`teacher_answers`), each image once in a run."""


@dataclass(frozen=True)
class Sampler:
    """A file of conf/sampler. head: its first comment. reads: what it looks at. costs, gain: as measured."""

    name: str
    head: str
    settings: str
    text: list[str]
    reads: str
    costs: tuple[str, ...]
    gain: str

    @property
    def row(self) -> str:
        cells = [f"[{self.name}](#{self.name})", linked(self.head), self.reads, *self.costs, self.gain]
        return f"| {' | '.join(cells)} |"

    @property
    def section(self) -> str:
        return "\n\n".join([f"## {self.name}", f"`{self.settings}`", *map(linked, self.text)])


def page() -> str:
    """The whole of docs/samplers.md."""
    machine, costs = measured()
    gains = study("2026-11-29-digits-samplers.csv", by="sampler", value="test_accuracy", plain="random")
    samplers = [read(path, costs, gains) for path in sorted(CONF.glob("*.yaml"))]
    sizes = [f"N = {int(size['N']):,}" for size in SIZES]
    table = [
        f"| sampler | what it is | looks at | {' | '.join(sizes)} | digits |",
        "|---|---|---|" + "---|" * (len(SIZES) + 1),
        *(each.row for each in samplers),
    ]
    costs_told = (
        "The columns of N are seconds of one core and the memory above the data for k = 100, C = 10 and D = 512; "
        f"looking at the images is not counted. {machine}."
    )
    gains_told = (
        "Digits: test accuracy in % at 80 labels, and what it is above `random`, in points: "
        "[the study](../benchmarks/results/2026-11-29-digits.md), one seed, 20 labels to start and 20 a "
        "round, labels alone; one small data set at a small budget, not a ranking."
    )
    return (
        "\n\n".join([INTRODUCTION, costs_told, gains_told, "\n".join(table), *(each.section for each in samplers)])
        + "\n"
    )


def measured() -> tuple[str, list[dict[str, str]]]:
    """What the benchmark says of its machine, and its rows."""
    if not COSTS.exists():
        return "Not measured", []
    machine, *rows = COSTS.read_text(encoding="utf-8").splitlines()
    return machine.removeprefix("# "), list(csv.DictReader(rows))


def read(path: Path, costs: list[dict[str, str]], gains: Study) -> Sampler:
    section: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path), resolve=True)  # type: ignore[assignment]
    function = resolve(kdal_cli.samplers, section["name"], [], path.stem)
    head = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    settings = " ".join([path.stem, *(f"{key}={value}" for key, value in section.items() if key != "name")])
    return Sampler(
        path.stem,
        head,
        settings,
        described(function),
        looks_at(section),
        tuple(cost(path.stem, costs)),
        gains.cell(path.stem),
    )


def cost(name: str, costs: list[dict[str, str]]) -> Iterator[str]:
    for size in SIZES:
        row = next((row for row in costs if row["sampler"] == name and size.items() <= row.items()), None)
        yield f"{float(row['ours_cpu_s']):.3g} s, {float(row['ours_peak_mb']):,.0f} MB" if row else NOT_MEASURED


def described(function: Any) -> list[str]:
    """The docstring of a sampler, and the first paragraph of those of the functions of its module that it names."""
    module = inspect.getmodule(function)
    text = paragraphs(function)
    words = dict.fromkeys(text[0].split("`")[1::2])
    named = [getattr(module, word, None) for word in words]
    scores = [thing for thing in named if inspect.isfunction(thing) and thing is not function]
    return [text[0], *(f"`{score.__name__}`: " + "\n\n".join(paragraphs(score)[:2]) for score in scores), *text[1:]]


# What a sampler looks at.


class Table:
    """A scorer of images that nobody has seen."""

    def __init__(self, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.answers, self.features = (torch.randn(KNOWN, width, generator=rng) for width in (CLASSES, WIDTH))

    def logits(self, ids: Tensor) -> Tensor:
        return self.answers[ids]

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.answers[ids], self.features[ids]

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        for _ in range(count):
            yield self.answers[ids] * torch.rand(CLASSES, generator=rng)

    def classify(self, features: Tensor) -> Tensor:
        return features[:, :CLASSES]


SPOKEN = {
    "logits": "logits",
    "features": "features",
    "labels": "labels",
    "labelled_logits": "labelled images",
    "labelled_features": "labelled images",
    "validation_logits": "validation images",
    "validation_features": "validation images",
    "teacher_logits": "teacher",
    "teacher_features": "teacher",
    "teacher_validation_logits": "teacher",
    "draws": "draws",
    "history": "earlier students",
    "classify": "classifier",
    "in_space": "a space",
}


def looks_at(section: Mapping[str, Any]) -> str:
    """In words: `features, logits, labelled images`."""
    found: set[str] = set()

    class Watched(Evidence):
        def __getattribute__(self, name: str) -> Any:
            if name in SPOKEN and sys._getframe(1).f_globals["__name__"] != "dataclasses":  # a copy looks at nothing
                found.add(SPOKEN[name])
            return super().__getattribute__(name)

    def past(rounds: int) -> Iterator[Table]:
        return (Table(seed) for seed in range(2, 2 + min(rounds, 2)))

    pool = Watched(
        ids=torch.arange(40),
        labelled_ids=torch.arange(40, 50),
        labels=torch.arange(10) % CLASSES,
        classes=CLASSES,
        scorer=Table(0),
        teacher=Table(1),
        validation_ids=torch.arange(50, 60),
        validation_labels=torch.arange(10) % CLASSES,
        past=past,
        known=KNOWN,
    )
    sampler(section, [])(pool, 8, torch.Generator().manual_seed(0))
    return ", ".join(word for word in dict.fromkeys(SPOKEN.values()) if word in found) or "nothing"
