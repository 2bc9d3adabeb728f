"""Batch-norm's running statistics are those of the weights that are looked at, however seldom training moves them."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.dataset import ImageData
from kdal_cli.devices.engine import Engine
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.inference.predict import predict
from kdal_cli.losses.kd import kd
from kdal_cli.network import Network, freeze
from kdal_cli.streams import Streams
from kdal_cli.training import loop
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.training.fit import fit
from kdal_cli.training.job import Fitted, Peer
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe
from kdal_cli.training.statistics import arrived, measure_anew
from kdal_cli.types import Examples, Unwatched

RECIPE = Recipe(steps=24, batch=8, lr=0.05, checks=3, precision="fp32")
SLOW = 0.001
"""A momentum with which nothing arrives in 24 steps."""


def network(momentum: float | None = SLOW, seed: int = 0, dropout: float = 0.0) -> Network:
    """Two layers, and batch-norm after the first, which is so far from zero that its first statistics are no use."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2),
            nn.BatchNorm2d(8, momentum=momentum),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.BatchNorm1d(32, momentum=momentum),
            nn.Linear(32, 3),
        )
    nn.init.constant_(body[0].bias, 5.0)
    return Network(body, (0.5,), (0.25,))


def norms(student: Network) -> list[nn.Module]:
    return [module for module in student.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]


def pixels(seed: int, batch: int = 8) -> Tensor:
    return torch.randint(0, 256, (batch, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


# What is measured.


def test_statistics_are_the_means_over_batches_of_their_mean_and_unbiased_variance() -> None:
    student, batches = network().train(), [pixels(seed) for seed in range(5)]
    returned = measure_anew(student, batches)
    with torch.no_grad():
        answers = [student.body[0]((x.float() - student.mean) / student.std) for x in batches]  # (B, c, h, w) each
    means = torch.stack([x.mean((0, 2, 3)) for x in answers]).mean(0)
    variances = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in answers]).mean(0)
    torch.testing.assert_close(student.body[1].running_mean, means)
    torch.testing.assert_close(student.body[1].running_var, variances)
    assert [x.shape for x in returned] == [(8,), (8,), (32,), (32,)]


def test_nothing_else_changes_and_no_gradient_is_kept() -> None:
    student = network().train()
    before, momenta = state(student), [layer.momentum for layer in norms(student)]
    measure_anew(student, [pixels(0), pixels(1)])
    after = state(student)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        f"body.{layer}.{name}" for layer in (1, 5) for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert [layer.momentum for layer in norms(student)] == momenta
    assert all(module.training for module in student.modules())
    assert all(parameter.grad is None for parameter in student.parameters())


def test_dropout_is_off_as_it_will_be_when_the_network_is_looked_at() -> None:
    plain, dropping = network().train(), network(dropout=0.5).train()
    measure_anew(plain, [pixels(0)])
    measure_anew(dropping, [pixels(0)])
    assert same(state(plain), state(dropping))


def test_a_layer_that_does_not_train_keeps_its_statistics() -> None:
    student = network().train()
    student.body[1].eval()
    before = state(student)
    assert len(measure_anew(student, [pixels(0)])) == 2
    assert torch.equal(student.body[1].running_mean, before["body.1.running_mean"])
    assert not torch.equal(student.body[5].running_mean, before["body.5.running_mean"])


# When.


@pytest.mark.parametrize(
    ("momentum", "first"),
    [(0.1, 44), (0.01, 459), (0.0003, 15_349), (1.0, 1)],
    ids=["customary", "mobilenet_v3", "mnasnet", "the last batch alone"],
)
def test_statistics_have_arrived_when_a_hundredth_of_the_first_ones_is_left(momentum: float, first: int) -> None:
    student = network(momentum).train()
    assert arrived(student, first)
    assert first == 1 or not arrived(student, first - 1)


def test_a_mean_over_all_steps_never_arrives_and_a_network_without_statistics_or_frozen_always_has() -> None:
    assert not arrived(network(momentum=None).train(), 10**6)
    assert arrived(Network(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), (0.5,), (0.25,)).train(), 1)
    assert arrived(freeze(network()), 1)


# In a training.

Learn = Callable[..., Fitted]


@pytest.fixture
def learn(images: ImageData, engine: Engine) -> Learn:
    examples, plain = Examples(torch.arange(96), images.train.labels.all()), Resident(images.train.pixels, Augment())

    def run(student: Network, recipe: Recipe = RECIPE, objective: Objective | None = None, engine=engine, **rest):
        return fit(student, plain, examples, objective or Objective(), recipe, engine, Streams(7), Unwatched(), **rest)

    return run


def accuracy(student: Network, images: ImageData) -> float:
    logits = predict(student, Resident(images.test.pixels, Augment()), torch.arange(len(images.test))).logits
    return float((logits.argmax(1) == images.test.labels.all()).float().mean())


@pytest.mark.parametrize("momentum", [0.01, 0.0003, None])
def test_a_network_whose_statistics_lag_is_looked_at_as_it_is(learn: Learn, images, momentum: float | None) -> None:
    """At every check: as good as one whose statistics keep up, to a few images."""
    seen: dict[float | None, list[float]] = {}
    for each in (momentum, 0.5):
        seen[each] = []
        learn(network(each), validate=lambda s, each=each: seen[each].append(accuracy(s, images)) or 0.0)
    assert len(seen[momentum]) == 3
    assert seen[momentum] == pytest.approx(seen[0.5], abs=0.1)
    assert seen[momentum][-1] > 0.9


def test_without_that_it_is_at_chance(learn: Learn, images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "settle", lambda *_: None)
    student = network()
    learn(student)
    assert accuracy(student, images) < 0.7


def test_where_statistics_arrive_by_themselves_not_a_bit_changes(learn: Learn, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, recipe = network(0.1), network(0.1), replace(RECIPE, steps=45, checks=1)
    learn(one, recipe)
    monkeypatch.setattr(loop, "settle", lambda *_: None)
    learn(two, recipe)
    assert same(state(one), state(two))


@dataclass
class Kept:
    """A keeper that has every state it was offered, and goes on from `begun`."""

    begun: dict[str, Any] | None = None
    offered: list[dict[str, Any]] = field(default_factory=list)

    def offer(self, state: Mapping[str, Any]) -> None:
        self.offered.append(copy.deepcopy(dict(state)))

    def load(self) -> dict[str, Any] | None:
        return copy.deepcopy(self.begun)


def test_from_every_check_it_goes_on_to_the_same_bits(learn: Learn) -> None:
    whole, kept = network(dropout=0.3), Kept()
    learn(whole, keeper=kept)
    assert len(kept.offered) == 3
    for begun in kept.offered:
        resumed = network(seed=5, dropout=0.3)
        learn(resumed, keeper=Kept(begun))
        assert same(state(resumed), state(whole))


def test_a_peer_is_measured_too_and_a_frozen_teacher_is_left_alone(learn: Learn, engine: Engine) -> None:
    peer, teacher = network(seed=1), freeze(network(seed=2))
    taught = Objective(1.0, {"kd": Part(kd, 1.0)})
    learn(network(), objective=taught, peer=Peer(peer, Objective()))
    assert (norms(peer)[0].running_mean.abs() > 0.05).any()
    before = state(teacher)
    learn(network(), objective=taught, teacher=LiveTeacher(teacher, engine, "fp32"))
    assert same(before, state(teacher))


def test_two_processes_measure_what_one_does_but_for_smaller_batches(learn: Learn, two: Engine, images) -> None:
    """The mean of a layer that sees the pixels hangs on no other batch-norm; a variance is of half the images."""
    alone, together = network(), network()
    recipe = replace(RECIPE, lr=1e-6)
    learn(alone, recipe)
    learn(together, recipe, engine=two)
    one, other = norms(alone)[0], norms(together)[0]
    torch.testing.assert_close(one.running_mean, other.running_mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(one.running_var, other.running_var, rtol=0.1, atol=0)
    learn(together, engine=two)
    assert accuracy(together, images) > 0.9
