"""Whether `oracle=mixed` keeps what it promises: draws of validation images, and the error on all others.

    python benchmarks/promise.py TEACHER.safetensors… --root DATA [--images 500] [--error 0.05] [--draws 1000]

Each teacher answers the 10,000 test images of Fashion-MNIST, which it has not learnt from. A draw takes some of them as
validation images, chooses the threshold by them, and looks how often answers about others are wrong that are as sure.
"""

import argparse
from pathlib import Path

import torch

from kdal_cli.compose.shipped import shipped
from kdal_cli.data.fashion_mnist import fashion_mnist
from kdal_cli.labels.promise import threshold
from kdal_cli.types import Unwatched

LEVEL = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teachers", nargs="+", type=Path)
    parser.add_argument("--root", default="data")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--error", type=float, default=0.05)
    parser.add_argument("--draws", type=int, default=1000)
    chosen = parser.parse_args()
    test = fashion_mnist(Unwatched(), root=chosen.root).test
    print("| labels of the teacher | accuracy | promise kept | answers nothing | share answered | of these wrong |")
    print("|---|---|---|---|---|---|")
    for path in chosen.teachers:
        ship = shipped(path, [])
        network = ship.network.eval()
        with torch.inference_mode():
            logits = torch.cat([network(test.pixels[ids]).logits for ids in torch.arange(len(test)).split(500)])
        confidence, said = logits.double().softmax(1).max(1)
        right, rng = said == test.labels.all(), torch.Generator().manual_seed(0)
        shares, errors = [], []
        for _ in range(chosen.draws):
            order = torch.randperm(len(right), generator=rng)
            known, others = order[: chosen.images], order[chosen.images :]
            sure = confidence[others] >= threshold(confidence[known], right[known], chosen.error, LEVEL)
            if sure.any():
                shares.append(float(sure.double().mean()))
                errors.append(float((~right[others])[sure].double().mean()))
        silent = chosen.draws - len(errors)
        kept = (sum(error <= chosen.error for error in errors) + silent) / chosen.draws
        figures = [float(right.double().mean()), kept, silent / chosen.draws]
        figures += [sum(column) / max(1, len(column)) for column in (shares, errors)]
        labels = ship.card.trained_on["labels"]
        print(f"| {labels:,} | " + " | ".join(f"{100 * figure:.1f} %" for figure in figures) + " |")


if __name__ == "__main__":
    main()
