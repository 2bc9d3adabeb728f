"""Parameters and operations counted by hand, throughput against a clock that is told what to say."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdal_cli.metrics.cost import FlopMeter, flops, parameters, throughput


def test_parameters_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5, bias=False))
    assert parameters(net) == (3 * 8 * 9 + 8) + (8 + 8) + 8 * 5  # the running statistics are not parameters


def test_shared_parameters_count_once_and_frozen_ones_count() -> None:
    layer = nn.Linear(4, 4)
    assert parameters(nn.Sequential(layer, layer).requires_grad_(False)) == 20


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 4)])
def test_convolution_by_hand(stride: int, groups: int) -> None:
    conv = nn.Conv2d(4, 8, 3, stride=stride, padding=1, groups=groups, bias=False)
    side = 16 // stride
    assert flops(conv, torch.zeros(2, 4, 16, 16)) == 2 * (2 * 8 * side * side * (4 // groups) * 3 * 3)


def test_linear_by_hand_and_proportional_to_the_batch() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 10), nn.ReLU(), nn.Linear(10, 3))
    assert flops(net, torch.zeros(1, 3, 4, 4)) == 2 * (48 * 10 + 10 * 3)
    assert flops(net, torch.zeros(7, 3, 4, 4)) == 7 * flops(net, torch.zeros(1, 3, 4, 4))


def test_a_transformers_fused_layers_are_counted() -> None:
    layer = nn.TransformerEncoderLayer(d_model=16, nhead=2, dim_feedforward=32, batch_first=True)
    projections, attention, mlp = 4 * 16 * 16, 2 * 5 * 16, 2 * 16 * 32  # multiply-adds for each of the 5 tokens
    assert flops(layer, torch.zeros(1, 5, 16)) == 2 * 5 * (projections + attention + mlp)
    assert torch.backends.mha.get_fastpath_enabled()


class Products(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bi,bj->bij", x @ x.T @ x, x) @ x.unsqueeze(2)


@pytest.mark.parametrize(
    ("net", "example"),
    [
        (nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.Conv2d(4, 6, 3, groups=2, dilation=2)), torch.zeros(2, 3, 9, 9)),
        (nn.Transformer(16, 2, 1, 1, 32, batch_first=True).encoder, torch.zeros(2, 5, 16)),
        (Products(), torch.zeros(2, 4)),
    ],
    ids=["convolutions", "attention", "products"],
)
def test_it_is_what_torch_counts(net: nn.Module, example: torch.Tensor) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.train()(example)
    assert flops(net, example) == counter.get_total_flops() > 0


def test_the_module_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    net[1].eval()  # a frozen batch norm in a net that trains
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for count in (flops, throughput):
        count(net, torch.randn(2, 3, 8, 8))
        assert [part.training for part in net.modules()] == [True, True, False, True]
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_mode_comes_back_after_an_error() -> None:
    net = nn.Sequential(nn.Linear(4, 2))
    with pytest.raises(RuntimeError):
        flops(net, torch.zeros(1, 5))
    assert net.training
    assert torch.backends.mha.get_fastpath_enabled()


def test_throughput_is_the_batch_over_the_median() -> None:
    seconds = [0.5, 0.1, 9.0]  # one slow pass does not count
    ticks = iter([t for s in seconds for t in (0.0, s)])
    calls = []
    net = nn.Flatten()
    net.register_forward_hook(lambda *_: calls.append(1))
    found = throughput(net, torch.zeros(64, 3, 2, 2), repeats=3, warmup=2, clock=lambda: next(ticks))
    assert found == 128
    assert len(calls) == 5


def test_throughput_of_something_real() -> None:
    assert throughput(nn.Flatten(), torch.zeros(4, 3, 2, 2), repeats=2, warmup=0) > 0


# What networks have done.

EXAMPLE = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)


class Plain(nn.Module):
    """One linear layer, by hand: its name says nothing of its width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(48, width))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().flatten(1) @ self.weight


def test_looking_costs_two_operations_a_weight_and_image_and_training_three_times_as_much() -> None:
    flop_meter, net = FlopMeter(EXAMPLE), Plain(10)
    assert flop_meter.flops == 0
    flop_meter.forward(net, 7)
    assert flop_meter.flops == 7 * 2 * 48 * 10
    flop_meter.train(net, 5)
    assert flop_meter.flops == (7 + 3 * 5) * 2 * 48 * 10
    flop_meter.forward(net, 0)
    assert flop_meter.flops == (7 + 3 * 5) * 2 * 48 * 10


def test_three_times_is_what_a_step_of_a_hidden_layer_costs() -> None:
    """Forward 2·(a·b + b·c); backward as much for the weights and again for the activations below them."""
    net, pixels = nn.Sequential(nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 10)), torch.randn(8, 48, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        net(pixels).sum().backward()
    flop_meter = FlopMeter(torch.zeros(1, 48))
    flop_meter.train(net, 8)
    assert flop_meter.flops == counter.get_total_flops()


def test_networks_that_are_called_the_same_are_told_apart() -> None:
    flop_meter, narrow, wide = FlopMeter(EXAMPLE), Plain(10), Plain(100)
    assert repr(narrow) == repr(wide)
    for net in (narrow, wide, narrow):
        flop_meter.forward(net, 1)
    assert flop_meter.flops == 2 * 48 * (10 + 100 + 10)


def test_a_network_is_measured_once_and_not_kept() -> None:
    flop_meter, net = FlopMeter(EXAMPLE), Plain(10)
    passes = []
    net.register_forward_hook(lambda *_: passes.append(1))
    for _ in range(3):
        flop_meter.forward(net, 2)
    assert len(passes) == 1
    alive = weakref.ref(net)
    del net
    gc.collect()
    assert alive() is None
    assert flop_meter.flops == 3 * 2 * 2 * 48 * 10
