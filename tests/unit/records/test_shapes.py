"""An architecture cut down to shapes that are given computes what the network of those shapes computes."""

import torch
from torch import nn

from kdal_cli.records.shapes import reshaped


def shapes(body: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in body.state_dict().items()}


def net(width: int, groups: int = 1, depthwise: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width * depthwise, 3, groups=width),
        nn.GroupNorm(2, width * depthwise),
        nn.Conv2d(width * depthwise, width, 1, groups=groups, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(width),
        nn.Linear(width, 5),
    )


def test_what_is_cut_computes_what_was_built_so() -> None:
    for extra in ({}, {"groups": 2}, {"depthwise": 2}):
        small, cut = net(4, **extra).eval(), net(16, **extra)
        reshaped(cut, shapes(small)).load_state_dict(small.state_dict())
        pixels = torch.rand(2, 1, 8, 8)
        assert torch.equal(cut.eval()(pixels), small(pixels))
        assert [str(layer) for layer in cut] == [str(layer) for layer in small]


def test_what_has_its_shape_already_is_left_alone() -> None:
    body = net(4)
    before = {name: id(tensor) for name, tensor in body.named_parameters()}
    reshaped(body, shapes(body))
    assert before == {name: id(tensor) for name, tensor in body.named_parameters()}


def test_tensors_that_are_not_named_or_have_other_axes_stay() -> None:
    body = net(4)
    reshaped(body, {"0.weight": (2, 3), "nowhere": (1,)})
    assert body[0].weight.shape == (4, 1, 3, 3)


def test_frozen_parameters_stay_frozen() -> None:
    body = net(8)
    body[0].weight.requires_grad_(False)
    reshaped(body, shapes(net(4)))
    assert body[0].weight.shape[0] == 4
    assert not body[0].weight.requires_grad
    assert body[2].weight.requires_grad
