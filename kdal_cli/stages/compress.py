"""`kdal compress`: a finished student made smaller or cheaper, taught by what it was before."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from kdal_cli.devices.precision import Precision
from kdal_cli.errors import UserError
from kdal_cli.export import measure
from kdal_cli.export.whole import Whole
from kdal_cli.lab.blueprint import Blueprint, named
from kdal_cli.lab.checkup import examine
from kdal_cli.lab.guide import Guide
from kdal_cli.lab.lab import Lab, MakeObjective
from kdal_cli.lab.train import train
from kdal_cli.metrics.cost import flops, parameters
from kdal_cli.network import Network
from kdal_cli.records import checkpoint
from kdal_cli.records.card import Card
from kdal_cli.records.curve import Table
from kdal_cli.records.files import remove
from kdal_cli.records.snapshots import Snapshots
from kdal_cli.stages.distill import Entry
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples

LOOKS = 256
"""Images of the pool that a method looks at before it trains."""

SNAPSHOT = "student.snapshot"
BATCHES = (1, measure.LARGE)
COSTS = {"parameters": "parameters", "flops": "MACs"}


class Method(Protocol):
    """How a body becomes a cheaper one. iterations: how often `begin`, a training and `end` follow each other.

    precision: what it has to be trained in, None as the recipe says. simulates: in what the body computes that is
    trained, in words, where that is not how it is saved.
    """

    iterations: int
    precision: Precision | None
    simulates: str | None

    def begin(self, body: nn.Module, images: Tensor) -> nn.Module:
        """The body that is trained; the one that is given stays as it is. images: (B, c, H, W), normalised."""
        ...

    def end(self, body: nn.Module) -> nn.Module:
        """The body that is saved."""
        ...

    def spec(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The architecture of that, as a checkpoint records it."""
        ...

    def told(self, before: nn.Module, after: nn.Module) -> str:
        """What was asked for and what became of it. after: what `begin` made of it."""
        ...


@dataclass(frozen=True)
class Subject:
    """A finished network: its architecture, with its preprocessing, its body, and what images and labels it may see."""

    blueprint: Blueprint
    body: nn.Module
    examples: Examples


def compress(
    lab: Lab, subject: Subject, method: Method, guide: Guide, make_objective: MakeObjective, recipe: Recipe
) -> list[Entry]:
    """Compress a student and train what is left; its checkpoint is on disk. Returns it beside what it was before.

    What is computed elsewhere in another way than here is measured in that way as well.
    """
    blueprint = replace(subject.blueprint, spec=method.spec(subject.blueprint.spec), start=None)
    recipe = replace(recipe, precision=method.precision) if method.precision else recipe
    body, seen = subject.body, lab.train.whole(lab.pool[:LOOKS])
    images = _placed(lab, body, blueprint).normalised(seen).cpu()
    for number in range(1, method.iterations + 1):
        name = "student" if number == method.iterations else f"iteration_{number}"
        changed = method.begin(body, images)
        body, told = method.end(changed), method.told(subject.body, changed)
        lab.watcher.say(f"iteration {number}: {told}" if method.iterations > 1 else told)
        if _done(lab, name, body, blueprint):
            continue
        network = _placed(lab, changed, blueprint)
        _train(lab, network, subject.examples, guide, make_objective, recipe, name)
        trained = network.body.state_dict()
        body.load_state_dict({tensor: trained[tensor] for tensor in body.state_dict()})
        checkpoint.write(lab.run.checkpoints / f"{name}.safetensors", body, _card(lab, blueprint, body, subject))
        remove(lab.run.folder / SNAPSHOT)
    return [
        *_entries(lab, "before", subject.body, method, images, blueprint),
        *_entries(lab, "student", body, method, images, blueprint),
    ]


def in_short(entries: Sequence[Entry], method: Method) -> str:
    """What compressing has changed, in a sentence."""
    found = {entry.name: entry.figures for entry in entries}
    before, after = found["before"], found["student"]
    if method.simulates:
        there = [found[f"{name}, {method.simulates}"] for name in ("before", "student")]
        plain, simulated = (
            " before and ".join(f"{each['accuracy']:.2%}" for each in pair) for pair in ((before, after), there)
        )
        return f"in short: in {method.simulates} {simulated} after, of test accuracy; as it is saved {plain} after"
    fewer = ", ".join(f"{what} {after[key] / before[key] - 1:+.0%}" for key, what in COSTS.items())
    times = " and ".join(f"{before[f'ms_{n}']:.2f} to {after[f'ms_{n}']:.2f} ms at batch {n}" for n in BATCHES)
    return f"in short: {fewer}; {times}; {100 * (after['accuracy'] - before['accuracy']):+.2f} points of test accuracy"


def _placed(lab: Lab, body: nn.Module, blueprint: Blueprint) -> Network:
    """A copy of a body on the device: the hooks of a network are not for the next one."""
    return lab.placed(copy.deepcopy(body), blueprint.preprocessing)


def _train(
    lab: Lab,
    network: Network,
    examples: Examples,
    guide: Guide,
    make_objective: MakeObjective,
    recipe: Recipe,
    name: str,
) -> None:
    """Train what a method has made of the student, and say what is wrong with it, if anything is."""
    snapshots = Snapshots(lab.run.folder / SNAPSHOT, name)
    validate = lab.accuracy(*lab.validated)
    fitted, _ = train(lab, network, examples, make_objective, guide, recipe, validate, snapshots, name, what=name)
    examine(lab, network, f"the {name}", examples.labelled_ids, examples.labels, fitted)
    timings = Table(lab.run.folder / "timings.csv")
    timings.add({"training": len(timings), **fitted.spent, **lab.pace(network, fitted)})


def _card(lab: Lab, blueprint: Blueprint, body: nn.Module, subject: Subject) -> Card:
    network, labels = _placed(lab, body, blueprint), len(subject.examples.labels)
    trained_on = {"data": lab.data.name, "labels": labels, "validation_labels": len(lab.validation)}
    calibration = lab.calibration(network, *lab.validated)
    return lab.card("student", blueprint, trained_on, lab.measure_test(network), calibration)


def _done(lab: Lab, name: str, body: nn.Module, blueprint: Blueprint) -> bool:
    """Whether a stopped run had finished with this body; its weights are loaded if their checkpoint is whole."""
    path = lab.run.checkpoints / f"{name}.safetensors"
    if not path.exists():
        return False
    try:
        checkpoint.read(path).load_into(body, named(blueprint.spec))
    except UserError as damage:
        lab.watcher.say(f"{damage}; training it again")
        return False
    lab.watcher.say(f"{name}: trained already")
    return True


def _entries(
    lab: Lab, name: str, body: nn.Module, method: Method, images: Tensor, blueprint: Blueprint
) -> Iterator[Entry]:
    """What a body scores on the test set and costs; and what it scores as it will be computed elsewhere."""
    network = _placed(lab, body, blueprint)
    yield Entry(name, network, lab.measure_test(network) | _cost(lab, network, body))
    if method.simulates:
        twin = _placed(lab, method.begin(body, images), blueprint)
        yield Entry(f"{name}, {method.simulates}", twin, lab.measure_test(twin))


def _cost(lab: Lab, network: Network, body: nn.Module) -> dict[str, float]:
    """Parameters, FLOPs of an image, and the median milliseconds of a pass on the CPU, in torch, as the network is."""
    example = lab.test.whole(torch.zeros(1, dtype=torch.int64))
    mean, std = ((statistic.flatten() / 255).tolist() for statistic in (network.mean, network.std))
    run = measure.torch_module(Whole(copy.deepcopy(body), mean, std, network.size).eval())
    times = {f"ms_{n}": measure.pace(run, np.repeat(example.cpu().numpy(), n, 0)).median for n in BATCHES}
    return {"parameters": parameters(network), "flops": flops(network, example), **times}
