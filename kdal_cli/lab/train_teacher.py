"""Training a teacher: on every label of its images, or on what a run of active learning has bought so far."""

from collections.abc import Callable
from dataclasses import replace

from kdal_cli.errors import UserError
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.checkup import examine
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.memory import remember
from kdal_cli.network import Network
from kdal_cli.records.card import Card
from kdal_cli.records.curve import Table
from kdal_cli.records.snapshots import Snapshots
from kdal_cli.streams import Streams
from kdal_cli.training.fit import fit
from kdal_cli.training.job import Fitted
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples


def train_teacher(lab: Lab, blueprint: Blueprint, recipe: Recipe, seed: int) -> tuple[Network, Card]:
    """Train a network on all labels of its images; the card says what it consumed and what it scores on the test set.

    Its randomness hangs on a seed of its own, so that students of every seed share one teacher. A training that was
    stopped goes on from its last snapshot in the run folder. Raises UserError where there is no label.
    """
    if not len(lab.ids.teacher):
        cure = "label some, or name a teacher that is ready: teacher.checkpoint=…"
        raise UserError("a teacher learns from labels, and no image of the pool has one", cure=cure)
    network = replace(lab, streams=Streams(seed)).network(blueprint, "teacher")
    examples = Examples(lab.ids.teacher, lab.data.train.labels.of(lab.ids.teacher))
    validate = lab.accuracy(*lab.validated)
    what = f"teacher {blueprint.spec['name']}"
    fitted, snapshots = learn(lab, network, recipe, examples, Streams(seed).under("fit", "teacher"), validate, what)
    Table(lab.run.folder / "timings.csv").add({"training": 0, **fitted.spent, **lab.pace(network, fitted)})
    snapshots.clear()
    trained_on = {"data": lab.data.name, "labels": len(lab.ids.teacher), "validation_labels": len(lab.validation)}
    return network, lab.card(
        "teacher", blueprint, trained_on, lab.measure_test(network), lab.calibration(network, *lab.validated)
    )


def learn(
    lab: Lab,
    network: Network,
    recipe: Recipe,
    examples: Examples,
    streams: Streams,
    validate: Callable[[Network], float] | None,
    what: str,
) -> tuple[Fitted, Snapshots]:
    """Train a network in place from labels alone; its snapshots are the caller's to clear."""
    snapshots = Snapshots(lab.run.folder / "training.snapshot", what)
    images, objective = lab.views(recipe.augment), Objective()
    remember(lab, network, recipe)
    fitted = fit(
        network,
        images,
        examples,
        objective,
        recipe,
        lab.engine,
        streams,
        lab.watcher,
        validate=validate,
        keeper=snapshots,
        what=what,
    )
    examine(lab, network, "the teacher", examples.ids, examples.labels, fitted, "teacher.recipe")
    return fitted, snapshots
