"""A teacher is found, not demanded: a checkpoint that is named, or the one for this exact configuration, trained once.

The store holds one folder per configuration, named by a hash of everything that decides the teacher's weights. A folder
is locked while its teacher trains, so that of two runs that start at once one trains and the other waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.inference.predict import predict
from kdal_cli.lab.blueprint import Blueprint, named
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.shelves import locked
from kdal_cli.lab.train_teacher import train_teacher
from kdal_cli.metrics.classification import measure
from kdal_cli.network import Network, freeze, mean_of
from kdal_cli.records import checkpoint
from kdal_cli.records.card import Card
from kdal_cli.records.checkpoint import Checkpoint
from kdal_cli.records.files import sha256
from kdal_cli.records.run import Run
from kdal_cli.streams import Streams
from kdal_cli.training.recipe import Recipe
from kdal_cli.values import NonNegative, Share

Learns = Literal["auto", "pool", "own", "seed_set", "bought", "nothing"]
"""Whose labels a teacher learns from, unless it comes from a file: those of the whole pool, of images of its own, of
what a run of active learning buys, the seed set or everything; or none, and it is the weights that it starts from,
whose features are worth something and whose new head knows no class. auto is settled by the stage."""

FORMAT = 2
"""Raised when the same configuration would train another teacher than before."""

CHANCE = 1.5
"""A teacher is refused as no better than chance below this many times the accuracy of guessing."""


@dataclass(frozen=True)
class Member:
    """One network that teaches: that of `checkpoint`, or that of this configuration, found in `store` or trained."""

    blueprint: Blueprint
    recipe: Recipe
    seed: int = 0
    checkpoint: Path | None = None
    store: Path = Path("outputs/teachers")

    def key(self, lab: Lab) -> str:
        """A hash of everything that decides the teacher's weights."""
        data = {"data": lab.fingerprint, "pool": lab.ids.teacher.tolist(), "validation": lab.validation.tolist()}
        return sha256(
            {
                "format": FORMAT,
                **self.blueprint.identity,
                "recipe": self.recipe.identity,
                "seed": self.seed,
                **data,
            }
        )


@dataclass(frozen=True)
class Manner:
    """How a teacher teaches, whoever it is.

    kind: `fixed`, networks that are ready; `peer`, one that learns at the same time; `previous`, the student of the
    round or generation before. learns: from which labels. average, weights: of several, see `kdal_cli.network.Mean`.
    view: what it looks at, the `same` view as the student or the `clean` image. classes: whether its classes are the
    `same` as the student's. min_confidence: images of the pool that it is less sure of are left out, and with `balance`
    each of its classes is given as many images as the others (Xie et al. 2020, arXiv:1911.04252). mutual: whether a
    peer learns from the student too. preflight: what happens when it is no better than chance. cache: whether its
    answers are kept: `auto`, as they are given, where that can be; `full`, all of them before the student starts.
    """

    kind: Literal["fixed", "peer", "previous"] = "fixed"
    learns: Learns = "pool"
    average: Literal["logits", "probabilities"] = "logits"
    weights: tuple[NonNegative, ...] | None = None
    view: Literal["same", "clean"] = "same"
    classes: Literal["same", "other"] = "same"
    min_confidence: Share = 0.0
    balance: bool = False
    mutual: bool = True
    price: NonNegative = 0.0
    preflight: Literal["warn", "fail", "off"] = "warn"
    cache: Literal["auto", "full", "off"] = "auto"

    @property
    def incomparable(self) -> str | None:
        """Why its classes are not the student's, as the key that says so; None where they are."""
        if self.learns == "nothing":
            return "teacher.learns=nothing"
        return "teacher.classes=other" if self.classes == "other" else None


@dataclass(frozen=True)
class TeacherPlan:
    """Who teaches, and how. members: the networks, several to be averaged; of a peer, the one to be trained."""

    manner: Manner
    members: tuple[Member, ...] = ()

    @property
    def buys(self) -> bool:
        """Whether the teacher is trained on the way, on what the run buys."""
        given = any(member.checkpoint is not None for member in self.members)
        return self.manner.kind == "fixed" and self.manner.learns in ("seed_set", "bought") and not given

    @property
    def name(self) -> str:
        return " + ".join(dict.fromkeys(named(member.blueprint.spec) for member in self.members))


@dataclass(frozen=True)
class Teacher:
    """A frozen network, its architecture in words, the card of each member that has one, and what was measured of it.

    metrics: on the test set; empty when its classes are others. test_logits: (N, C), kept because every round compares
    a student with them. checks: what the preflight found on the validation images. weights: the SHA-256 of what each
    member starts from, where it learns nothing.
    """

    network: Network
    name: str
    cards: Sequence[Card]
    metrics: Mapping[str, float]
    test_logits: Tensor
    checks: Mapping[str, float]
    weights: Sequence[str] = ()

    @property
    def origins(self) -> list[dict[str, Any]]:
        """What each member has learnt from, or the weights that it is, as the card of its pupil says it."""
        if self.weights:
            return [{"model": self.name, "weights": digest} for digest in self.weights]
        return [dict(card.trained_on) for card in self.cards]

    def labels_of(self, data: str) -> int:
        """How many labels of this data the teacher itself was trained on, as far as its cards tell."""
        trained = [card.trained_on for card in self.cards]
        return max((t.get("labels", 0) for t in trained if t.get("data") == data), default=0)

    @property
    def sentence(self) -> str:
        """`resnet depth=8, trained on 1,277 labels of digits, test accuracy 97.50%, ECE 0.012, entropy 0.08 nats`.

        All three are of the test images, which no teacher of ours has read.
        """
        if self.weights:
            return f"{self.name}, as its weights are; its features teach, and its head knows no class"
        told = {
            f"{t['labels']:,} labels of {t['data']}" for t in (card.trained_on for card in self.cards) if "labels" in t
        }
        trained = " and ".join(sorted(told)) or "labels that it does not tell"
        scored = f"test accuracy {self.metrics['accuracy']:.2%}" if self.metrics else "classes of its own"
        ece = f", ECE {self.metrics['ece']:.3f}" if "ece" in self.metrics else ""
        log_probs = self.test_logits.double().log_softmax(1)
        entropy = float(-(log_probs.exp() * log_probs).sum(1).mean())
        return f"{self.name}, trained on {trained}, {scored}{ece}, entropy {entropy:.2f} nats"


def find_teacher(plan: TeacherPlan, lab: Lab, temperature: float = 1.0) -> Teacher:
    """Load the teacher, training it first when nobody has. Raises UserError when it cannot teach this data.

    temperature: of the loss, at which probabilities of several are averaged.
    """
    found = [_find(member, lab, plan.manner) for member in plan.members]
    cards = [card for _, card in found if card]
    return teacher_of(plan, lab, [network for network, _ in found], cards, temperature)


def teacher_of(
    plan: TeacherPlan, lab: Lab, networks: Sequence[Network], cards: Sequence[Card], temperature: float = 1.0
) -> Teacher:
    """The teacher that these frozen networks are together, looked at before it teaches."""
    manner, name = plan.manner, plan.name
    if len(networks) == 1:
        network = networks[0]
    else:
        weights = manner.weights or (1 / len(networks),) * len(networks)
        network = mean_of(networks, weights, manner.average, temperature)
        lab.engine.place(freeze(network))
        at = f" at T={temperature:g}" if manner.average == "probabilities" else ""
        name = f"mean {manner.average}{at} of {len(networks)}: {name}"
    if manner.classes == "other" and cards:
        network.known = shared(cards[0].classes, lab.data.classes)
    logits = lab.test_output(network).logits
    same = manner.incomparable is None
    metrics = measure(logits, lab.data.test.labels.all(), len(lab.data.classes)) if same else {}
    checks = _preflight(network, lab, manner, plan.members[0].checkpoint or name)
    untaught = plan.members if manner.learns == "nothing" else ()
    weights = [member.blueprint.start.sha256 for member in untaught if member.blueprint.start]
    return Teacher(network, name, cards, metrics, logits, checks, weights)


def shared(theirs: Sequence[str], ours: Sequence[str]) -> dict[int, int]:
    """The places of the classes that have the same name in both."""
    return {place: ours.index(name) for place, name in enumerate(theirs) if name in ours}


def _find(member: Member, lab: Lab, manner: Manner) -> tuple[Network, Card | None]:
    if manner.learns == "nothing":
        return freeze(replace(lab, streams=Streams(member.seed)).network(member.blueprint, "teacher")), None
    saved = checkpoint.read(member.checkpoint) if member.checkpoint else _stored(member, lab)
    other_classes = manner.classes == "other"
    network = freeze(lab.restore(member.blueprint, saved, other_classes=other_classes, other_size=True))
    return network, saved.card


def stored(member: Member, lab: Lab) -> bool:
    """Whether this network of a teacher is there: named by a file, or trained already."""
    return member.checkpoint is not None or (_shelf(member, lab) / "teacher.safetensors").exists()


def _shelf(member: Member, lab: Lab) -> Path:
    """The folder of this configuration's network in the store."""
    return member.store / member.key(lab)[:16]


def publish(plan: Member, lab: Lab, network: Network, card: Card) -> None:
    """Put a teacher that was trained for this configuration into the store, unless one is there."""
    folder = _shelf(plan, lab)
    with locked(folder, "a teacher", "teacher.store"):
        if not (folder / "teacher.safetensors").exists():
            checkpoint.write(folder / "teacher.safetensors", network.body, card)


def _stored(plan: Member, lab: Lab) -> Checkpoint:
    """The teacher of this configuration, trained where nobody has, or where what is kept is damaged."""
    folder = _shelf(plan, lab)
    path = folder / "teacher.safetensors"
    with locked(folder, "a teacher", "teacher.store"):
        try:
            if path.exists():
                return checkpoint.read(path)
            lab.display.say(f"no teacher for this configuration yet: training one in {folder}")
        except UserError as damage:
            lab.display.say(f"{damage}; training it again")
        network, card = train_teacher(replace(lab, run=Run(folder)), plan.blueprint, plan.recipe, plan.seed)
        checkpoint.write(path, network.body, card)
    return checkpoint.read(path)


def _preflight(network: Network, lab: Lab, manner: Manner, where: object) -> dict[str, float]:
    """What the teacher answers to validation images, before anything is spent on it: accuracy, ECE, entropy (nats).

    Raises UserError when it yields probabilities, or, with preflight=fail, when it is no better than chance.
    """
    if manner.preflight == "off" or manner.learns == "nothing":
        return {}
    ids = lab.validation if len(lab.validation) else lab.pool[:500]
    logits = predict(network, lab.train, ids).logits
    if (logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-3).all():
        cure = "take the softmax out of the model"
        raise UserError("teacher yields probabilities, not logits", where=where, cure=cure)
    probs = logits.double().softmax(1)
    checks = {"entropy": float(-(probs * logits.double().log_softmax(1)).sum(1).mean())}
    if len(lab.validation) and manner.incomparable is None:
        measured = measure(logits, lab.data.train.labels.of(ids), len(lab.data.classes))
        checks |= {key: measured[key] for key in ("accuracy", "ece")}
        if measured["accuracy"] <= CHANCE / len(lab.data.classes):
            text = f"the teacher is right on {measured['accuracy']:.1%} of the validation images: little beyond chance"
            if manner.preflight == "fail":
                raise UserError(text, where="teacher.preflight=fail", cure="train it longer, or choose another")
            lab.watcher.say(f"WARNING: {text}")
    return checks


def warn_of_pupil(lab: Lab, teacher: Teacher, accuracy: float | None, who: str) -> None:
    """Say loudly when a student that nobody taught is as good as its teacher on the validation images."""
    if accuracy is not None and "accuracy" in teacher.checks and accuracy >= teacher.checks["accuracy"]:
        lab.watcher.say(
            f"WARNING: {who} is right on {accuracy:.1%} of the validation images, "
            f"the teacher on {teacher.checks['accuracy']:.1%}: there is little to learn from it"
        )
