"""What every stage works with: the data on the device, the run folder, the randomness, who is watching."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdal_cli.dataset import ImageData, Preprocessing
from kdal_cli.devices.engine import Engine
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.images.split import Ids
from kdal_cli.inference.predict import predict
from kdal_cli.inference.scorers import Seer
from kdal_cli.inference.tables import Tables
from kdal_cli.lab.blueprint import Blueprint, model_of, named
from kdal_cli.metrics.classification import measure
from kdal_cli.metrics.confidence import LEAST, calibrate
from kdal_cli.metrics.cost import FlopMeter
from kdal_cli.network import Network
from kdal_cli.records.card import Card
from kdal_cli.records.checkpoint import Checkpoint
from kdal_cli.records.run import Log, Run
from kdal_cli.records.tracking import Tracking
from kdal_cli.report.display import Display
from kdal_cli.streams import Streams
from kdal_cli.training.job import Fitted
from kdal_cli.training.objective import Objective
from kdal_cli.types import Calibration, Examples, Output, Watcher

MakeObjective = Callable[[Network, Network | None, Examples], Objective]
"""An objective for a student, its teacher and the images of a training; adapters take their widths from the two."""


@dataclass(frozen=True)
class Lab:
    """The bench of a stage.

    ids: of `data.train`, divided. train, test: the same images on the device. features: the folder for what bodies that
    do not change have seen in them; without one it is kept in memory. tables: where features of the pool are held.
    """

    data: ImageData
    train: Resident
    test: Resident
    ids: Ids
    engine: Engine
    streams: Streams
    run: Run
    display: Display
    tracking: Tracking
    features: Path | None = None
    tables: Tables = field(default_factory=Tables)

    @property
    def pool(self) -> Tensor:
        """(N,) ids of the images whose labels may be bought."""
        return self.ids.pool

    @property
    def labelled(self) -> Tensor:
        """(M,) ids of the images of the pool whose labels are known, to whoever may see them."""
        return self.data.train.labels.among(self.pool)

    @property
    def validation(self) -> Tensor:
        """(V,) ids of the images that are chosen by."""
        return self.ids.validation

    @cached_property
    def fingerprint(self) -> str:
        """What the images and labels are, as a hash."""
        return fingerprint(self.data)

    @cached_property
    def watcher(self) -> Watcher:
        return Both(self.display, self.log)

    @cached_property
    def log(self) -> Watcher:
        return Both(Log(self.run), self.tracking)

    @cached_property
    def flop_meter(self) -> FlopMeter:
        return FlopMeter(self.train.whole(self.pool[:1]))

    def seer(self, network: Network) -> Seer:
        """A network that looks at the training images, what it does being counted."""
        return Seer(network, self.train, self.flop_meter.forward, self.engine.team, self.tables)

    def pace(self, network: Network, fitted: Fitted) -> dict[str, float]:
        """How fast a training was: images/s, peak memory, and MFU where the peak of the device is known.

        MFU is the share of that peak, of the student's operations alone.
        """
        speed = fitted.images / fitted.seconds
        row = {"images_per_s": speed, "peak_mb": self.engine.peak_megabytes()}
        peak = self.engine.peak_flops(fitted.precision)
        return row if peak is None else row | {"mfu": 3 * self.flop_meter.cost(network) * speed / peak}

    def views(self, augment: Augment) -> Resident:
        """The training images under an augmentation: those that are on the device already, where it is the same."""
        train, same = self.data.train, augment == self.train.augment
        return self.train if same else Resident.of(train, augment, self.engine.device)

    def measured_on(self, data: ImageData) -> "Lab":
        """The same with the test set of `data`, which is this data otherwise."""
        return replace(self, data=data, test=Resident.of(data.test, Augment(), self.engine.device))

    def network(self, blueprint: Blueprint, *address: str | int) -> Network:
        """A new network on the device, its initial weights drawn at an address of the run's randomness."""
        with self.streams.applied("weights", *address):
            body = blueprint.make()
            if blueprint.start is not None:
                blueprint.start.into(body)
        return self.placed(body, blueprint.preprocessing)

    def placed(self, body: nn.Module, own: Preprocessing | None) -> Network:
        """A body on the device, behind a preprocessing of its own or that of the data."""
        rule = own or self.data.preprocessing
        network = Network(body, rule.mean, rule.std, rule.size)
        self.engine.place(network)
        return network

    def restore(
        self, blueprint: Blueprint, saved: Checkpoint, *, other_classes: bool = False, other_size: bool = False
    ) -> Network:
        """The network of a checkpoint on the device, behind the preprocessing it was trained with.

        Raises UserError when the architecture, the images or, unless they may be other, classes and size of the images
        are not those asked for. Images of another size are resized on the way in.
        """
        card, name = saved.card, named(model_of(blueprint.spec, saved, "student"))
        self.refuse_other_images(saved, other_classes=other_classes, other_size=other_size)
        with self.streams.applied("weights", "discarded"):
            body = blueprint.make()
        notes = saved.load_into(body, name)
        if notes:
            self.watcher.say(f"{saved.path}: {notes}")
        own = card.preprocessing if card else blueprint.preprocessing
        if card is not None and card.size is None and _sides(card) != _sides(self.data):
            own = replace(card.preprocessing, size=(card.shape.height, card.shape.width))
        return self.placed(body, own)

    def objective(
        self,
        make: MakeObjective,
        student: Network,
        teacher: Network | None,
        examples: Examples,
        *address: str | int,
    ) -> Objective:
        """What `student` minimises, on the device; adapters are drawn at an address, as weights are."""
        with self.streams.applied("adapters", *address):
            objective = make(student, teacher, examples)
        self.engine.place(objective)
        return objective

    def card(
        self,
        role: str,
        blueprint: Blueprint,
        trained_on: Mapping[str, Any],
        metrics: Mapping[str, float],
        calibration: Calibration | None = None,
    ) -> Card:
        """What the checkpoint of a network that was trained here says of itself."""
        data, rule = self.data, blueprint.preprocessing or self.data.preprocessing
        return Card(
            role=role,
            model=dict(blueprint.spec),
            shape=data.shape,
            classes=data.classes,
            mean=rule.mean,
            std=rule.std,
            data=data.name,
            trained_on=dict(trained_on),
            metrics=dict(metrics),
            size=rule.size,
            preparation=data.preparation,
            calibration=calibration,
        )

    def calibration(self, network: Network, ids: Tensor, labels: Tensor) -> Calibration | None:
        """How far a network's probabilities are to be believed, by images `ids` (V,) and their `labels` (V,).

        None where there are too few of them.
        """
        if len(ids) < LEAST:
            return None
        return calibrate(predict(network, self.train, ids).logits, labels)

    @property
    def validated(self) -> tuple[Tensor, Tensor]:
        """(ids (V,), labels (V,)) of the validation images, where the data says what these are: nobody is asked."""
        return self.validation, self.data.train.labels.of(self.validation)

    def test_output(self, network: Network) -> Output:
        """Logits and features of every test image, in order."""
        return predict(network, self.test, torch.arange(len(self.data.test)))

    def measure_test(self, network: Network) -> dict[str, float]:
        """Accuracy, NLL, ECE, macro precision, recall and F1 on the test set: measured, and never acted upon."""
        return measure(self.test_output(network).logits, self.data.test.labels.all(), len(self.data.classes))

    def accuracy(self, ids: Tensor, labels: Tensor) -> Callable[[Network], float] | None:
        """A function that measures accuracy on images of `data.train`, or None when there are none to measure on."""
        if not len(ids):
            return None
        truth = labels.to(self.engine.device)
        return lambda network: float((predict(network, self.train, ids).logits.argmax(1) == truth).float().mean())

    def refuse_other_images(self, saved: Checkpoint, *, other_classes: bool = False, other_size: bool = False) -> None:
        """Raise UserError when a checkpoint says that it was made for other classes or images than this data has."""
        card, path = saved.card, saved.path
        if card is None:
            return
        if not other_classes and card.classes != self.data.classes:
            theirs, ours = _listed(card.classes), _listed(self.data.classes)
            cure = f"use the data it was trained on: data={card.data}"
            raise UserError(f"checkpoint knows {theirs}, but data={self.data.name} has {ours}", where=path, cure=cure)
        resized = other_size and card.shape.channels == self.data.shape.channels
        if _sides(card) != _sides(self.data) and not resized:
            raise UserError(
                f"checkpoint takes images of {_sides(card)}, but data={self.data.name} has {_sides(self.data)}",
                where=path,
                cure=f"use the data it was trained on: data={card.data}",
            )


class Both:
    """Two watchers as one."""

    def __init__(self, first: Watcher, second: Watcher) -> None:
        self.first, self.second = first, second

    def say(self, text: str) -> None:
        self.first.say(text)
        self.second.say(text)

    def begin(self, what: str, steps: int, *, at_most: bool = False) -> None:
        self.first.begin(what, steps, at_most=at_most)
        self.second.begin(what, steps, at_most=at_most)

    def advance(self, steps: int, images: int) -> None:
        self.first.advance(steps, images)
        self.second.advance(steps, images)

    def figures(self, values: Mapping[str, float]) -> None:
        self.first.figures(values)
        self.second.figures(values)

    def end(self) -> None:
        self.first.end()
        self.second.end()


def fingerprint(data: ImageData, *, labels: bool = True) -> str:
    """SHA-256 over what the images and labels are: all of them up to a gibibyte, evenly chosen rows of a larger set,
    an eighth of that where they have to be decoded.

    labels: whether these and the names of the classes are part of it.
    """
    named = [data.name, data.classes, data.mean, data.std] if labels else [data.name, data.mean, data.std]
    digest = hashlib.sha256(json.dumps(named).encode())
    for part in (data.train, data.test):
        size = max(1, math.prod(part.pixels.shape[1:]))
        most = 2**30 if isinstance(part.pixels, Tensor) else 2**27
        rows = min(len(part), max(1, most // size))
        step = max(1, len(part) // rows)
        known = part.labels.known
        if labels and not part.labels.all_known:
            digest.update(known.numpy().tobytes())
        if labels:
            digest.update(part.labels.of(known).numpy().tobytes())
        if part.frame is not None:
            digest.update(repr((part.frame.size, part.frame.crop)).encode())
            digest.update(part.frame.sizes.numpy().tobytes())
        block = step * max(1, 2**25 // size)
        for start in range(0, len(part), block):
            digest.update(part.pixels[start : start + block : step].contiguous().numpy().data)
    return digest.hexdigest()


def _listed(classes: tuple[str, ...]) -> str:
    return f"{len(classes)} classes ({', '.join(classes[:3])}{', …' if len(classes) > 3 else ''})"


def _sides(thing: Card | ImageData) -> str:
    return f"{thing.shape.channels}×{thing.shape.height}×{thing.shape.width}"
