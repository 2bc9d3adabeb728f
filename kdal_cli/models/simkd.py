"""A student that ends as its teacher does: its own maps, projected to the teacher's width, and the same classifier.

Chen et al. 2022, arXiv:2203.14001. The loss `simkd` fills in and freezes the classifier. Stages: those of the backbone,
as backbone.layer1 and so on, then projector.
"""

from functools import partial

import torch
from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.models._blocks import GlobalAveragePool, chain, conv1x1, conv3x3
from kdal_cli.values import Count


def simkd(shape: Shape, *, backbone: nn.Module, features: Count, factor: Count = 2, at: str | None = None) -> nn.Module:
    """`backbone` up to its last map, a projector to `features` channels, average pooling and a linear layer.

    features: D of the teacher. factor: how many times fewer channels the projector has inside. at: the module whose map
    is projected; None finds the one that the backbone's own global pooling averages. What comes after it is dropped.
    The map keeps its size; the authors' code pools one larger than the teacher's before it is projected.
    Raises UserError for a backbone without such a map.
    """
    if factor > features:
        raise UserError(f"factor={factor}", where=f"features={features}", cure="the projector needs a channel inside")
    image = torch.randn(2, shape.channels, shape.height, shape.width, generator=torch.Generator().manual_seed(0))
    maps, entered = seen(backbone, image)
    if at is None:
        named = getattr(backbone, "stages", None) or ()
        at = pooled_map(maps, entered) or next(reversed(named), None)
    if at not in maps:
        places = [path for path in maps if path.count(".") < 2]
        cure = f"at=… names one of its maps, as in {', '.join(places[-8:])}" if places else "choose a convolutional one"
        raise UserError(f"{type(backbone).__name__} shows no map to project", where=f"at={at}", cure=cure)
    return SimKd(cut(backbone, at), at, maps[at].shape[1], features, features // factor, shape.classes)


class SimKd(nn.Module):
    """classifier(pool(projector(map of the backbone))), images (B, c, H, W) -> logits (B, C). See `simkd`."""

    stages: tuple[str, ...]
    stem: str

    def __init__(self, backbone: nn.Module, at: str, inputs: int, features: int, middle: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = chain(
            conv1=conv1x1(inputs, middle),
            bn1=nn.BatchNorm2d(middle),
            relu1=nn.ReLU(),
            conv2=conv3x3(middle, middle),
            bn2=nn.BatchNorm2d(middle),
            relu2=nn.ReLU(),
            conv3=conv1x1(middle, features),
            bn3=nn.BatchNorm2d(features),
            relu3=nn.ReLU(),
        )
        self.pool = GlobalAveragePool()
        self.classifier = nn.Linear(features, classes)
        self.stages = (*(f"backbone.{path}" for path in getattr(backbone, "stages", None) or ()), "projector")
        stem = getattr(backbone, "stem", "")
        self.stem = f"backbone.{stem}" if isinstance(stem, str) and stem else ""
        self._seen: list[Tensor] = []
        backbone.get_submodule(at).register_forward_hook(self._see)

    def forward(self, x: Tensor) -> Tensor:
        self.backbone(x)
        return self.classifier(self.pool(self.projector(self._seen.pop())))

    def _see(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        self._seen.append(output)


def seen(net: nn.Module, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
    """(the maps (B, c, h, w) that modules answer, by path, as they come; what enters linear layers), in eval mode."""
    maps: dict[str, Tensor] = {}
    entered: list[Tensor] = []

    def see(path: str, module: nn.Module, args: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            maps[path] = output
        if isinstance(module, nn.Linear):
            entered.append(args[0])

    hooks = [module.register_forward_hook(partial(see, path)) for path, module in net.named_modules() if path]
    was_training = net.training
    try:
        with torch.no_grad():
            net.eval()(image)
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
    return maps, entered


def pooled_map(maps: dict[str, Tensor], entered: list[Tensor]) -> str | None:
    """The path of a map whose mean over places enters a linear layer: the largest, and of equals the last to come."""
    means = {path: x.mean((2, 3)) for path, x in maps.items()}  # (B, c)
    found = [
        path
        for path, mean in means.items()
        if any(mean.shape == x.shape and torch.allclose(mean, x, rtol=1e-4, atol=1e-6) for x in entered)
    ]
    return max(reversed(found), key=lambda path: maps[path].numel(), default=None)


def cut(net: nn.Module, at: str) -> nn.Module:
    """The same net, where what is defined after the module `at`, beside it or beside what holds it, is an identity."""
    inside = net
    for name in at.split("."):
        names = [child for child, _ in inside.named_children()]
        for later in names[names.index(name) + 1 :]:
            setattr(inside, later, nn.Identity())
        inside = inside.get_submodule(name)
    return net
