"""Learning from images alone: no label is seen, a stop costs no bit, and what comes out is weights and a space."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kdal_cli.methods
from kdal_cli.compose.loss import LossPlan
from kdal_cli.compose.start import begin
from kdal_cli.compose.terms import plan_term
from kdal_cli.dataset import ImageData, Labels
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment
from kdal_cli.inference.embedding import embedding, vectors
from kdal_cli.lab import pretrain as stage
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.guide import Guide
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.pretrain import Quality, counted, pretrain, warned
from kdal_cli.metrics.representation import collapsed, effective_rank, knn_accuracy, spread
from kdal_cli.network import Network, classifier, freeze
from kdal_cli.records import checkpoint
from kdal_cli.records.snapshots import Snapshots
from kdal_cli.streams import Streams
from kdal_cli.training.recipe import Recipe

RECIPE = Recipe(steps=9, pool_batch=16, lr=0.01, checks=3, optimizer="adamw", augment=Augment(kind="photo"))


def method(name: str, images: ImageData) -> LossPlan:
    section: dict[str, Any] = {"name": name, "on": "pool", "hidden": 8, "dimensions": 6}
    if name == "distillation":
        section = {"name": name, "on": "pool", "queue": 40}
    if name == "byol":
        section["momentum"] = {"schedule": "cosine", "start": 0.9, "end": 1.0}
    term = plan_term("method", section, 1.0, [], package=kdal_cli.methods)
    return LossPlan(0.0, 1.0, 0.0, {name: term}, images.shape)


def trained(lab: Lab, student: Blueprint, images: ImageData, name: str) -> tuple[Network, dict[str, float]]:
    file, guide = lab.run.checkpoints / "student.safetensors", None
    if name == "distillation":
        guide = Guide(teacher=freeze(replace(lab, streams=Streams(7)).network(student, "teacher")))
    return pretrain(lab, student, method(name, images), RECIPE, name, file, guide)


def with_labels(lab: Lab, answers: torch.Tensor) -> Lab:
    train = replace(lab.data.train, labels=Labels.complete(answers))
    return replace(lab, data=replace(lab.data, train=train))


@pytest.mark.parametrize("name", ["simclr", "byol", "distillation"])
def test_other_labels_give_the_same_weights_and_the_same_space(name: str, bench, student, images) -> None:
    truth = images.train.labels.all()
    outcomes = []
    for folder, answers in (("one", truth), ("two", truth.flip(0)), ("three", torch.zeros_like(truth))):
        lab = with_labels(bench(folder), answers)
        network, _ = trained(lab, student, images, name)
        space = (lab.run.folder / "features.npy").read_bytes()
        outcomes.append((network.state_dict(), space))
    for weights, space in outcomes[1:]:
        assert all(torch.equal(weights[key], tensor) for key, tensor in outcomes[0][0].items())
        assert space == outcomes[0][1]


class Album(Snapshots):
    """Snapshots at every check, each of them kept."""

    def __init__(self, path: Path, label: str) -> None:
        super().__init__(path, label, every=0.0)

    def offer(self, state: Mapping[str, Any]) -> None:
        super().offer(state)
        shutil.copy(self.path, self.path.with_suffix(f".{state['step']}"))


@pytest.mark.parametrize("name", ["byol", "barlow_twins", "vicreg", "distillation"])
def test_a_stopped_pretraining_goes_on_to_the_same_bits(name: str, bench, student, images, monkeypatch) -> None:
    monkeypatch.setattr(stage, "Snapshots", Album)
    whole, again = bench("whole"), bench("again")
    network, figures = trained(whole, student, images, name)
    for step in (3, 6):
        shutil.copy(whole.run.folder / f"training.{step}", again.run.folder / "training.snapshot")
        resumed, figures_again = trained(again, student, images, name)
        assert all(torch.equal(t, resumed.state_dict()[key]) for key, t in network.state_dict().items())
        assert figures_again == figures
    assert not (whole.run.folder / "training.snapshot").exists()


@pytest.mark.parametrize(("epochs", "steps"), [(20, 1562), (0.5, 39), (0.001, 1)])
def test_an_epoch_is_the_images_of_the_pool(epochs: float, steps: int) -> None:
    recipe = counted(Recipe(epochs=epochs, pool_batch=128), 10_000, "recipe")
    assert (recipe.steps, recipe.epochs) == (steps, None)


def test_a_length_that_nobody_says_is_refused() -> None:
    with pytest.raises(UserError, match=r"no end of its own .*pretrain\.recipe\.epochs=20"):
        counted(Recipe(), 10, "pretrain.recipe")


def test_what_comes_out_is_a_body_to_start_from_with_another_head_and_a_space(bench, student, images) -> None:
    lab = bench()
    network, figures = trained(lab, student, images, "simclr")
    assert {"knn_accuracy", "probe_accuracy", "spread", "effective_rank", "knn_accuracy_before"} <= set(figures)
    card = checkpoint.read(lab.run.folder).card
    assert card is not None
    assert (card.role, card.trained_on["labels"], card.trained_on["validation_labels"]) == ("pretrained", 0, 16)
    body = student.make()
    begun = begin(body, lab.run.folder, student.spec, images.classes, "student").start
    assert begun is not None
    head = {id(p) for p in classifier(body).parameters()}
    assert set(begun.weights) == {name for name, p in body.named_parameters() if id(p) not in head}
    assert all(torch.equal(t, network.body.state_dict()[key]) for key, t in begun.weights.items())
    assert vectors(lab.run.folder / "features.npy") == vectors(lab.run.folder)
    assert np.load(lab.run.folder / "features_test.npy").shape == (60, 8)
    rows = embedding(vectors(lab.run.folder), 96)(torch.tensor([5, 70]))
    with torch.no_grad():
        seen = network.eval()(images.train.pixels[[5, 70]]).features
    torch.testing.assert_close(rows, seen, rtol=1e-2, atol=1e-2)
    assert np.load(lab.run.folder / "features.npy").dtype == np.float16


def test_a_folder_without_a_space_is_no_space(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read this embedding"):
        embedding(vectors(tmp_path), 96)


def test_without_a_length_it_is_refused(bench, student, images) -> None:
    endless = replace(RECIPE, steps=None)
    with pytest.raises(UserError, match=r"recipe\.steps"):
        pretrain(bench(), student, method("simclr", images), endless, "simclr", Path("nowhere.safetensors"))


# What features are worth.


def test_a_planted_collapse_is_told() -> None:
    healthy = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    alike = torch.ones(200, 16) + 1e-4 * healthy
    line = healthy[:, :1] * torch.ones(1, 16)
    assert not collapsed(spread(healthy), effective_rank(healthy))
    assert spread(healthy) == pytest.approx(1.0, abs=0.05)
    assert effective_rank(healthy) > 15
    assert spread(alike) < 1e-3
    assert collapsed(spread(alike), effective_rank(alike))
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-3)
    assert "collapsed" in str(warned({"spread": spread(alike), "effective_rank": 5.0}))
    assert warned({"spread": 1.0, "effective_rank": 5.0}) is None
    assert effective_rank(torch.ones(5, 3)) == 1.0


def test_the_rank_is_the_number_of_directions_that_are_used_alike() -> None:
    square = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    assert effective_rank(square) == pytest.approx(2.0, abs=1e-5)


def test_neighbours_vote_by_how_near_they_are() -> None:
    bank, labels = torch.tensor([[1.0, 0], [0, 1], [0.1, 1]]), torch.tensor([0, 1, 1])
    queries = torch.tensor([[3.0, 0.1], [0.0, 2.0]])
    assert knn_accuracy(bank, labels, queries, torch.tensor([0, 1])) == 1.0
    assert knn_accuracy(bank, labels, queries, torch.tensor([1, 1])) == 0.5


def test_a_collapse_on_the_way_is_said_when_it_happens(bench, student) -> None:
    lab = bench()
    network = lab.network(student, "x")
    for parameter in network.body.parameters():
        parameter.data.zero_()
    Quality(lab).on_the_way(network)
    assert "collapsed" in (lab.run.folder / "run.log").read_text(encoding="utf-8")
