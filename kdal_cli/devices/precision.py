"""Which precision a network is computed in, by its architecture: the same one on every day, in every run and process.

A stopwatch would choose one precision today and another tomorrow, and with it other weights. So nothing is timed here:
the rule sums up what `benchmarks/step.py` measured once.
"""

from typing import Literal

from torch import Tensor, nn

from kdal_cli.metrics.cost import flops

Precision = Literal["auto", "fp32", "bf16"]

WORTH = 3e6
"""Floating-point operations of one image from which on bf16 pays: below, casting the weights takes what it gains."""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fitting(network: nn.Module, image: Tensor) -> Precision:
    """The precision for `network` where the hardware has bf16. image: (1, c, H, W) uint8, one that it will see.

    fp32 with grouped convolutions, which are slower in bf16, and for networks below `WORTH`; bf16 for all others.
    """
    grouped = any(isinstance(part, CONVOLUTIONS) and part.groups > 1 for part in network.modules())
    return "fp32" if grouped or flops(network, image) < WORTH else "bf16"
