"""An architecture cut down to the shapes of its weights: a pruned network needs no file but its checkpoint.

Pruning takes channels out of layers and leaves the layers where they are. So the shapes in a state dict say all that is
other than in the network that was pruned.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

PRUNED = "pruned"
"""The key of an architecture, `pruned: true`, whose shapes are those of its weights."""


def reshaped(body: nn.Module, shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """`body`, changed in place: each of its tensors has the shape of that name in `shapes`, and new numbers.

    What a layer says of itself follows: channels, features, and the groups of a depthwise convolution. Other grouped
    convolutions keep their groups. Tensors that `shapes` lacks, or has with other axes, stay as they are.
    """
    changed: set[nn.Module] = set()
    for path, module in body.named_modules():
        own = [*module._parameters.items(), *module._buffers.items()]
        for name, tensor in own:
            shape = shapes.get(f"{path}.{name}" if path else name)
            if tensor is None or shape is None or len(shape) != tensor.dim() or tuple(shape) == tensor.shape:
                continue
            blank = torch.empty(*shape, dtype=tensor.dtype, device=tensor.device)
            if isinstance(tensor, nn.Parameter):
                module._parameters[name] = nn.Parameter(blank, tensor.requires_grad)
            else:
                module._buffers[name] = blank
            changed.add(module)
    for module in changed:
        _describe(module)
    return body


def _describe(module: nn.Module) -> None:
    """Have a layer say of itself what its tensors are."""
    if isinstance(module, nn.Conv2d):
        outputs, inputs = module.weight.shape[:2]
        if module.groups == module.in_channels > 1:  # depthwise
            module.groups = outputs // (module.out_channels // module.in_channels)
        module.in_channels, module.out_channels = inputs * module.groups, outputs
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _NormBase):
        described = module.weight if module.weight is not None else module.running_mean
        module.num_features = len(described) if described is not None else module.num_features
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(module.weight.shape)
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = len(module.weight)
