"""Any classifier, seen as `pixels -> Output`: it normalises its own input and shows its features and maps.

Features are what enters the classifier, the last linear layer; maps are the outputs of named modules. Both are read by
forward hooks, so no architecture is written for distillation, and its state dict stays the plain one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.errors import UserError, nearest
from kdal_cli.types import Output


class Memory(Protocol):
    """What a body that does not change answered before: (B, D) features of images `ids` (B,) in `views` (B,).

    None of images that it does not know. Without views they are the images as they are.
    """

    def __call__(self, images: Any, ids: Tensor, views: Tensor | None = None) -> Tensor | None: ...


class Network(nn.Module):
    """A classifier `body`, images (B, c, H, W) float -> logits (B, C), behind a normalisation of its own.

    mean, std: per channel, on the scale from 0 to 1. size: (height, width) that images are resized to on the way in,
    bilinear and antialiased; None leaves them as they are.
    """

    mean: Tensor
    std: Tensor
    known: Mapping[int, int] | None = None
    """{output that it has learnt: class of the data that it is}. None: all, each the class of its place."""

    def __init__(
        self, body: nn.Module, mean: Sequence[float], std: Sequence[float], size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.body, self.size = body, size
        self.register_buffer("mean", torch.tensor(mean).mul(255)[:, None, None], persistent=False)  # (c, 1, 1)
        self.register_buffer("std", torch.tensor(std).mul(255)[:, None, None], persistent=False)  # (c, 1, 1)
        self._seen: dict[str, Tensor] = {}
        self._tapped: list[str] = []
        self.memory: Memory | None = None
        self._compiled: list[Callable[[Tensor], Tensor]] = []  # in a list it is no module of this one
        self._head = [classifier(body)]
        classifier(body).register_forward_pre_hook(self._see_features)

    @property
    def classes(self) -> int:
        """C, how many logits it answers."""
        return classifier(self.body).out_features

    def tap(self, paths: Iterable[str]) -> None:
        """Show the outputs of these modules in `Output.maps` from now on. Raises UserError for a path without one."""
        modules = dict(self.body.named_modules())
        for path in paths:
            if path not in modules:
                places = [name for name in modules if name.count(".") < 2 and name]
                raise UserError(f"no module {path!r}", cure=nearest(path, places))
            if path not in self._tapped:
                self._tapped.append(path)
                modules[path].register_forward_hook(partial(self._see, path))

    def __getstate__(self) -> dict[str, Any]:
        """A copy is not compiled and remembers nothing: it may be changed, as folding does."""
        return {**super().__getstate__(), "_compiled": [], "memory": None}

    @contextmanager
    def compiled(self, kind: Literal["none", "default", "graphs"]) -> Iterator[None]:
        """With the body compiled for training; what looks at images in eval mode, in batches of any size, is not.

        Networks of one architecture share what was compiled. graphs: with CUDA graphs, on a GPU.
        """
        if kind != "none":
            mode = "reduce-overhead" if kind == "graphs" else None
            self._compiled.append(torch.compile(self.body, dynamic=False, mode=mode))
        try:
            yield
        finally:
            self._compiled.clear()

    def forward(self, pixels: Tensor) -> Output:
        """pixels: (B, c, H, W) uint8."""
        images = self.normalised(pixels)
        body = self._compiled[0] if self._compiled and self.training else self.body
        logits = body(images.contiguous(memory_format=torch.channels_last))  # (B, C)
        features, maps = self._seen.pop("features"), {path: self._seen.pop(path) for path in self._tapped}
        return Output(logits, features, maps, self)

    def recall(self, images: Any, ids: Tensor, views: Tensor | None = None) -> Output | None:
        """What it answers to images that its body has seen: the head alone looks. None where it has no memory."""
        features = self.memory(images, ids, views) if self.memory is not None else None
        return None if features is None else self.of_features(features)

    def of_features(self, features: Tensor) -> Output:
        """What the head answers to features (B, D)."""
        return Output(self._head[0](features), features)

    def normalised(self, pixels: Tensor) -> Tensor:
        """pixels (B, c, H, W) uint8 -> what the body sees of them."""
        return (self._sized(pixels.float()) - self.mean) / self.std

    def _sized(self, pixels: Tensor) -> Tensor:
        if self.size is None or pixels.shape[2:] == self.size:
            return pixels
        return F.interpolate(pixels, self.size, mode="bilinear", antialias=True)

    def extra_repr(self) -> str:
        return f"size={self.size}" if self.size else ""

    def _see_features(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._seen["features"] = args[0].flatten(1) if args[0].dim() < 4 else args[0].mean((2, 3))

    def _see(self, path: str, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        self._seen[path] = output


class Mean(nn.Module):
    """Several classifiers as one body, pixels (B, c, H, W) from 0 to 255 -> logits (B, C): each normalises for itself.

    average: `logits`, Σ w_k z_k; or `probabilities`, the logits z with softmax(z/T) = Σ w_k softmax(z_k/T) at
    `temperature` T, so that a loss of that temperature sees exactly the mean. weights: one a member, adding up to 1.
    Its features and stages are those of the last member.
    """

    weights: Tensor

    def __init__(
        self,
        members: Sequence[Network],
        weights: Sequence[float],
        average: Literal["logits", "probabilities"] = "logits",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.average, self.temperature = average, temperature
        self.register_buffer("weights", torch.tensor(weights)[:, None, None], persistent=False)  # (K, 1, 1)
        last = f"members.{len(members) - 1}.body."
        self.stages = tuple(last + path for path in getattr(members[-1].body, "stages", ())) or None
        self.stem = "".join(last + path for path in stem(members[-1]))

    def forward(self, pixels: Tensor) -> Tensor:
        logits = torch.stack([member(pixels).logits.float() for member in self.members])  # (K, B, C)
        if self.average == "logits":
            return (self.weights * logits).sum(0)
        t = self.temperature
        return t * torch.logsumexp(self.weights.log() + (logits / t).log_softmax(2), 0)


def mean_of(members: Sequence[Network], weights: Sequence[float], average: str, temperature: float) -> Network:
    """Several networks as one. Its own normalisation leaves the pixels as they are, for each member to do its own."""
    channels = len(members[0].mean)
    body = Mean(members, weights, "logits" if average == "logits" else "probabilities", temperature)
    return Network(body, (0.0,) * channels, (1 / 255,) * channels)


def owner(output: Output) -> Network:
    """The network that gave an answer. Raises ValueError where it was none."""
    if not isinstance(output.model, Network):
        raise ValueError("a term that asks the network again needs an answer that says whose it is")
    return output.model


def twice(output: Output, again: Tensor) -> tuple[Tensor, Tensor]:
    """(B, D) features of a batch, and of other pixels (B, c, H, W) by the same network: each its own batch to norms."""
    return output.features, owner(output)(again).features.to(output.features)


def stages(network: Network, image: Tensor) -> tuple[str, ...]:
    """Where a network is usually looked into, from the first stage to the last: module paths, possibly none.

    What the architecture itself names in `body.stages`; else the module with convolutions that is the last to answer at
    each size of map, seen on `image` (1, c, H, W) uint8.
    """
    named = getattr(network.body, "stages", None)
    if isinstance(named, tuple):
        return named
    seen: dict[torch.Size, str] = {}

    def see(path: str, module: nn.Module, args: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
            seen.pop(output.shape[2:], None)  # the last one counts, and its place in the order
            seen[output.shape[2:]] = path

    inner = [(path, m) for path, m in network.body.named_modules() if path and has_convolutions(m)]
    hooks = [module.register_forward_hook(partial(see, path)) for path, module in inner]
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(image)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return tuple(seen.values())


def stem(network: Network) -> tuple[str, ...]:
    """The module path of what enters the first stage, as the architecture itself names it, or nothing."""
    named = getattr(network.body, "stem", "")
    return (named,) if isinstance(named, str) and named else ()


def has_convolutions(module: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) for m in module.modules())


def classifier(body: nn.Module) -> nn.Linear:
    """The last linear layer of a model. Raises UserError when it has none."""
    linear = [module for module in body.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(
            f"{type(body).__name__} has no linear layer to read features from", cure="end it with nn.Linear"
        )
    return linear[-1]


def freeze(network: Network) -> Network:
    """A teacher, by construction: eval mode, no gradient, and deaf to `train()`, so that nothing can wake it."""
    network.requires_grad_(False)
    asleep(network)
    return network


def asleep(module: nn.Module) -> None:
    """Put a module into evaluation mode, from which `train()` does not wake it."""
    module.eval()
    module.train = partial(_stay, module)  # type: ignore[method-assign]


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module
