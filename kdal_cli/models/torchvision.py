"""Any classifier of torchvision, by its name there, made to fit small images, any number of channels and of classes.

Its modules keep their names, so stages are named as in torchvision: layer1 to layer4 in a ResNet, features.N in most.
"""

import pickle
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.googlenet import GoogLeNet
from torchvision.models.inception import Inception3
from torchvision.models.maxvit import MaxVit
from torchvision.models.squeezenet import SqueezeNet
from torchvision.models.vision_transformer import VisionTransformer

from kdal_cli.dataset import Preprocessing, Shape
from kdal_cli.errors import UserError, nearest
from kdal_cli.models._blocks import GlobalAveragePool, resize_first

SMALL = 64
"""Pixels, of the shorter side, up to which an image is small: a stem made for 224 would leave little of it."""


_OPTIONS = {"inception_v3": {"init_weights": True}, "googlenet": {"init_weights": True}}
"""What torchvision warns about when it is left open."""


def torchvision(
    shape: Shape,
    *,
    arch: str,
    pretrained: bool = False,
    small_stem: Literal["auto", "always", "never"] = "auto",
) -> nn.Module:
    """The classifier that torchvision calls `arch`, with a fresh linear layer for the classes at its end.

    small_stem: the first convolution becomes 3 × 3 with stride 1 and the first max-pool goes; "auto" does so for images
    of up to 64 pixels. Stems that cut patches or do not stride stay, and so do those of inception_v3 and maxvit_t.
    Where the stem stays, images smaller than torchvision's minimum for `arch` (75 pixels for inception_v3, 32 for VGG)
    are enlarged to it on the way in; ViT and MaxViT always see the one size that they are made for.

    pretrained: start from torchvision's best ImageNet weights, from the cache of torch.hub or the network. A first
    convolution that must change keeps the centre of its kernels, and for other than three channels their mean over RGB.
    These weights expect images normalised as `preprocessing` of the network says; nothing here normalises.

    Without auxiliary classifiers, and without modules that write in place, so that a hook may keep what it sees.
    Raises UserError for an unknown `arch` and for weights that cannot be had.
    """
    known = models.list_models(module=models)
    if arch not in known:
        raise UserError(f"torchvision has no classifier {arch!r}", where="arch", cure=nearest(arch, known))
    net = _imagenet(arch) if pretrained else models.get_model(arch, **_OPTIONS.get(arch, {}))
    small = small_stem == "always" or (small_stem == "auto" and min(shape.height, shape.width) <= SMALL)
    shrink = small and _can_shrink(net)
    _adapt_stem(net, shape.channels, shrink=shrink, pretrained=pretrained)
    _replace_classifier(net, shape.classes)
    _drop_extras(net)
    if not shrink:
        _fit_images(net, arch, shape)
    net.preprocessing = preprocessing(arch, shape.channels)  # pyright: ignore[reportArgumentType]
    return net


def preprocessing(arch: str, channels: int) -> Preprocessing:
    """What the published weights of `arch` expect of an image; of other than RGB, the mean over RGB."""
    rule = models.get_model_weights(arch)["DEFAULT"].transforms()
    side, whole = rule.crop_size[0], rule.resize_size[0]
    mean, std = tuple(rule.mean), tuple(rule.std)
    return Preprocessing(mean, std, made_for=(side, side), crop=side / whole).over(channels)


def is_cached(arch: str) -> bool:
    """Whether the published weights are on this machine."""
    return _file(arch).exists()


def _file(arch: str) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", Path(models.get_model_weights(arch)["DEFAULT"].url).name)


def _imagenet(arch: str) -> nn.Module:
    weights, file = models.get_model_weights(arch)["DEFAULT"], _file(arch)
    try:
        return models.get_model(arch, weights=weights, progress=False)
    except (OSError, HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if file.exists():
            what, cure = f"the ImageNet weights of {arch} cannot be read", "delete the file, and it is fetched again"
        else:
            what, cure = f"the ImageNet weights of {arch} cannot be downloaded", f"put {weights.url} there by hand"
        raise UserError(f"{what}, {error}", where=file, cure=cure) from error


def _stem(net: nn.Module) -> nn.Conv2d:
    return next(module for module in net.modules() if isinstance(module, nn.Conv2d))


def _can_shrink(net: nn.Module) -> bool:
    """Whether the first convolution strides over windows that overlap, in a net that needs no such reduction."""
    stem = _stem(net)
    return stem.kernel_size > stem.stride > (1, 1) and not isinstance(net, Inception3 | MaxVit)


def _adapt_stem(net: nn.Module, channels: int, *, shrink: bool, pretrained: bool) -> None:
    stem = _stem(net)
    if shrink:
        stem.kernel_size, stem.stride, stem.padding = (3, 3), (1, 1), (1, 1)
        pools = [path for path, module in net.named_modules() if isinstance(module, nn.MaxPool2d)]
        for path in pools[:1]:
            net.set_submodule(path, nn.Identity())
    shape = (stem.out_channels, channels, *stem.kernel_size)
    if stem.weight.shape != shape:
        stem.in_channels = channels
        if pretrained:
            stem.weight = nn.Parameter(_fitted(stem.weight.detach(), channels, stem.kernel_size[0]))
        else:
            stem.weight = nn.Parameter(torch.empty(shape))
            stem.reset_parameters()


def _fitted(weight: Tensor, channels: int, kernel: int) -> Tensor:
    """(out, 3, K, K) -> (out, channels, kernel, kernel): the centre of each kernel; in other than RGB, its mean.

    The mean is scaled by 3 / channels, so that a grey image answers as it did when it was grey in three channels.
    """
    edge = (weight.shape[-1] - kernel) // 2
    centre = weight[:, :, edge : edge + kernel, edge : edge + kernel]
    return centre if channels == 3 else centre.mean(1, keepdim=True).mul(3 / channels).repeat(1, channels, 1, 1)


def _replace_classifier(net: nn.Module, classes: int) -> None:
    """End in a fresh linear layer that reads (B, D).

    SqueezeNet ends in a convolution, a ReLU and a pool, and so never answers below 0: here the pool comes first, and a
    linear layer takes the place of the convolution.
    """
    if isinstance(net, SqueezeNet):
        net.classifier = nn.Sequential(GlobalAveragePool(), nn.Dropout(), nn.Linear(512, classes))
        return
    path, last = [(path, module) for path, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
    net.set_submodule(path, nn.Linear(last.in_features, classes))


def _drop_extras(net: nn.Module) -> None:
    if isinstance(net, Inception3):
        net.AuxLogits, net.aux_logits, net.transform_input = None, False, False
    if isinstance(net, GoogLeNet):
        net.aux1, net.aux2, net.aux_logits, net.transform_input = None, None, False, False
    for module in net.modules():
        if "inplace" in vars(module):
            vars(module)["inplace"] = False


def _fit_images(net: nn.Module, arch: str, shape: Shape) -> None:
    least = max(models.get_model_weights(arch)["DEFAULT"].meta["min_size"])
    height, width = max(shape.height, least), max(shape.width, least)
    if isinstance(net, VisionTransformer):
        height = width = net.image_size
    if isinstance(net, MaxVit):
        height = width = least
    if (height, width) != (shape.height, shape.width):
        resize_first(net, height, width)
