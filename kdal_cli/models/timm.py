"""Any classifier of timm, by its name there, for any number of channels and of classes.

Its modules keep their names, so stages are named as in timm: layer1 to layer4 in a ResNet, blocks.N in most.
"""

import importlib.util
from types import ModuleType

from torch import nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError, nearest
from kdal_cli.models._blocks import resize_first
from kdal_cli.records.timm_folder import preprocessing


def timm(shape: Shape, *, arch: str, pretrained: bool = False) -> nn.Module:
    """The classifier that timm calls `arch`, with a fresh linear layer for the classes at its end.

    pretrained: start from the weights that timm publishes, from the cache of its hub or the network; of other than
    three channels the first convolution is adapted by timm. They expect what `preprocessing` of the network says.
    Architectures of a fixed size (ViT) see images at that size, whatever theirs. Without modules that write in place.
    Raises UserError for an unknown `arch`, for weights that cannot be had, and where timm is not installed.
    """
    package = _package()
    if not package.is_model(arch) or ":" in arch:
        raise UserError(f"timm has no classifier {arch!r}", where="arch", cure=nearest(arch, package.list_models()))
    try:
        net = package.create_model(arch, pretrained=pretrained, num_classes=shape.classes, in_chans=shape.channels)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        reason = str(error).partition("\n")[0]
        cure = "download=true where there is a network, or weights=FILE"
        raise UserError(f"the published weights of {arch} cannot be had: {reason}", cure=cure) from error
    for module in net.modules():
        if "inplace" in vars(module):
            vars(module)["inplace"] = False
    rule = net.pretrained_cfg
    net.preprocessing = preprocessing(rule).over(shape.channels)
    if rule.get("fixed_input_size"):
        resize_first(net, *rule["input_size"][1:])
    return net


def _package() -> ModuleType:
    if importlib.util.find_spec("timm") is None:
        raise UserError("architectures of timm need the package timm", cure="pip install 'kdal[timm]'")
    import timm as package

    return package
