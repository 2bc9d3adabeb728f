"""Channels go, those of the smallest weights, and the shapes of what is left rebuild it."""

import copy

import pytest
import torch
from torch import nn

from kdal_cli.compression.prune import Prune, channels
from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models.mobilenet_v2 import mobilenet_v2
from kdal_cli.models.resnet import resnet
from kdal_cli.models.shufflenet_v2 import shufflenet_v2
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.records.shapes import reshaped

pytest.importorskip("torch_pruning")
SHAPE = Shape(1, 16, 16, 3)
IMAGES = torch.rand(4, 1, 16, 16, generator=torch.manual_seed(0))
NETWORKS = {
    "resnet8": lambda: resnet(SHAPE, depth=8),
    "small_cnn": lambda: small_cnn(SHAPE, width=16),
    "mobilenet_v2": lambda: mobilenet_v2(SHAPE, width=0.5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_shapes_of_what_is_left_rebuild_it_to_the_bit(name: str) -> None:
    body = NETWORKS[name]().eval()
    answered = body(IMAGES)
    method = Prune(ratio=0.5)
    pruned = method.end(method.begin(body, IMAGES)).eval()
    assert torch.equal(body(IMAGES), answered)  # it stays as it was
    assert channels(pruned) < 0.6 * channels(body)
    weights = pruned.state_dict()
    rebuilt = reshaped(NETWORKS[name](), {name: tensor.shape for name, tensor in weights.items()}).eval()
    rebuilt.load_state_dict(weights)
    assert torch.equal(rebuilt(IMAGES), pruned(IMAGES))
    assert pruned(IMAGES).shape == (4, 3)


def test_channels_that_do_nothing_go_first() -> None:
    body = small_cnn(SHAPE, width=16).eval()
    with torch.no_grad():
        for tensor in (body.stage1.conv.weight, body.stage1.bn.weight, body.stage1.bn.bias):
            tensor[::2] = 0
        body.stage2.conv.weight[:, ::2] = 0
        body.stage2.conv.weight[:, 1::2] += 1
    pruned = Prune(ratio=0.5, round_to=1).begin(body, IMAGES)
    assert torch.equal(pruned.stage1.conv.weight, body.stage1.conv.weight[1::2])


def test_iterations_take_the_same_share_of_what_is_left() -> None:
    method = Prune(ratio=0.75, iterations=2, round_to=1)
    body = small_cnn(SHAPE, width=16)
    once = method.begin(body, IMAGES)
    twice = method.begin(once, IMAGES)
    assert channels(body) / channels(once) == channels(once) / channels(twice) == 2
    assert method.told(body, twice) == f"asked for 75% of the channels, 75.0% of {channels(body)} are gone"


def test_what_cannot_be_pruned_is_told_with_what_can() -> None:
    with pytest.raises(UserError, match=r"channels cannot be taken out of .*compress=qat"):
        Prune(ratio=0.5).begin(shufflenet_v2(SHAPE, size="x0_5"), IMAGES)


def test_a_package_that_is_missing_is_named(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'kdal\[compress\]'"):
        Prune(ratio=0.5)


def test_frozen_networks_can_be_pruned_too() -> None:
    body = copy.deepcopy(NETWORKS["resnet8"]()).requires_grad_(False)
    assert isinstance(Prune(ratio=0.5).begin(body, IMAGES), nn.Module)
