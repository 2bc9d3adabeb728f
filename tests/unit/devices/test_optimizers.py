"""The optimizers: what torch's do, to the bit, with none of its compiler behind them."""

import copy

import pytest
import torch
from torch import nn

from kdal_cli.devices.optimizers import SGD, AdamW

KINDS = [
    (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4, "fused": True}),
    (AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 1e-2, "fused": True}),
]


def trained(kind: type[torch.optim.Optimizer], settings: dict, net: nn.Module, steps: int, saved=None):
    """(weights, state) after some steps that go on from a saved state."""
    optimizer = kind(net.parameters(), **settings)
    if saved is not None:
        optimizer.load_state_dict(saved)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.arange(12.0).view(3, 4)).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()], optimizer.state_dict()


@pytest.mark.parametrize(("ours", "theirs", "settings"), KINDS)
def test_steps_and_a_state_that_is_saved_and_loaded_are_those_of_torch(ours, theirs, settings) -> None:
    start, other = nn.Linear(4, 2), nn.Linear(4, 2)
    other.load_state_dict(start.state_dict())
    _, saved = trained(ours, settings, start, 3)
    _, expected = trained(theirs, settings, other, 3)
    saved, expected = copy.deepcopy(saved), copy.deepcopy(expected)
    assert str(saved) == str(expected)
    weights, _ = trained(ours, settings, start, 3, saved)
    truth, _ = trained(theirs, settings, other, 3, expected)
    assert all(torch.equal(a, b) for a, b in zip(weights, truth, strict=True))


@pytest.mark.parametrize(("ours", "theirs", "settings"), KINDS)
def test_a_step_leaves_no_graph_and_the_mode_of_gradients_as_it_was(ours, theirs, settings) -> None:
    net = nn.Linear(4, 2)
    trained(ours, settings, net, 1)
    assert torch.is_grad_enabled()
    assert all(p.grad_fn is None for p in net.parameters())
    assert isinstance(ours(net.parameters(), **settings), theirs)
