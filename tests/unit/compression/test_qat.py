"""A network that rounds: by the numbers of the int8 file, with gradients, and as it was before when it is done."""

import numpy as np
import pytest
import torch
from torch import nn

from kdal_cli.compression.qat import Qat, rounded, rounded_weight
from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models.resnet import resnet

SHAPE = Shape(1, 16, 16, 3)
IMAGES = torch.rand(8, 1, 16, 16, generator=torch.manual_seed(0))


@pytest.fixture
def body() -> nn.Module:
    return resnet(SHAPE, depth=8).eval()


def test_a_weight_has_129_values_for_each_output_and_keeps_its_largest() -> None:
    weight = torch.randn(3, 5, 3, 3) * torch.tensor([0.01, 1.0, 100.0]).view(3, 1, 1, 1)
    whole = rounded_weight(weight).flatten(1) / (weight.flatten(1).abs().amax(1, keepdim=True) / 64)
    assert torch.allclose(whole, whole.round(), atol=1e-3)
    assert whole.abs().amax(1).tolist() == pytest.approx([64, 64, 64])


def test_a_weight_is_rounded_as_onnxruntime_rounds_it() -> None:
    utils = pytest.importorskip("onnxruntime.quantization.quant_utils")
    weight = torch.randn(7, 11)
    for row in weight:
        zero, scale, values = utils.quantize_data(row.numpy(), utils.QuantType.QInt8.tensor_type, True, True)[-3:]
        assert zero == 0
        theirs = np.asarray(values, np.float32) * np.float32(scale)
        assert rounded_weight(row[None])[0].numpy() == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.5, 2.0), (-2.0, -1.0)])
def test_activations_have_256_values_with_zero_among_them_and_end_at_their_range(low: float, high: float) -> None:
    x = torch.linspace(-4, 4, 10_001)
    found = rounded(x, torch.tensor(low), torch.tensor(high)).unique()
    assert len(found) <= 256
    assert 0.0 in found
    step = (max(high, 0) - min(low, 0)) / 255
    assert float(found[-1]) == pytest.approx(max(high, 0), abs=step)
    assert float(found[0]) == pytest.approx(min(low, 0), abs=step)


def test_nothing_that_is_all_zero_becomes_nan() -> None:
    zero = torch.zeros(2, 3)
    assert torch.equal(rounded_weight(zero), zero)
    assert torch.equal(rounded(zero, torch.tensor(0.0), torch.tensor(0.0)), zero)


def test_gradients_pass_through_rounding_and_stop_outside_of_the_range() -> None:
    x = torch.tensor([-5.0, 0.3, 5.0], requires_grad=True)
    rounded(x, torch.tensor(-1.0), torch.tensor(1.0)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 0]


def test_it_answers_nearly_what_it_answered_and_trains_all_its_weights(body: nn.Module) -> None:
    rounding = Qat().begin(body, IMAGES)
    before, after = body(IMAGES).detach(), rounding(IMAGES).detach()
    assert 0 < float((before - after).abs().max()) < 0.2 * float(before.abs().max())
    rounding.train()
    rounding(IMAGES).logsumexp(1).sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in rounding.parameters())


def test_statistics_of_batch_norm_stay_and_ranges_move(body: nn.Module) -> None:
    rounding = Qat().begin(body, IMAGES)
    kept = {name: tensor.clone() for name, tensor in rounding.state_dict().items()}
    rounding.train()
    rounding(3 * IMAGES)
    moved = {name for name, tensor in rounding.state_dict().items() if not torch.equal(tensor, kept[name])}
    assert "conv1.high" in moved
    assert all(name.endswith((".low", ".high")) for name in moved)
    assert float(rounding.conv1.high) == pytest.approx(0.99 * float(IMAGES.max()) + 0.01 * 3 * float(IMAGES.max()))


def test_what_is_saved_is_the_architecture_as_it_was(body: nn.Module) -> None:
    method = Qat()
    rounding = method.begin(body, IMAGES)
    plain = method.end(rounding)
    assert plain.state_dict().keys() == body.state_dict().keys()
    assert [type(module) for module in plain.modules()] == [type(module) for module in body.modules()]
    assert torch.equal(plain.eval()(IMAGES), body(IMAGES))
    assert plain.train().bn1.training
    assert (
        method.told(body, rounding)
        == "10 of 10 layers were trained in 8 bits; kdal export format=[int8] writes them so"
    )


def test_a_network_of_other_layers_is_refused() -> None:
    with pytest.raises(UserError, match="computed in 8 bits"):
        Qat().begin(nn.Sequential(nn.Flatten(), nn.Bilinear(2, 2, 2)), IMAGES)
