"""Where and how tensors are computed: device, precision, memory format, threads. The one seam to the hardware."""

import os
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from kdal_cli.errors import MachineError, UserError
from kdal_cli.team import Team

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Engine:
    """One device. Models run channels-last on it: 1.3 to 2.5 times faster on CPUs, and the fast path of GPUs.

    team: the processes that work as one with this one, each on a device of its own.
    """

    device: torch.device
    team: Team = field(default_factory=Team)

    @classmethod
    def start(cls, device: str = "auto", threads: int | None = None, devices: int = 1) -> "Engine":
        """Open the device, `auto` being the GPU when there is one, and make it compute the same thing twice.

        devices: how many processes are to work as one, on as many GPUs, or on parts of the CPU. threads: of each; as
        many as torch would take, divided among them. Raises UserError for a device that is not there.
        """
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            if torch.device(name).type not in ("cpu", "cuda"):
                raise ValueError(name)
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError, ValueError):
            raise UserError(f"device={device}", cure="auto, cpu, or a GPU of this machine: cuda, cuda:0, …") from None
        here, usual = torch.device(name), max(1, usual_threads() // devices)
        if devices > 1:
            _refuse_too_many(devices, here, device)
        settle = partial(_settle, here, threads or usual)
        settle(here.index or 0)
        return cls(here, Team(devices, here.type, settle))

    def place(self, module: nn.Module) -> nn.Module:
        """The module on the device, its convolutions channels-last."""
        return module.to(device=self.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def precision(self, wanted: Precision, network: nn.Module) -> Precision:
        """The precision to train `network` in.

        auto is bf16 autocast where it was measured to pay: on GPUs that have it, and on CPUs with bf16 instructions
        unless the network has depthwise convolutions. Without those instructions bf16 is emulated, 8 times slower.
        """
        if wanted != "auto":
            return wanted
        if self.device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        return "bf16" if cpu_has_bf16() and not has_depthwise(network) else "fp32"

    def autocast(self, precision: Precision) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")

    def finish(self) -> None:
        """Wait for the device, so that a clock may be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_megabytes(self) -> float:
        """Most memory held so far: of the device on a GPU, of the process on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

    def describe(self) -> dict[str, str | int]:
        """What a manifest records: results are bit-equal only where all of this is."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else _cpu_model()
        threads = torch.get_num_threads()
        return {"device": str(self.device), "devices": self.team.size, "name": name, "threads": threads}


def _settle(device: torch.device, threads: int, number: int) -> None:
    """Make this process compute on the device of this number, the same thing twice."""
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(number)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.use_deterministic_algorithms(True, warn_only=True)


def _refuse_too_many(devices: int, device: torch.device, wanted: str) -> None:
    """Raise UserError where there are not so many devices, or one of them was named."""
    if device.index is not None:
        raise UserError(
            f"devices={devices} and device={wanted}", cure=f"device=cuda: the first {devices} GPUs are taken"
        )
    if device.type == "cuda" and devices > torch.cuda.device_count():
        count = torch.cuda.device_count()
        cure = f"from 1 to {count}; several jobs can share one: hydra/launcher=joblib"
        raise UserError(f"devices={devices} on a machine of {count} GPUs", cure=cure)


@cache
def usual_threads() -> int:
    """How many threads torch takes unless it is told: asked before it is."""
    return torch.get_num_threads()


@contextmanager
def memory_told(batch: int) -> Iterator[None]:
    """Out-of-memory as one line that names what to change."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        cure = "lower recipe.batch or recipe.pool_batch"
        raise MachineError(f"out of memory with batches of {batch}", cure=cure) from None


@cache
def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AVX512-BF16 or AMX)."""
    flags = _cpuinfo("flags").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def has_depthwise(network: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1 for m in network.modules())


def _cpu_model() -> str:
    return _cpuinfo("model name") or "CPU"


@cache
def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")
