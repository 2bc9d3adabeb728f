"""Averaged weights: the closed form, what is shown and what is left."""

import pytest
import torch
from torch import nn

from kdal_cli.errors import UserError
from kdal_cli.training.average import Average
from kdal_cli.training.recipe import Recipe


def test_the_first_steps_count_more_and_then_the_decay_holds() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    average, expected = Average(network, 0.5), 0.0
    for step in range(20):
        network.weight.data.fill_(float(step))
        average.step(step)
        d = min(0.5, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * step
    assert float(average.held["weight"]) == pytest.approx(expected, rel=1e-6)


def test_statistics_are_averaged_and_counts_are_the_last() -> None:
    norm = nn.BatchNorm1d(2)
    average = Average(norm, 0.9)
    norm(torch.randn(8, 2) + 3)
    average.step(1000)
    assert int(average.held["num_batches_tracked"]) == 1
    assert torch.allclose(average.held["running_mean"], 0.1 * norm.running_mean)  # type: ignore[operator]


def test_it_is_shown_for_a_while_and_left_at_the_end() -> None:
    network = nn.Linear(2, 2)
    average = Average(network, 0.9)
    before = network.weight.detach().clone()
    network.weight.data.add_(1)
    with average.shown():
        assert torch.equal(network.weight, before)
    assert torch.equal(network.weight, before + 1)
    average.settle()
    assert torch.equal(network.weight, before)


def test_it_goes_on_from_what_was_kept() -> None:
    one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    kept, other = Average(one, 0.9), Average(two, 0.9)
    other.load(kept.held)
    assert all(torch.equal(other.held[name], kept.held[name]) for name in kept.held)


def test_an_average_that_never_moves_is_refused() -> None:
    with pytest.raises(UserError, match=r"recipe\.ema=1"):
        Recipe(ema=1.0)
