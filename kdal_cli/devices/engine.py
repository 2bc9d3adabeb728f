"""Where and how tensors are computed: device, precision, memory format, threads. The one seam to the hardware."""

import ctypes
import os
import resource
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from kdal_cli.devices import launched
from kdal_cli.devices.piped import Piped
from kdal_cli.devices.precision import Precision, fitting
from kdal_cli.devices.team import Team
from kdal_cli.errors import UserError

PEAKS = {"H200": (989, 67), "H100 PCIe": (756, 51), "H100": (989, 67), "A100": (312, 19.5), "L4": (121, 30.3)}
"""TFLOP/s of bf16 on tensor cores without sparsity and of fp32 beside them, from NVIDIA's data sheets, by a part of the
name; of several that fit, the first."""

MMAP_MAX, TRIM_THRESHOLD, TOP_PAD = -4, -1, -2
"""Parameters of glibc's mallopt(3)."""


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

        devices: how many processes are to work as one, on as many GPUs, or on parts of the CPU; those that torchrun has
        started do in any case. threads: of each; as many as torch would take, divided among those of a machine. Raises
        UserError for a device that is not there.
        """
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            if torch.device(name).type not in ("cpu", "cuda"):
                raise ValueError(name)
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError, ValueError):
            raise UserError(f"device={device}", cure="auto, cpu, or a GPU of this machine: cuda, cuda:0, …") from None
        here, crew = torch.device(name), launched.crew()
        beside = crew.launch.beside if crew else devices
        if crew is not None and devices not in (1, crew.launch.size):
            raise UserError(f"devices={devices}", cure=f"{crew.launch.size}, as torchrun has started, or leave it out")
        if beside > 1:
            _refuse_too_many(beside, here, device)
        settle = partial(_settle, here, threads or max(1, usual_threads() // beside))
        settle(here.index or 0)
        size, recruit = (crew.launch.size, crew.recruit) if crew else (devices, Piped)
        return cls(here, Team(size, here.type, settle, recruit=recruit))

    def place(self, module: nn.Module) -> nn.Module:
        """The module on the device, its convolutions channels-last."""
        return module.to(device=self.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def precision(self, wanted: Precision, network: nn.Module, pixels: Tensor) -> Precision:
        """The precision to compute `network` in, on images like `pixels` (B, c, H, W) uint8.

        auto follows the architecture where the processor has bf16; without such instructions it is emulated, many times
        slower.
        """
        if wanted != "auto":
            return wanted
        gpu = self.device.type == "cuda"
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else cpu_has_bf16()
        return fitting(network, pixels[:1]) if has_bf16 else "fp32"

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

    def peak_flops(self, precision: Precision) -> float | None:
        """Floating-point operations a second that the device can do at most, or None where that is not known."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        peaks = next((peaks for part, peaks in PEAKS.items() if all(word in name for word in part.split())), None)
        return None if peaks is None else 1e12 * peaks[0 if precision == "bf16" else 1]

    def describe(self) -> dict[str, str | int]:
        """What a manifest records: results are bit-equal only where all of this is."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else _cpu_model()
        threads = torch.get_num_threads()
        return {"device": str(self.device), "devices": self.team.size, "name": name, "threads": threads}


def _settle(device: torch.device, threads: int, number: int) -> None:
    """Make this process compute on the device of this number, the same thing twice."""
    keep_memory()
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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator has said no: of a GPU, of the CPU, or of oneDNN, which then creates no primitive."""
    refused = any(words in str(error) for words in ("can't allocate memory", "could not create a primitive"))
    return refused or isinstance(error, torch.OutOfMemoryError | MemoryError)


@cache
def keep_memory() -> None:
    """Let the C library keep what is freed, so that the next step need not fault its memory in again.

    Large blocks come from the heap and never go back to the system: a scoring pass is up to twice as fast.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; others have none
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 1 << 30)
        mallopt(TOP_PAD, 64 << 20)


@cache
def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AVX512-BF16 or AMX)."""
    flags = _cpuinfo("flags").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _cpu_model() -> str:
    return _cpuinfo("model name") or "CPU"


@cache
def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")
