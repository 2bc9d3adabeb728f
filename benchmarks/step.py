"""Training steps/s of small networks in the memory formats and precisions that a CPU or GPU offers.

    python benchmarks/step.py [--threads 2] [--seconds 2]

The ratio is against contiguous fp32, the default of PyTorch. Configurations take turns, so that a machine that slows
down slows all of them; medians of the turns. The rule of `kdal_cli.devices.precision` sums up what it shows.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from kdal_cli.dataset import Shape
from kdal_cli.devices.engine import cpu_has_bf16
from kdal_cli.models.mobilenet_v2 import mobilenet_v2
from kdal_cli.models.resnet import resnet
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.plain import several

BATCH = 64
TURNS = 7
SHAPE = Shape(3, 32, 32, 100)
MODELS: dict[str, Callable[[], nn.Module]] = {
    "small_cnn": lambda: small_cnn(SHAPE),
    "resnet20": lambda: resnet(SHAPE, depth=20),
    "mobilenet_v2_half": lambda: mobilenet_v2(SHAPE),
}


def has_depthwise(network: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1 for m in network.modules())


def stepper(make: Callable[[], nn.Module], channels_last: bool, bf16: bool, device: str) -> Callable[[], None]:
    """One training step on one batch that never changes."""
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = make().to(device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    images = torch.randn(BATCH, SHAPE.channels, SHAPE.height, SHAPE.width, device=device).contiguous(
        memory_format=layout
    )
    labels = torch.randint(SHAPE.classes, (BATCH,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def speed(step: Callable[[], None], seconds: float, device: str) -> float:
    """Images/s over so many seconds."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step()
        steps += 1
        wait()
    return steps * BATCH / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn of one configuration")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    about = f"bf16 in hardware: {cpu_has_bf16()}" if device == "cpu" else torch.cuda.get_device_name()
    machine = f"torch {torch.__version__}, Python {platform.python_version()}, {several(options.threads, 'thread')}"
    print(f"{machine}, {device}, {about}")
    print("| model | depthwise | format | precision | images/s | ratio |\n|---|---|---|---|---|---|")
    for name, make in MODELS.items():
        kinds = [(channels_last, bf16) for channels_last in (False, True) for bf16 in (False, True)]
        steps = {kind: stepper(make, *kind, device) for kind in kinds}
        for step in steps.values():
            step()
        turns = [{kind: speed(step, options.seconds, device) for kind, step in steps.items()} for _ in range(TURNS)]
        for kind in kinds:
            median = statistics.median(turn[kind] for turn in turns)
            ratio = statistics.median(turn[kind] / turn[False, False] for turn in turns)
            layout, precision = "channels-last" if kind[0] else "contiguous", "bf16" if kind[1] else "fp32"
            depthwise = "yes" if has_depthwise(make()) else "no"
            print(f"| {name} | {depthwise} | {layout} | {precision} | {median:,.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
