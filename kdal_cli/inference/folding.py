"""Batch-norm, multiplied into the layers before it: the same answers, with a pass over every map less."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from kdal_cli.network import Network

CLOSE = 1e-3
"""How close the answers of a folded network must be to be believed, relative and absolute."""


@torch.no_grad()
def folded(network: Network, pixels: Tensor) -> Network:
    """A copy of `network` for looking only, each batch-norm folded into the convolution or linear layer before it.

    Which layers those are shows in a pass over `pixels` (B, c, H, W) uint8: a batch-norm's input is the very tensor
    that the layer gave. Where the answers then differ, because a layer's output is used elsewhere too, the network
    itself is returned; and where there is nothing to fold.
    """
    plain = copy.deepcopy(network).eval()
    plain._tapped = []
    expected = plain(pixels)
    pairs = _pairs(plain, pixels)
    for before, norm in pairs:
        layer, batch_norm = plain.get_submodule(before), plain.get_submodule(norm)
        fuse = fuse_conv_bn_eval if isinstance(layer, nn.Conv2d) else fuse_linear_bn_eval
        plain.set_submodule(before, fuse(layer, batch_norm))  # pyright: ignore[reportArgumentType]
        plain.set_submodule(norm, nn.Identity())
    if not pairs:
        return network
    answer = plain(pixels)
    both = ((answer.logits, expected.logits), (answer.features, expected.features))
    return plain if all(torch.allclose(*pair, CLOSE, CLOSE) for pair in both) else network


def _pairs(network: Network, pixels: Tensor) -> list[tuple[str, str]]:
    """(layer, batch-norm) paths, where the one was seen to feed the other, and both to be called once."""
    given: dict[int, tuple[str, Tensor]] = {}  # the tensors are kept, so that no two have one address
    pairs: list[tuple[str, str]] = []
    calls: dict[str, int] = {}

    def seen(path: str, args: tuple[Tensor, ...], output: Tensor) -> None:
        calls[path] = calls.get(path, 0) + 1
        before = given.get(id(args[0]))
        if isinstance(network.get_submodule(path), _BatchNorm):
            if before is not None:
                pairs.append((before[0], path))
        else:
            given[id(output)] = path, output

    hooks = [
        module.register_forward_hook(lambda _, args, output, path=path: seen(path, args, output))
        for path, module in network.named_modules()
        if type(module) in (nn.Conv2d, nn.Linear) or isinstance(module, _BatchNorm)
    ]
    network(pixels)
    for hook in hooks:
        hook.remove()
    return [pair for pair in pairs if all(calls[path] == 1 for path in pair)]
