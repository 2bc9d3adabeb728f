"""`kdal distill`: a student against a teacher, on all labels."""

from dataclasses import dataclass

import torch

from kdal_cli import checkpoint
from kdal_cli.commands._lab import Blueprint, Lab, MakeObjective
from kdal_cli.commands._teacher import Teacher
from kdal_cli.fit import Recipe, fit
from kdal_cli.metrics.classification import agreement
from kdal_cli.metrics.cost import flops, parameters, throughput
from kdal_cli.network import Network
from kdal_cli.objective import Objective
from kdal_cli.run import Snapshots
from kdal_cli.types import Examples


@dataclass(frozen=True)
class Entry:
    """One network of the comparison, and what was measured on the test set."""

    name: str
    network: Network
    figures: dict[str, float]


def distill(
    lab: Lab,
    student: Blueprint,
    teacher: Teacher | None,
    make_objective: MakeObjective,
    recipe: Recipe,
    *,
    compare: bool = False,
) -> list[Entry]:
    """Train the student, and with `compare` the same student without the teacher: same weights, same order, same views.

    Returns the teacher, the student and the student alone, side by side; the student's checkpoint is on disk.
    """
    entries = [_entry(lab, "teacher", teacher.network)] if teacher is not None else []
    network = _train(lab, student, teacher, make_objective, recipe, "student")
    entries.append(_entry(lab, "student", network))
    if teacher is not None:
        entries[-1].figures["teacher_agreement"] = agreement(lab.test_output(network).logits, teacher.test_logits)
    if compare and teacher is not None:
        alone = _train(lab, student, None, lambda *_: Objective(), recipe, "student alone")
        entries.append(_entry(lab, "student alone", alone))
    return entries


def _train(
    lab: Lab, student: Blueprint, teacher: Teacher | None, make_objective: MakeObjective, recipe: Recipe, name: str
) -> Network:
    """A student trained at the same addresses whatever its name, and saved under it."""
    role = name.replace(" ", "_")
    network = lab.network(student, "student")
    above = teacher.network if teacher else None
    labels = lab.data.train.labels
    examples = Examples(lab.pool, labels[lab.pool])
    objective = lab.objective(make_objective, network, above, examples, "student")
    snapshots = Snapshots(lab.run.folder / f"{role}.snapshot", role)
    fit(
        network,
        lab.views(recipe.augment),
        examples,
        objective,
        recipe,
        lab.engine,
        lab.streams.under("fit", "student"),
        lab.watcher,
        teacher=lab.live(above, recipe.precision),
        validate=lab.accuracy(lab.validation, labels[lab.validation]),
        keeper=snapshots,
        what=name,
    )
    trained_on = {"data": lab.data.name, "labels": len(lab.pool), "validation_labels": len(lab.validation)}
    card = lab.card("student", student, trained_on, lab.measure_test(network))
    checkpoint.write(lab.run.checkpoints / f"{role}.safetensors", network.body, card)
    snapshots.clear()
    return network


def _entry(lab: Lab, name: str, network: Network) -> Entry:
    """What a network scores and costs. FLOPs are of one image; images/s of batches of 250 on this device."""
    example = lab.test.whole(torch.zeros(1, dtype=torch.int64))
    batch = lab.test.whole(torch.arange(min(250, len(lab.data.test))))
    figures = lab.measure_test(network) | {
        "parameters": parameters(network),
        "flops": flops(network, example),
        "images_per_s": throughput(network, batch),
    }
    return Entry(name, network, figures)
