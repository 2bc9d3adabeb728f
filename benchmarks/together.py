"""K students of one configuration, seeds apart, trained together by torch.func: beside one after the other.

    python benchmarks/together.py [--students 5] [--batch 64] [--turns 5] [--device cpu]

A step of all K: a small CNN in training mode, channels-last where it is alone, AdamW, on batches of noise. The two take
turns; seconds are of the processor on a CPU, of the clock on a GPU. The ratio is how many times as long one after the
other takes.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from kdal_cli.dataset import Shape
from kdal_cli.models.small_cnn import small_cnn

SHAPES = (Shape(1, 8, 8, 10), Shape(1, 28, 28, 10), Shape(3, 32, 32, 10))
STEPS = 10


def alone(networks: list[nn.Module], pixels: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizers = [torch.optim.AdamW(network.parameters(), 3e-3, fused=True) for network in networks]
    batches = [part.contiguous(memory_format=torch.channels_last) for part in pixels]

    def step() -> None:
        for network, optimizer, batch, answers in zip(networks, optimizers, batches, labels, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(network(batch), answers).backward()
            optimizer.step()

    return step


def together(networks: list[nn.Module], pixels: Tensor, labels: Tensor) -> Callable[[], None]:
    stacked, buffers = stack_module_state(networks)
    weights = {name: nn.Parameter(value.detach().clone()) for name, value in stacked.items()}
    optimizer, shell = torch.optim.AdamW(weights.values(), 3e-3, fused=True), networks[0]

    def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Tensor, answers: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(shell, (weights, buffers), (batch,)), answers)

    gradients = vmap(grad(loss), randomness="different")

    def step() -> None:
        for name, value in gradients(dict(weights), buffers, pixels, labels).items():
            weights[name].grad = value
        optimizer.step()

    return step


def seconds(step: Callable[[], None], device: str) -> float:
    clock = time.perf_counter if device == "cuda" else time.process_time
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = clock()
    for _ in range(STEPS):
        step()
    wait()
    return (clock() - started) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print("| images | one after the other, ms | together, ms | ratio |\n|---|---|---|---|")
    for shape in SHAPES:
        networks = [small_cnn(shape, width=16).train() for _ in range(chosen.students)]
        networks = [network.to(chosen.device).to(memory_format=torch.channels_last) for network in networks]
        size = (chosen.students, chosen.batch, shape.channels, shape.height, shape.width)
        given = (torch.randn(size, device=chosen.device), torch.randint(10, size[:2], device=chosen.device))
        steps = (alone(copy.deepcopy(networks), *given), together(networks, *given))
        for step in steps:
            step()
        turns = [[seconds(step, chosen.device) for step in steps] for _ in range(chosen.turns)]
        one, all_at_once = (1000 * statistics.median(turn[side] for turn in turns) for side in range(2))
        ratio = statistics.median(turn[0] / turn[1] for turn in turns)
        words = f"{shape.channels} × {shape.height} × {shape.width}"
        print(f"| {words} | {one:.1f} | {all_at_once:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
