"""Quantisation-aware training: the network is trained as int8 will compute it, so that rounding costs it less.

Axis letters: B batch, c channels, H W pixels, O outputs of a layer.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdal_cli.errors import UserError
from kdal_cli.network import asleep

LEVELS = 255
"""Steps between the lowest and the highest of 8-bit activations."""

LIMIT = 64
"""Of weights: 7 bits, as `kdal_cli.export.formats.write_int8` has them on processors without VNNI."""

FORGETS = 0.01
"""How far a range moves to that of a new batch."""

SMALLEST = 1e-8
"""Of a scale."""


class Qat:
    """Train with weights and activations rounded as in the int8 file of `kdal export`; batch-norm's statistics stay.

    A weight is rounded symmetrically for each output, to 7 bits; what enters a convolution or a linear layer, between a
    low and a high, to 8 bits, the range being a moving average. Gradients pass through rounding as if it were not
    there, and stop where a value leaves its range. A batch-norm needs no folding: it multiplies the weights of an
    output by one number, and their scale with them.

    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
    2018, arXiv:1712.05877, section 3; with a teacher: Mishra and Marr, "Apprentice", ICLR 2018, arXiv:1711.05852.
    """

    iterations = 1
    precision = "fp32"
    simulates = "8 bits"

    def begin(self, body: nn.Module, images: Tensor) -> nn.Module:
        """A copy of a body that rounds. images: (B, c, H, W), normalised, whose ranges it starts from.

        Raises UserError where no layer would be rounded.
        """
        rounding = copy.deepcopy(body).eval()
        layers = [module for module in rounding.modules() if type(module) in KINDS]
        if not layers:
            what = f"{type(body).__name__} has no convolution or linear layer that is computed in 8 bits"
            raise UserError(what, where="compress=qat", cure="compress=prune, or another architecture")
        _measure(rounding, layers, images)
        for layer in layers:
            layer.__class__ = KINDS[type(layer)]  # the same layer, with its tensors and hooks, that computes otherwise
        for module in rounding.modules():
            if isinstance(module, _BatchNorm):
                asleep(module)
        return rounding

    def end(self, body: nn.Module) -> nn.Module:
        """A copy of a body as it was before `begin`, with the weights of now."""
        found = copy.deepcopy(body)
        for module in found.modules():
            if isinstance(module, _Rounding):
                kind = next(plain for plain, rounding in KINDS.items() if type(module) is rounding)
                module.__class__ = kind  # pyright: ignore[reportAttributeAccessIssue]
                del module.low, module.high
            elif isinstance(module, _BatchNorm):
                vars(module).pop("train", None)
        return found

    def spec(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return dict(spec)

    def told(self, before: nn.Module, after: nn.Module) -> str:
        layers = [module for module in before.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        done = sum(type(layer) in KINDS for layer in layers)
        return f"{done} of {len(layers)} layers were trained in 8 bits; kdal export format=[int8] writes them so"


class _Rounding(nn.Module):
    """A layer whose weight, (O, …), and input, (B, …), are rounded. low, high: of the input, each a scalar."""

    low: Tensor
    high: Tensor

    @property
    def weight(self) -> Tensor:  # shadows the parameter, which trains
        return rounded_weight(self._parameters["weight"])  # pyright: ignore[reportArgumentType]

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            for bound, now in zip((self.low, self.high), input.detach().aminmax(), strict=True):
                bound.lerp_(now, FORGETS)
        return super().forward(rounded(input, self.low, self.high))  # pyright: ignore[reportAttributeAccessIssue]


class _Conv2d(_Rounding, nn.Conv2d):  # pyright: ignore[reportIncompatibleVariableOverride]
    pass


class _Linear(_Rounding, nn.Linear):  # pyright: ignore[reportIncompatibleVariableOverride]
    pass


KINDS: Mapping[type[nn.Module], type[nn.Module]] = {nn.Conv2d: _Conv2d, nn.Linear: _Linear}


def rounded_weight(weight: Tensor) -> Tensor:
    """(O, …) -> the same: s_o · clip(round(w / s_o), -64, 64), with s_o = max |w_o| / 64."""
    with torch.no_grad():
        scale = (weight.flatten(1).abs().amax(1) / LIMIT).clamp_min(SMALLEST)  # (O,)
        zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -LIMIT, LIMIT)


def rounded(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x, rounded to one of 256 numbers between low and high, zero among them."""
    with torch.no_grad():
        low, high = low.clamp_max(0), high.clamp_min(0)
        scale = ((high - low) / LEVELS).clamp_min(SMALLEST)
        zero = (-low / scale).round().clamp(0, LEVELS).int()
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, LEVELS)


@torch.no_grad()
def _measure(body: nn.Module, layers: list[nn.Module], images: Tensor) -> None:
    """Register what enters each layer when the body looks at images (B, c, H, W): `low` and `high`."""

    def see(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        low, high = args[0].aminmax()
        layer.register_buffer("low", low.clone())
        layer.register_buffer("high", high.clone())

    for layer in layers:  # one that is not called is computed from nothing
        layer.register_buffer("low", torch.zeros((), device=images.device))
        layer.register_buffer("high", torch.zeros((), device=images.device))
    hooks = [layer.register_forward_pre_hook(see) for layer in layers]
    body(images)
    for hook in hooks:
        hook.remove()
