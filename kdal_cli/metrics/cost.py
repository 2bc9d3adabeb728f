"""What a model costs: parameters, operations, time."""

import inspect
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def parameters(module: nn.Module) -> int:
    """How many numbers a model can learn: frozen ones too, shared ones once; no buffers (batch-norm statistics)."""
    return sum(p.numel() for p in module.parameters())


def flops(module: nn.Module, example: Tensor) -> int:
    """Floating-point operations of one forward pass over `example` (B, c, H, W) in evaluation mode.

    A multiply-add counts as two: a convolution has 2 · B · C_out · H_out · W_out · (C_in / groups) · k_h · k_w. Half of
    that is the number of MACs, which papers often call FLOPs. Convolutions, matrix products and attention are counted;
    biases, normalisation, activations and pooling are not (`torch.utils.flop_counter`).
    """
    counter = _FlopCounter()
    with evaluating(module), torch.no_grad(), _attention_in_parts(), counter:
        module(example)
    return counter.flops


class _FlopCounter(TorchDispatchMode):
    """Adds up what `torch.utils.flop_counter` knows of each operation.

    torch's own `FlopCounterMode` imports `torch._dynamo` for the wrapper that torch puts around `__torch_dispatch__`,
    two seconds for a compiler that nobody uses here; this one has the wrapper taken off.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=output)
        return output


_FlopCounter.__torch_dispatch__ = inspect.unwrap(_FlopCounter.__torch_dispatch__)


def throughput(
    module: nn.Module,
    example: Tensor,
    *,
    repeats: int = 20,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Images/s of forward passes over `example` (B, c, H, W) in evaluation mode: B / the median seconds of a pass.

    `warmup` passes are not timed, then `repeats` are; an accelerator is waited for before and after each of those. The
    precision is that of the autocast around the call.
    """
    seconds = []
    with evaluating(module), torch.inference_mode():
        for _ in range(warmup):
            module(example)
        for _ in range(repeats):
            _wait(example.device)
            start = clock()
            module(example)
            _wait(example.device)
            seconds.append(clock() - start)
    return len(example) / statistics.median(seconds)


class FlopMeter:
    """The floating-point operations that networks have done, by what one image costs each of them.

    example: (1, c, H, W). A backward pass counts as two forward ones; adapters, losses and optimizers are not counted.
    """

    def __init__(self, example: Tensor) -> None:
        self.flops = 0
        self._example = example
        self._costs: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()

    def cost(self, network: nn.Module) -> int:
        """Of one image, forward."""
        if network not in self._costs:
            self._costs[network] = flops(network, self._example)
        return self._costs[network]

    def forward(self, network: nn.Module, images: int) -> None:
        """A network has looked at so many images."""
        self.flops += images * self.cost(network)

    def train(self, network: nn.Module, images: int, *, head_alone: bool = False) -> None:
        """A network has been trained on so many, each as often as it was seen.

        head_alone: only its last linear layer D -> C learns, so that a backward pass costs 2 · 2 · D · C. What its body
        has seen before is counted all the same: what a run is charged hangs on no other run.
        """
        if head_alone:
            last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
            self.flops += images * 4 * last.in_features * last.out_features
        self.forward(network, images if head_alone else 3 * images)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """`module` in evaluation mode; afterwards each part is back in the mode that it had, frozen parts too."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _attention_in_parts() -> Iterator[None]:
    """Without PyTorch's fused transformer layers, whose operations the counter cannot see."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
