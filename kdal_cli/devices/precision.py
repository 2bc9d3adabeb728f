"""Which precision a network is computed in: the faster one, by a short measurement that is written down.

A choice by the stopwatch may differ from run to run, and with it the bits of a result. So it is made once a run and
kept beside it, where a resumed run reads it, and bf16 has to be faster by `MARGIN`, far more than clocks are wrong by.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from kdal_cli.metrics.cost import evaluating
from kdal_cli.records.files import read_json, sha256, write_json

Precision = Literal["auto", "fp32", "bf16"]

MARGIN = 1.2
"""How many times as fast bf16 must be to be chosen."""

WARMUP, TURNS = 2, 5
"""Passes that are not timed, and that are, of each precision in turn."""


class Precisions:
    """The choices of one run, {network and batch: seconds and choice}. path: where they are written, if anywhere."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.choices = read_json(path) if path is not None and path.exists() else {}

    def choose(self, network: nn.Module, pixels: Tensor, finish: Callable[[], None]) -> Precision:
        """The precision for a network on batches like `pixels` (B, c, H, W) uint8. finish: waits for the device."""
        learns = any(parameter.requires_grad for parameter in network.parameters())
        about = {"network": repr(network), "learns": learns, "pixels": list(pixels.shape)}
        name = f"{type(getattr(network, 'body', network)).__name__} {sha256(about)[:8]}"
        if name not in self.choices:
            seconds = measured(network, pixels, learns, finish)
            faster = seconds["fp32"] > MARGIN * seconds["bf16"]
            self.choices[name] = {**seconds, "chosen": "bf16" if faster else "fp32"}
            if self.path is not None:
                write_json(self.path, self.choices)
        return self.choices[name]["chosen"]


def measured(network: nn.Module, pixels: Tensor, learns: bool, finish: Callable[[], None]) -> dict[Precision, float]:
    """Median seconds of a forward pass in each precision and, where the network learns, of a backward pass after it.

    In eval mode, so that no statistics move; the network is left as it was.
    """
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def once(precision: Precision) -> float:
        finish()
        started = time.perf_counter()
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = network(pixels).logits
        if learns:
            torch.autograd.grad(logits.float().logsumexp(1).sum(), weights, allow_unused=True)
        finish()
        return time.perf_counter() - started

    with evaluating(network), torch.set_grad_enabled(learns):
        turns = [(once("fp32"), once("bf16")) for _ in range(WARMUP + TURNS)]
    fp32, bf16 = (statistics.median(times) for times in zip(*turns[WARMUP:], strict=True))
    return {"fp32": fp32, "bf16": bf16}
