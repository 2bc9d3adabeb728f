"""What a file answers, and how fast: measured on the very file that is shipped.

Axis letters: N images, C classes, B batch, c channels, H W pixels.
"""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kdal_cli.export.formats import INPUT

Run = Callable[[np.ndarray], np.ndarray]
"""pixels (B, c, H, W) uint8 -> logits (B, C) float32."""

LARGE = 16
"""Images of the larger of the two batches that are timed."""

REPEATS, WARMUP, SECONDS = 100, 5, 4.0
"""Passes that are timed, or as many as that takes; and passes before."""

TESTED = 250
"""Images a pass where answers are compared."""


@dataclass(frozen=True)
class Pace:
    """Milliseconds of a pass over a batch: the median, and what 95 of 100 passes stay below."""

    median: float
    p95: float


def onnx_session(path: Path, threads: int) -> Run:
    """An ONNX file of ours in onnxruntime, in this process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda pixels: np.asarray(session.run(None, {INPUT: pixels})[0])


def torch_module(module: nn.Module) -> Run:
    """A module in torch, as it is."""

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(pixels)).numpy()

    return run


def torch_program(path: Path) -> Run:
    """A program of torch.export, of ours, read from its file."""
    return torch_module(torch.export.load(path).module())


def logits(run: Run, pixels: np.ndarray) -> np.ndarray:
    """(N, c, H, W) uint8 -> (N, C), in parts."""
    parts = [run(np.ascontiguousarray(pixels[i : i + TESTED])) for i in range(0, len(pixels), TESTED)]
    return np.concatenate(parts)


def pace(run: Run, example: np.ndarray, clock: Callable[[], float] = time.perf_counter) -> Pace:
    """How long a pass over `example` (B, c, H, W) takes."""
    for _ in range(WARMUP):
        run(example)
    times: list[float] = []
    begun = clock()
    while len(times) < REPEATS and (len(times) < 3 or clock() - begun < SECONDS):
        start = clock()
        run(example)
        times.append(1000 * (clock() - start))
    return Pace(statistics.median(times), sorted(times)[min(len(times) - 1, int(0.95 * len(times)))])


def instructions() -> str:
    """The instruction set that decides how fast, and on some processors how well, 8 bits are computed."""
    best = torch.backends.cpu.get_cpu_capability()
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    vnni = "avx512_vnni" in flags or "avx_vnni" in flags
    return f"{best}, {'VNNI' if vnni else 'no VNNI'}" if platform.machine() in ("x86_64", "AMD64") else best
