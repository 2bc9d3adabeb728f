"""`kdal distill`: a student against a teacher, directly or through assistants, once or for generations."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kdal_cli.devices.passes import images_a_pass
from kdal_cli.errors import UserError
from kdal_cli.inference.predict import BATCH
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.checkup import examine
from kdal_cli.lab.guide import Guide
from kdal_cli.lab.lab import Lab, MakeObjective
from kdal_cli.lab.paid import given
from kdal_cli.lab.teacher import Teacher, warn_of_pupil
from kdal_cli.lab.train import train
from kdal_cli.metrics.classification import agreement
from kdal_cli.metrics.cost import flops, parameters, throughput
from kdal_cli.network import Network, freeze
from kdal_cli.records import checkpoint
from kdal_cli.records.curve import Table
from kdal_cli.records.snapshots import Snapshots
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples


@dataclass(frozen=True)
class Entry:
    """One network of the comparison, and what was measured on the test set."""

    name: str
    network: Network
    figures: dict[str, float]


@dataclass(frozen=True)
class Link:
    """One student of a chain: each is taught by the one before. role: its name in tables, and as a file."""

    role: str
    blueprint: Blueprint


def distill(
    lab: Lab,
    chain: Sequence[Link],
    teacher: Teacher | None,
    guide: Guide,
    make_objective: MakeObjective,
    recipe: Recipe,
    labels: int | None = None,
    alone: Link | None = None,
) -> list[Entry]:
    """Train the chain, the last link of which is the student, and measure every network in it.

    guide: who teaches the first link. labels: how many images have a label, drawn by the seed; the others are there for
    the terms that need none. alone: the student to be trained without a teacher: same weights, same order, same views.
    Returns the teacher, the chain and the student alone, side by side; their checkpoints are on disk.
    """
    examples = given(lab, labels, lab.streams)
    entries = [Entry("teacher", teacher.network, {**teacher.metrics, **_cost(lab, teacher.network)})] if teacher else []
    for link in chain:
        network, peer = _train(lab, link, examples, guide, make_objective, recipe)
        entries += [_entry(lab, "peer", peer)] if peer is not None else []
        entries.append(_entry(lab, link.role, network))
        if teacher is not None and teacher.metrics:
            entries[-1].figures["teacher_agreement"] = agreement(lab.test_output(network).logits, teacher.test_logits)
        guide = guide.taught_by(freeze(network))
    if alone is not None:
        network, _ = _train(lab, alone, examples, Guide(), labels_alone, recipe)
        entries.append(_entry(lab, alone.role, network))
        validate = lab.accuracy(*lab.validated)
        if teacher is not None and validate is not None:
            warn_of_pupil(lab, teacher, validate(network), "the student alone")
    return entries


def labels_alone(*_: object) -> Objective:
    """What a student minimises that nobody teaches."""
    return Objective()


def _train(
    lab: Lab, link: Link, examples: Examples, guide: Guide, make_objective: MakeObjective, recipe: Recipe
) -> tuple[Network, Network | None]:
    """A link of the chain trained and saved, and the peer beside it.

    The student, alone or not, is trained at the same addresses; earlier links have addresses of their own.
    """
    role = link.role.replace(" ", "_")
    address = "student" if role == "student_alone" else role
    if guide.peer is None and (done := _done(lab, link, role)):
        return done, None
    network = lab.network(link.blueprint, address)
    snapshots = Snapshots(lab.run.folder / f"{role}.snapshot", role)
    validate = lab.accuracy(*lab.validated)
    fitted, peer = train(
        lab, network, examples, make_objective, guide, recipe, validate, snapshots, address, what=link.role
    )
    examine(lab, network, f"the {link.role}", examples.labelled_ids, examples.labels, fitted)
    timings = Table(lab.run.folder / "timings.csv")
    timings.add({"training": len(timings), **fitted.spent, **lab.pace(network, fitted)})
    trained_on = {"data": lab.data.name, "labels": len(examples.labels), "validation_labels": len(lab.validation)}
    saved = [("student", role, link.blueprint, network)]
    if peer is not None and guide.peer is not None:
        saved.append(("peer", "peer", guide.peer, peer))
    for kind, name, blueprint, body in saved:
        card = lab.card(kind, blueprint, trained_on, lab.measure_test(body), lab.calibration(body, *lab.validated))
        checkpoint.write(lab.run.checkpoints / f"{name}.safetensors", body.body, card)
    snapshots.clear()
    return network, peer


def _done(lab: Lab, link: Link, role: str) -> Network | None:
    """The network that a stopped run had finished with, if its checkpoint is whole."""
    path = lab.run.checkpoints / f"{role}.safetensors"
    if not path.exists():
        return None
    try:
        network = lab.restore(link.blueprint, checkpoint.read(path))
    except UserError as damage:
        lab.watcher.say(f"{damage}; training it again")
        return None
    lab.watcher.say(f"{link.role}: trained already")
    return network


def _entry(lab: Lab, name: str, network: Network) -> Entry:
    """What a network scores on the test set, and what it costs."""
    return Entry(name, network, lab.measure_test(network) | _cost(lab, network))


def _cost(lab: Lab, network: Network) -> dict[str, float]:
    """FLOPs are of one image; images/s of batches as they are evaluated in, on this device."""
    example = lab.test.whole(torch.zeros(1, dtype=torch.int64))
    many = images_a_pass(network, lab.test, BATCH)
    batch = lab.test.whole(torch.arange(min(many, len(lab.data.test))))
    return {
        "parameters": parameters(network),
        "flops": flops(network, example),
        "images_per_s": throughput(network, batch),
    }
