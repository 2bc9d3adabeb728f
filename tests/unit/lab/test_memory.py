"""A body that does not change: what it has seen is a table, which later runs find; the head learns from it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kdal_cli.inference.predict import predict, predict_logits
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.memory import remember
from kdal_cli.network import Network, classifier
from kdal_cli.streams import Streams
from kdal_cli.training.fit import fit
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Batch, Examples, Output


@pytest.fixture
def lab(bench, tmp_path) -> Lab:
    return replace(bench(), features=tmp_path / "features")


@pytest.fixture
def recipe(resident) -> Recipe:
    return Recipe(steps=12, batch=8, pool_batch=4, lr=0.1, learns="head", precision="fp32", augment=resident.augment)


def counted(network: Network) -> list[int]:
    """How many images the body has looked at, each time."""
    seen: list[int] = []
    network.body[0].register_forward_hook(lambda _, args, output: seen.append(len(args[0])))  # type: ignore[index]
    return seen


def train(lab: Lab, network: Network, recipe: Recipe, objective: Objective | None = None) -> dict[str, Tensor]:
    examples = Examples(lab.pool, lab.data.train.labels.of(lab.pool[:40]))
    streams = Streams(5).under("fit")
    images, loss = lab.views(recipe.augment), objective or Objective()
    fit(network, images, examples, loss, recipe, lab.engine, streams, lab.watcher)
    return network.state_dict()


def test_the_head_learns_what_it_learns_beside_a_body_that_is_asked_each_time(lab, make_network, recipe) -> None:
    live, table = make_network(), make_network()
    remember(lab, table, recipe)
    first, second = train(lab, live, recipe), train(lab, table, recipe)
    for name in first:
        assert torch.allclose(first[name], second[name], atol=2e-2), name
    body = make_network().state_dict()
    changed = {name for name in body if not torch.equal(body[name], second[name])}
    assert changed == {name for name in body if name.startswith(list(body)[-1].rpartition(".")[0])}


def test_what_was_seen_is_not_looked_at_again_by_another_run_with_another_head(lab, make_network, recipe) -> None:
    table = make_network()
    remember(lab, table, recipe)
    first = train(lab, table, recipe)
    again = make_network()
    classifier(again.body).load_state_dict(classifier(make_network().body).state_dict())
    remember(lab, again, recipe)
    seen = counted(again)
    second = train(lab, again, recipe)
    assert seen == []
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_predictions_are_the_heads_of_what_is_remembered(lab, make_network, recipe) -> None:
    network, ids = make_network(), torch.tensor([7, 3, 3, 50])
    expected = predict(network, lab.train, ids)
    remember(lab, network, recipe)
    for _ in range(2):
        got = predict(network, lab.train, ids)
        assert torch.allclose(got.features, expected.features, rtol=1e-3, atol=1e-3)
        assert torch.allclose(got.logits, expected.logits, rtol=1e-2, atol=1e-2)
        assert torch.equal(predict_logits(network, lab.train, ids), got.logits)
    seen = counted(network)
    predict(network, lab.train, ids)
    assert seen == []
    assert len(predict(network, lab.train, ids[:0]).logits) == 0


def test_images_of_others_are_looked_at(lab, make_network, recipe) -> None:
    network = make_network()
    remember(lab, network, recipe)
    other = replace(lab.data.test, pixels=lab.data.test.pixels.clone())
    strange = type(lab.test)(other.pixels, lab.test.augment)
    assert network.recall(strange, torch.arange(2)) is None


@pytest.mark.parametrize("other", [{"learns": "all"}, {"learns": "last:1"}, {"unfreeze": (3,)}])
def test_a_body_that_will_change_remembers_nothing(lab, make_network, recipe, other) -> None:
    network = make_network()
    remember(lab, network, recipe)
    assert network.memory is not None
    remember(lab, network, replace(recipe, **other))
    assert network.memory is None


def test_another_body_has_another_table_and_a_copy_has_none(lab, make_network, recipe) -> None:
    import copy

    one, two = make_network(), make_network(1)
    for network in (one, two):
        remember(lab, network, recipe)
        predict(network, lab.train, torch.arange(3))
    assert len(list(lab.features.iterdir())) == 2
    assert copy.deepcopy(one).memory is None


def of_pixels(student: Output, teacher: Output | None, batch: Batch) -> Tensor:
    assert student.model is not None
    return student.model(batch.pixels).logits.square().sum(1)


def of_maps(student: Output, teacher: Output | None, batch: Batch) -> Tensor:
    return student.maps["layer1"].square().sum(1)


@pytest.mark.parametrize("term", [of_pixels, of_maps])
def test_a_term_that_looks_at_pixels_or_maps_is_given_them(lab, make_network, recipe, term) -> None:
    def objective() -> Objective:
        return Objective(1.0, {"term": Part(term, 0.1, on="both", asks_teacher=False)})

    live, table = make_network(), make_network()
    for network in (live, table):
        network.tap(["layer1"])
    remember(lab, table, recipe)
    first, second = train(lab, live, recipe, objective()), train(lab, table, recipe, objective())
    for name in first:  # but for the mean that the head is centred by, which one has from the table, in float16
        assert torch.allclose(first[name], second[name], atol=1e-3), name
