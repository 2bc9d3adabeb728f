"""Images whose labels nobody knows: learnt from a teacher, never as labelled, never measured on."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kdal_cli.compose.early import refuse_unlabelled
from kdal_cli.compose.loss import plan_loss
from kdal_cli.dataset import ImageData, Labels
from kdal_cli.errors import UserError
from kdal_cli.images.split import Ids
from kdal_cli.lab.guide import Guide
from kdal_cli.lab.lab import Blueprint, Lab
from kdal_cli.lab.train_teacher import train_teacher
from kdal_cli.network import Network
from kdal_cli.stages.distill import Link, distill
from kdal_cli.stages.evaluate import evaluate
from kdal_cli.training.feed import Feed
from kdal_cli.training.recipe import Recipe

RECIPE = Recipe(steps=6, batch=8, pool_batch=8, checks=1)
KD = {"kd": {"name": "kd", "temperature": 2.0}}
CE = {"weighting": {"alpha": 0.5}, "kd": {"name": "kd", "on": "labelled"}}


@pytest.fixture
def some(bench: Callable[..., Lab], images: ImageData) -> Callable[[Tensor], Lab]:
    """some(known) is a lab in which the labels of those images alone are known."""

    def make(known: Tensor) -> Lab:
        lab = bench()
        labels = Labels(96, known, images.train.labels.of(known))
        data = replace(images, train=replace(images.train, labels=labels))
        pool = torch.arange(96)
        return replace(lab, data=data, ids=Ids(pool, pool[:0], known))

    return make


@pytest.mark.parametrize("known", [torch.arange(0, 96, 6), torch.empty(0, dtype=torch.int64)])
def test_a_student_is_distilled_on_images_without_labels(some, make_network, monkeypatch, known: Tensor) -> None:
    lab, seen, teacher = some(known), [], make_network(1)
    batches = Feed.batches

    def spied(feed: Feed, plan, **how):
        for batch in batches(feed, plan, **how):
            seen.append(batch)
            yield batch

    monkeypatch.setattr(Feed, "batches", spied)
    blueprint = Blueprint({"name": "mlp"}, lambda: make_network(2).body)
    loss = plan_loss(KD, [], lab.data.shape)
    entries = distill(lab, [Link("student", blueprint)], None, Guide(teacher=teacher), loss, RECIPE)
    assert [entry.name for entry in entries] == ["student"]
    for batch in seen:
        labelled = len(batch.labels)
        assert (labelled, len(batch.ids)) == ((8, 16) if len(known) else (0, 8))
        assert torch.equal(batch.labels, lab.data.train.labels.of(batch.ids[:labelled]))
        assert not torch.isin(batch.ids[labelled:], known).any()


def test_as_many_labels_as_are_wanted_are_of_those_that_there_are(some, make_network) -> None:
    lab, loss = some(torch.arange(40)), plan_loss(KD, [], some(torch.arange(40)).data.shape)
    blueprint = Blueprint({"name": "mlp"}, lambda: make_network(2).body)
    distill(lab, [Link("student", blueprint)], None, Guide(teacher=make_network(1)), loss, RECIPE, labels=10)
    card = (lab.run.checkpoints / "student.json").read_text(encoding="utf-8")
    assert '"labels": 10' in card


def test_a_teacher_is_trained_on_known_labels_and_refused_without_any(some, make_network) -> None:
    blueprint = Blueprint({"name": "mlp"}, lambda: make_network(2).body)
    _, card = train_teacher(some(torch.arange(5, 20)), blueprint, RECIPE, 0)
    assert card.trained_on["labels"] == 15
    with pytest.raises(UserError, match=r"^a teacher learns from labels, and no image of the pool has one: label some"):
        train_teacher(some(torch.arange(0)), blueprint, RECIPE, 0)


def test_images_without_labels_are_not_measured_on(some, make_network: Callable[..., Network]) -> None:
    known = torch.arange(0, 96, 3)
    assert evaluate(some(known), make_network(), None, "pool").metrics["images"] == len(known)
    with pytest.raises(UserError, match="split=pool has no labelled image"):
        evaluate(some(known[:0]), make_network(), None, "pool")


@pytest.mark.parametrize(
    ("loss", "recipe", "compare", "told"),
    [
        (KD, Recipe(steps=9), True, "compare=true (no image of the pool has a label)"),
        (CE, Recipe(steps=9), False, "loss (no image of the pool has a label)"),
        (KD, Recipe(epochs=2), False, "recipe.epochs=2 (no image of the pool has a label)"),
    ],
)
def test_what_cannot_do_without_labels_is_refused(images: ImageData, loss, recipe, compare, told) -> None:
    plan = plan_loss(loss, [], images.shape)
    with pytest.raises(UserError) as refused:
        refuse_unlabelled(plan, recipe, compare=compare)
    assert str(refused.value).startswith(told)


def test_a_loss_that_asks_a_teacher_about_any_image_needs_no_label(images: ImageData) -> None:
    refuse_unlabelled(plan_loss(KD, [], images.shape), Recipe(steps=9), compare=False)
