"""Where tensors are computed: the device is there or it is said, the precision is the one that pays."""

import ctypes
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from kdal_cli.dataset import Shape
from kdal_cli.devices import engine as module
from kdal_cli.devices.engine import Engine, is_out_of_memory
from kdal_cli.errors import UserError
from kdal_cli.models.resnet import resnet

CPU = Engine(torch.device("cpu"))
IMAGES = Shape(3, 8, 8, 4)
PIXELS = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def _settings_as_they_were() -> Iterator[None]:
    """What an engine sets, it sets for the whole process."""
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(threads)


def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert Engine.start("auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert Engine.start("cpu").device == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cuda:x", "CPU", "", "mps", "xla", "hpu", "meta", "cpu cuda"])
def test_a_device_that_is_not_there_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError) as refused:
        Engine.start(name)
    assert str(refused.value) == f"device={name}: auto, cpu, or a GPU of this machine: cuda, cuda:0, …"


def test_the_number_of_threads_is_the_one_asked_for() -> None:
    Engine.start("cpu", threads=2)
    assert torch.get_num_threads() == 2
    assert CPU.describe()["threads"] == 2


def test_several_processes_divide_the_threads_that_one_would_take(monkeypatch) -> None:
    monkeypatch.setattr(module, "usual_threads", lambda: 7)
    assert Engine.start("cpu", devices=2).describe()["threads"] == 3
    assert Engine.start("cpu", devices=20).describe()["threads"] == 1
    assert Engine.start("cpu", devices=2, threads=5).describe()["threads"] == 5
    about = Engine.start("cpu").describe()  # and the next job has them all again
    assert (about["threads"], about["devices"]) == (7, 1)


@pytest.mark.parametrize(
    ("device", "devices", "told"),
    [
        ("cuda:1", 2, "devices=2 and device=cuda:1: device=cuda: the first 2 GPUs are taken"),
        ("cuda", 3, "devices=3 on a machine of 2 GPUs: from 1 to 2; several jobs can share one: hydra/launcher=joblib"),
    ],
)
def test_more_gpus_than_there_are_are_refused_and_so_is_one_by_name(device, devices, told, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)  # the device is there
    with pytest.raises(UserError) as refused:
        Engine.start(device, devices=devices)
    assert str(refused.value) == told


@pytest.mark.parametrize("wanted", ["fp32", "bf16"])
def test_a_precision_that_is_named_is_taken(wanted) -> None:
    assert CPU.precision(wanted, nn.Linear(1, 1), PIXELS) == wanted


def test_auto_is_fp32_where_bf16_is_emulated(monkeypatch) -> None:
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: False)
    monkeypatch.setattr(module, "fitting", lambda *_: "bf16")
    assert CPU.precision("auto", nn.Linear(1, 1), PIXELS) == "fp32"


def test_auto_follows_the_architecture_where_there_is_bf16(monkeypatch) -> None:
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: True)
    assert CPU.precision("auto", nn.Flatten(), PIXELS) == "fp32"
    monkeypatch.setattr(module, "fitting", lambda _, image: "bf16" if len(image) == 1 else "fp32")
    assert CPU.precision("auto", nn.Linear(1, 1), PIXELS) == "bf16"


def test_what_this_cpu_says_of_itself_is_what_the_kernel_says() -> None:
    with open("/proc/cpuinfo") as file:  # noqa: PTH123
        flags = set(file.read().split())
    assert module.cpu_has_bf16() == bool(flags & {"avx512_bf16", "amx_bf16"})


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_precision_named(precision, dtype: torch.dtype) -> None:
    with CPU.autocast(precision):
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype


def test_a_module_is_placed_with_its_convolutions_channels_last_and_its_values_as_they_were() -> None:
    net = resnet(IMAGES, depth=8)
    weight = net.layer1[0].conv1.weight.detach().clone()
    CPU.place(net)
    assert net.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(net.layer1[0].conv1.weight, weight)


def ask_a_cpu_for_an_exbibyte() -> None:
    torch.empty(2**60, dtype=torch.uint8)


def be_refused_by_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def be_refused_by_onednn() -> None:
    raise RuntimeError("could not create a primitive")


@pytest.mark.parametrize("exhaust", [ask_a_cpu_for_an_exbibyte, be_refused_by_a_gpu, be_refused_by_onednn])
def test_out_of_memory_is_told_from_other_errors(exhaust: Callable[[], None]) -> None:
    with pytest.raises(RuntimeError) as refused:
        exhaust()
    assert is_out_of_memory(refused.value)
    with pytest.raises(RuntimeError, match="mat1 and mat2") as other:
        nn.Linear(2, 2)(torch.zeros(1, 3))
    assert not is_out_of_memory(other.value)


def test_a_manifest_learns_device_name_and_threads() -> None:
    about = CPU.describe()
    assert about["device"] == "cpu"
    assert about["name"]
    assert about["threads"] == torch.get_num_threads()
    assert CPU.peak_megabytes() > 10


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989e12),
        ("NVIDIA H100 PCIe", "bf16", 756e12),
        ("NVIDIA H200", "fp32", 67e12),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA GeForce GTX 1080", "fp32", None),
    ],
)
def test_the_peak_of_a_gpu_is_that_of_its_data_sheet(name: str, precision, expected: float | None, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert Engine(torch.device("cuda")).peak_flops(precision) == expected


def test_nobody_knows_the_peak_of_a_cpu() -> None:
    assert CPU.peak_flops("fp32") is None


FAULTS = """
import resource, sys, torch
from kdal_cli.devices.engine import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.zeros(2**24)
before = faults()
for _ in range(8):
    torch.zeros(2**24)
print(faults() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_memory_that_is_freed_is_used_again_without_a_fault() -> None:
    """64 MB, eight times: 16,384 pages each unless the block is kept, or huge pages where the kernel gives them."""
    run = [sys.executable, "-c", FAULTS]
    with_it, without = (
        int(subprocess.run([*run, word], capture_output=True, text=True, check=True).stdout)
        for word in ("keep", "leave")
    )
    assert with_it < without / 4
