"""How a student is best trained on the labels that a user has: a search on validation images, never on the test set.

    python benchmarks/recipes.py fashion_mnist small_cnn --root DATA --labels 100 1000 --lr 0.003 0.01 --floor 150 300
    python benchmarks/recipes.py cifar10 resnet8 --npz DATA/cifar10.npz --labels 10000 --lr 0.003 0.01

Every combination is trained from scratch until its labels are fitted, on `--seeds` draws of the labels, with the
augmentation of conf/data. Validation is 600 images of digits and 2,000 of the others, cut off once; labels are drawn
from the rest. A row a combination: validation accuracy of each seed and their mean, steps, CPU seconds of a training,
and what logistic regression learns from the same labels on the raw pixels.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from kdal_cli.data.digits import digits
from kdal_cli.data.fashion_mnist import fashion_mnist
from kdal_cli.data.mnist import mnist
from kdal_cli.data.npz import npz
from kdal_cli.dataset import ImageData, Shape
from kdal_cli.devices.engine import Engine
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.inference.predict import predict
from kdal_cli.models.mlp import mlp
from kdal_cli.models.resnet import resnet
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.network import Network
from kdal_cli.streams import Streams
from kdal_cli.training.fit import fit
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe, Until
from kdal_cli.types import Examples, Unwatched

STUDENTS: dict[str, Callable[[Shape], nn.Module]] = {
    "small_cnn": small_cnn,
    "small_cnn_16": partial(small_cnn, width=16),
    "resnet8": partial(resnet, depth=8),
    "mlp": mlp,
}
AUGMENT = {
    "digits": Augment(1),
    "mnist": Augment(2),
    "fashion_mnist": Augment(2, flip=True),
    "cifar10": Augment(4, flip=True),
}
VALIDATION, CEILING = {"digits": 600}, 4000
COLUMNS = ("data", "student", "labels", "lr", "weight decay", "batch", "floor", "accuracy %", "mean", "steps", "CPU s")
COLUMNS = (*COLUMNS, "logistic %")


def loaded(name: str, root: str, archive: Path | None) -> ImageData:
    if archive is not None:
        return npz(Unwatched(), path=str(archive))
    if name == "digits":
        return digits(Unwatched())
    return {"mnist": mnist, "fashion_mnist": fashion_mnist}[name](Unwatched(), root=root, download=False)


def shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


class Search:
    """Trainings on one data set, each measured on the same validation images."""

    def __init__(self, data: ImageData, augment: Augment, validation: int) -> None:
        order = shuffled(len(data.train), 1234)
        self.data, self.validation, self.pool = data, order[:validation], order[validation:]
        self.augment, self.engine = augment, Engine.start("cpu", threads=1)
        self.plain = Resident(data.train.pixels, Augment())

    def labelled(self, count: int, seed: int) -> Tensor:
        return self.pool[shuffled(len(self.pool), seed)[:count]]

    def accuracy(self, count: int, seed: int, student: str, recipe: Recipe) -> tuple[float, int, float]:
        """(validation accuracy, steps, CPU seconds) of a training."""
        ids, data = self.labelled(count, seed), self.data
        torch.manual_seed(seed)
        network = Network(STUDENTS[student](data.shape), data.mean, data.std)
        self.engine.place(network)
        images, examples = Resident(data.train.pixels, self.augment), Examples(ids, data.train.labels.all()[ids])
        started = time.process_time()
        fitted = fit(network, images, examples, Objective(), recipe, self.engine, Streams(seed), Unwatched())
        seconds = time.process_time() - started
        answers = predict(network, self.plain, self.validation).logits.argmax(1)
        return float((answers == data.train.labels.all()[self.validation]).float().mean()), fitted.steps, seconds

    def logistic(self, count: int, seed: int) -> float:
        ids, truth = self.labelled(count, seed), self.data.train.labels.all().numpy()
        pixels = self.data.train.pixels[:].flatten(1).numpy() / 255
        model = LogisticRegression(max_iter=500).fit(pixels[ids], truth[ids])
        return float(model.score(pixels[self.validation], truth[self.validation]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=sorted(AUGMENT))
    parser.add_argument("student", choices=sorted(STUDENTS))
    parser.add_argument("--root", default="data")
    parser.add_argument("--npz", type=Path, help="an archive, as data=npz reads it, instead")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--lr", type=float, nargs="+", default=[0.003])
    parser.add_argument("--weight-decay", type=float, nargs="+", default=[0.01])
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--floor", type=int, nargs="+", default=[150], help="half of it is the decay")
    parser.add_argument("--seeds", type=int, default=2)
    chosen = parser.parse_args()
    data = loaded(chosen.data, chosen.root, chosen.npz)
    search = Search(data, AUGMENT[chosen.data], VALIDATION.get(chosen.data, 2000))
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    grid = itertools.product(chosen.labels, chosen.lr, chosen.weight_decay, chosen.batch, chosen.floor)
    for labels, lr, decay, batch, floor in grid:
        until = Until(floor=floor, decay=floor // 2, ceiling=CEILING)
        recipe = Recipe(until=until, batch=batch, optimizer="adamw", lr=lr, weight_decay=decay, warmup=0.1, checks=1)
        runs = [search.accuracy(labels, seed, chosen.student, recipe) for seed in range(chosen.seeds)]
        shares, steps, seconds = zip(*runs, strict=True)
        each = ", ".join(f"{100 * share:.1f}" for share in shares)
        logistic = statistics.mean(search.logistic(labels, seed) for seed in range(chosen.seeds))
        mean, took, spent = (statistics.mean(column) for column in (shares, steps, seconds))
        about = f"{chosen.data} | {chosen.student} | {labels:,} | {lr:g} | {decay:g} | {batch} | {floor}"
        print(f"| {about} | {each} | {100 * mean:.1f} | {took:.0f} | {spent:.1f} | {100 * logistic:.1f} |", flush=True)


if __name__ == "__main__":
    main()
