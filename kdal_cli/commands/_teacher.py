"""A teacher is found, not demanded: a checkpoint that is named, or the one for this exact configuration, trained once.

The store holds one folder per configuration, named by a hash of everything that decides the teacher's weights. A folder
is locked while its teacher trains, so that of two runs that start at once one trains and the other waits.
"""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from kdal_cli import checkpoint
from kdal_cli.checkpoint import Card, Checkpoint
from kdal_cli.commands._lab import Blueprint, Lab, fingerprint, named
from kdal_cli.commands.train_teacher import train_teacher
from kdal_cli.errors import UserError
from kdal_cli.files import sha256
from kdal_cli.fit import Recipe
from kdal_cli.infer import predict
from kdal_cli.metrics.classification import accuracy, measure
from kdal_cli.network import Network, freeze
from kdal_cli.run import Run
from kdal_cli.values import Natural

FORMAT = 1
"""Raised when the same configuration would train another teacher than before."""


@dataclass(frozen=True)
class TeacherPlan:
    """Which teacher is wanted: that of `checkpoint`, or the one for this configuration, found in `store` or trained."""

    blueprint: Blueprint
    recipe: Recipe
    seed: Natural = 0
    checkpoint: Path | None = None
    store: Path = Path("outputs/teachers")

    def key(self, lab: Lab) -> str:
        """A hash of everything that decides the teacher's weights."""
        data = {"data": fingerprint(lab.data), "pool": lab.pool.tolist(), "validation": lab.validation.tolist()}
        return sha256(
            {
                "format": FORMAT,
                "model": dict(self.blueprint.spec),
                "recipe": vars(self.recipe),
                "seed": self.seed,
                **data,
            }
        )


@dataclass(frozen=True)
class Teacher:
    """A frozen network, its architecture in words, its card when it has one, and what was measured on the test set.

    test_logits: (N, C), kept because every round compares a student with them.
    """

    network: Network
    name: str
    card: Card | None
    metrics: Mapping[str, float]
    test_logits: Tensor

    def labels_of(self, data: str) -> int:
        """How many labels of this data the teacher itself was trained on, as far as its card tells."""
        trained = self.card.trained_on if self.card else {}
        return trained.get("labels", 0) if trained.get("data") == data else 0

    @property
    def sentence(self) -> str:
        """`resnet depth=8, trained on 1,277 labels of digits, test accuracy 97.50%`."""
        trained = self.card.trained_on if self.card else {}
        labels = (
            f"{trained['labels']:,} labels of {trained['data']}"
            if "labels" in trained
            else "labels that it does not tell"
        )
        return f"{self.name}, trained on {labels}, test accuracy {self.metrics['accuracy']:.2%}"


def find_teacher(plan: TeacherPlan, lab: Lab) -> Teacher:
    """Load the teacher, training it first when nobody has. Raises UserError when it cannot teach this data."""
    saved = checkpoint.read(plan.checkpoint) if plan.checkpoint else _stored(plan, lab)
    network = freeze(lab.restore(plan.blueprint, saved))
    _preflight(network, lab, saved.path)
    logits = lab.test_output(network).logits
    metrics = measure(logits, lab.data.test.labels, len(lab.data.classes))
    return Teacher(network, named(plan.blueprint.spec), saved.card, metrics, logits)


def publish(plan: TeacherPlan, lab: Lab, network: Network, card: Card) -> None:
    """Put a teacher that was trained for this configuration into the store, unless one is there."""
    folder = plan.store / plan.key(lab)[:16]
    with _locked(folder):
        if not (folder / "teacher.safetensors").exists():
            checkpoint.write(folder / "teacher.safetensors", network.body, card)


def _stored(plan: TeacherPlan, lab: Lab) -> Checkpoint:
    """The teacher of this configuration, trained where nobody has, or where what is kept is damaged."""
    folder = plan.store / plan.key(lab)[:16]
    path = folder / "teacher.safetensors"
    with _locked(folder):
        try:
            if path.exists():
                return checkpoint.read(path)
            lab.display.say(f"no teacher for this configuration yet: training one in {folder}")
        except UserError as damage:
            lab.display.say(f"{damage}; training it again")
        network, card = train_teacher(replace(lab, run=Run(folder)), plan.blueprint, plan.recipe, plan.seed)
        checkpoint.write(path, network.body, card)
    return checkpoint.read(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except OSError as error:
        cure = "choose another teacher.store"
        raise UserError(f"cannot keep a teacher here: {error.strerror}", where=folder, cure=cure) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _preflight(network: Network, lab: Lab, path: Path) -> None:
    """Refuse a teacher that yields probabilities; say loudly when it is no better than chance."""
    ids = lab.validation if len(lab.validation) else lab.pool[:500]
    logits = predict(network, lab.train, ids).logits
    if logits.shape[1] != len(lab.data.classes):
        raise UserError(
            f"teacher answers {logits.shape[1]} classes, data={lab.data.name} has {len(lab.data.classes)}", where=path
        )
    if (logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-3).all():
        raise UserError(
            "teacher yields probabilities, not logits", where=path, cure="take the softmax out of the model"
        )
    if len(lab.validation):
        right = accuracy(logits, lab.data.train.labels[ids])
        if right <= 1.5 / len(lab.data.classes):
            lab.watcher.say(
                f"WARNING: the teacher is right on {right:.1%} of the validation images: little beyond chance"
            )
