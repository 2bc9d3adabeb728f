"""A network learns from images alone, or from a frozen teacher's answers: it ends as weights, and as a space."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.baselines.probe import Probe
from kdal_cli.errors import UserError
from kdal_cli.inference.embedding import VECTORS
from kdal_cli.inference.predict import predict
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.guide import Guide, answers
from kdal_cli.lab.lab import Lab, MakeObjective
from kdal_cli.metrics.representation import collapsed, effective_rank, knn_accuracy, spread
from kdal_cli.network import Network
from kdal_cli.records import checkpoint
from kdal_cli.records.curve import Table
from kdal_cli.records.snapshots import Snapshots
from kdal_cli.training.fit import fit
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples

LOOKED_AT = 2000
"""Images of the pool whose features are looked at for collapse."""

ROLE = "pretrained"
"""Of its checkpoint: the head has learnt nothing."""


@dataclass(frozen=True)
class Quality:
    """What features are worth: measured on the validation images, half of which are known and half asked about.

    The only labels that are read here, and nothing of the training hangs on them.
    """

    lab: Lab

    def __call__(self, network: Network) -> dict[str, float]:
        """knn_accuracy and probe_accuracy, where there are validation labels, spread and effective_rank."""
        some = predict(network, self.lab.train, self.lab.pool[:LOOKED_AT]).features
        figures = {"spread": spread(some), "effective_rank": effective_rank(some)}
        if self.half:
            bank, labels, queries, truth = self._halves(network)
            targets = F.one_hot(labels, len(self.lab.data.classes)).double()
            answers = Probe().learn(bank.double().cpu().numpy(), targets.cpu().numpy())(queries.double().cpu().numpy())
            figures["knn_accuracy"] = knn_accuracy(bank, labels, queries, truth)
            figures["probe_accuracy"] = float(np.mean(answers == truth.cpu().numpy()))
        return figures

    def on_the_way(self, network: Network) -> float:
        """knn_accuracy. Says so where features have collapsed."""
        some = predict(network, self.lab.train, self.lab.pool[:LOOKED_AT]).features
        figures = {"spread": spread(some), "effective_rank": effective_rank(some)}
        self.lab.log.figures(figures)
        if warning := warned(figures):
            self.lab.watcher.say(warning)
        return knn_accuracy(*self._halves(network))

    @property
    def half(self) -> int:
        """Validation images that are known, and asked about."""
        return len(self._known) // 2

    @property
    def _known(self) -> Tensor:
        """(V,) ids of the validation images whose labels the data say: nobody is asked."""
        return self.lab.data.train.labels.among(self.lab.validation)

    def _halves(self, network: Network) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(features (V/2, D) and labels (V/2,) of those that are known, the same of those that are asked about)."""
        ids, labels = self._known, self.lab.data.train.labels.of(self._known)
        order = torch.randperm(len(ids), generator=self.lab.streams.at("halves"))
        features = predict(network, self.lab.train, ids[order]).features
        labels = labels[order].to(features.device)
        return features[: self.half], labels[: self.half], features[self.half :], labels[self.half :]


def counted(recipe: Recipe, images: int, where: str) -> Recipe:
    """The recipe with its length in steps, an epoch being `images` of the pool. Raises UserError where it has none."""
    if recipe.epochs is not None:
        steps = max(1, round(recipe.epochs * images / recipe.pool_batch))
        return replace(recipe, epochs=None, steps=steps)
    if recipe.steps is None:
        cure = f"count steps or epochs of the pool: {where}.steps=1500, or {where}.epochs=20"
        raise UserError("a training without labels has no end of its own", where=f"{where}.steps=null", cure=cure)
    return recipe


def pretrain(
    lab: Lab,
    student: Blueprint,
    make_objective: MakeObjective,
    recipe: Recipe,
    method: str,
    file: Path,
    guide: Guide | None = None,
    taught_by: Sequence[Mapping[str, Any]] = (),
) -> tuple[Network, dict[str, float]]:
    """Train a network on the images of the pool, without a label; save it in `file`, and its features of all images.

    guide: the frozen teacher, where the method asks one; taught_by: where its members have what they know from. Returns
    what the network is worth, before (`…_before`) and after. A training that was stopped goes on from its last
    snapshot. Raises UserError where the recipe does not say for how long.
    """
    guide, recipe = guide or Guide(), counted(recipe, len(lab.pool), "recipe")
    network, quality = lab.network(student, "pretrain"), Quality(lab)
    before = quality(network)
    examples = Examples(lab.pool, torch.empty(0, dtype=torch.int64))
    snapshots, images = Snapshots(lab.run.folder / "training.snapshot", method), lab.views(recipe.augment)
    fitted = fit(
        network,
        images,
        examples,
        lab.objective(make_objective, network, guide.teacher, examples, "pretrain"),
        recipe,
        lab.engine,
        lab.streams.under("fit", "pretrain"),
        lab.watcher,
        teacher=answers(lab, guide, images, recipe.precision, recipe.mixes),
        validate=quality.on_the_way if quality.half else None,
        keeper=snapshots,
        what=method,
    )
    after = quality(network)
    if warning := warned(after):
        lab.watcher.say(warning)
    Table(lab.run.folder / "timings.csv").add({"training": 0, **fitted.spent, **lab.pace(network, fitted)})
    lab.run.write(VECTORS, _npy(predict(network, lab.train, torch.arange(len(lab.data.train))).features))
    lab.run.write(Path(VECTORS).stem + "_test.npy", _npy(lab.test_output(network).features))
    trained_on: dict[str, Any] = {"data": lab.data.name, "labels": 0, "validation_labels": len(lab.validation)}
    if taught_by:
        trained_on["teachers"] = list(taught_by)
    checkpoint.write(file, network.body, lab.card(ROLE, student, trained_on, after))
    snapshots.clear()
    return network, {**after, **{f"{key}_before": value for key, value in before.items()}}


def warned(figures: Mapping[str, float]) -> str | None:
    """A sentence about features that have collapsed."""
    if not collapsed(figures["spread"], figures["effective_rank"]):
        return None
    what = f"spread {figures['spread']:.3f}, effective rank {figures['effective_rank']:.1f}"
    return f"warning: the features have collapsed, {what}: all images look alike to this network"


def _npy(features: Tensor) -> bytes:
    """(N, D) float16, as NumPy writes it."""
    content = io.BytesIO()
    np.save(content, features.half().cpu().numpy())
    return content.getvalue()
