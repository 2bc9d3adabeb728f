"""What distilling costs, beside RepDistiller: 0.1 · CE + 0.9 · KD at T = 4, batch 64, crops and flips of CIFAR-10.

    python benchmarks/distill_train.py --peers FOLDER --data cifar10.npz [--quick] [--turns 3]

FOLDER holds the clone RepDistiller (HobbitLong/RepDistiller). What is called of it, as train_student.py does for
`--distill kd -r 0.1 -a 0.9 -b 0`: helper.loops.train_distill for an epoch, dataset.cifar100.get_cifar100_dataloaders,
distiller_zoo.DistillKL, models.resnet8x4 and resnet32x4; 8 workers, SGD at 0.05, everything in fp32. Its small_cnn and
resnet18 are our bodies, as it has neither. Changed at run time: the data set gets arrays instead of a download, and the
folder for downloads is not made. It normalises by the statistics of CIFAR-100, as always. Ours are `fit` with
conf/loss/kd.yaml and the same weights to begin with, in bf16 where the CPU has it and it is faster. Teachers know
nothing yet, which changes no cost; that the losses fall from turn to turn shows that students learn.

Ours is measured three times: with the teacher asked at each step, with an empty table of its answers, which is filled
on the way, and again on the same views of the same images, when every answer lies in the table. In a long training both
happen; the lines below the table say what share of a first training is which, and the ratio to RepDistiller's that is
left of it. Its own number of workers and none are measured; the faster one counts, in bold. Sides take turns with all
cores each, after a turn that does not count. A turn is an epoch of 48 steps, at whose end ours measures the gradients
of both parts of the loss: a thirtieth of it, and next to nothing of a training. The 7 steps of a quick turn are too few
to say much: besides, ours then measures the running statistics of batch-norm, which arrive by themselves in 44 steps,
and answers are computed 250 at a time.
"""

import statistics
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from loop_peers import AUGMENT, rows_of_pixels, theirs
from omegaconf import OmegaConf
from torch import Tensor, nn
from turns import Cost, cifar10, head, interleaved, measured, options, tell

from kdal_cli.compose.loss import plan_loss
from kdal_cli.dataset import ImageData, Shape
from kdal_cli.devices.engine import Engine
from kdal_cli.images.augment import Resident
from kdal_cli.models.resnet import resnet
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.models.torchvision import torchvision
from kdal_cli.network import Network, freeze
from kdal_cli.streams import Streams
from kdal_cli.training.answers import FILL, CachedTeacher, LiveTeacher, Table, Teacher
from kdal_cli.training.fit import fit
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples, Unwatched

LOSS = Path(__file__).parents[1] / "conf" / "loss" / "kd.yaml"
BATCH, STEPS = 64, 48
TRAININGS = ((240, AUGMENT.count), (10, AUGMENT.count), (10, 16), (10, 8), (10, 4))
"""Epochs, and how many views an image has (data.augment.views)."""

RECIPE = {"lr": 0.05, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4, "schedule": "constant"}
WIDE = (32, 64, 128, 256)
OURS = "kdal, warm cache"

Body = Callable[[Shape], nn.Module]


@dataclass(frozen=True)
class Pair:
    """Student and teacher as we build them; `known`: whether RepDistiller has nets of these names."""

    student: tuple[str, Body]
    teacher: tuple[str, Body]
    known: bool

    def __str__(self) -> str:
        return f"{self.student[0]} <- {self.teacher[0]}"


PAIRS = (
    Pair(
        ("resnet8x4", partial(resnet, depth=8, widths=WIDE)),
        ("resnet32x4", partial(resnet, depth=32, widths=WIDE)),
        known=True,
    ),
    Pair(("small_cnn", small_cnn), ("resnet18", partial(torchvision, arch="resnet18")), known=False),
)


class Logits(nn.Module):
    """A body of ours as RepDistiller's loop asks it: (features of the stages, which kd does not use, logits)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor, is_feat: bool = False, preact: bool = False) -> tuple[list[Tensor], Tensor]:
        return [], self.body(images)


class RepDistiller:
    """A training by its own loop, an epoch a turn."""

    def __init__(
        self, folder: Path, data: ImageData, pair: Pair, bodies: Mapping[str, nn.Module], workers: int
    ) -> None:
        home = folder / "RepDistiller"
        student, teacher = (self.net(home, name, bodies[name], pair.known) for name, _ in (pair.student, pair.teacher))
        loaders = theirs(home, "dataset.cifar100")
        loaders.get_data_folder = lambda: ""
        loaders.datasets.CIFAR100.__init__ = lambda dataset, **how: hold(dataset, data, **how)
        self.loader, *_ = loaders.get_cifar100_dataloaders(batch_size=BATCH, num_workers=workers, is_instance=True)
        kl = theirs(home, "distiller_zoo").DistillKL(4)
        self.train = partial(
            theirs(home, "helper.loops").train_distill,
            train_loader=self.loader,
            module_list=nn.ModuleList([student, teacher]),
            criterion_list=nn.ModuleList([nn.CrossEntropyLoss(), kl, kl]),
            optimizer=torch.optim.SGD(student.parameters(), 0.05, momentum=0.9, weight_decay=5e-4),
            opt=SimpleNamespace(distill="kd", gamma=0.1, alpha=0.9, beta=0, print_freq=100),
        )

    def net(self, home: Path, name: str, body: nn.Module, known: bool) -> nn.Module:
        if not known:
            return Logits(deepcopy(body))
        net = theirs(home, "models").model_dict[name](num_classes=10)
        net.load_state_dict(body.state_dict())
        return net

    def turn(self, turn: int) -> Cost:
        cost = measured(lambda: self.train(turn))
        return Cost(cost.wall, cost.cpu, cost.shown[1])


def hold(dataset: Any, data: ImageData, *, train: bool, transform: Any, **download: Any) -> None:
    """Instead of the constructor of a torchvision data set: arrays that are there already."""
    images = data.train if train else data.test
    dataset.data, dataset.targets = rows_of_pixels(images), images.labels.all().tolist()
    dataset.transform, dataset.target_transform = transform, None


class Kdal:
    """A training by `fit`, an epoch a turn."""

    def __init__(
        self, data: ImageData, student: Network, teacher: Network, asked: Teacher, images: Resident, engine: Engine
    ) -> None:
        examples = Examples(torch.arange(len(data.train)), data.train.labels.all())
        section: Any = OmegaConf.to_container(OmegaConf.load(LOSS))
        section.pop("defaults")  # what it shares with others is what the code has by default
        objective = plan_loss(section, [], data.shape)(student, teacher, examples)
        recipe = Recipe(epochs=1, batch=BATCH, pool_batch=0, checks=1, **RECIPE)
        self.given, self.asked = (student, images, examples, objective, recipe, engine), asked

    def turn(self, turn: int) -> Cost:
        streams = Streams(0).under("turn", turn)
        cost = measured(lambda: fit(*self.given, streams, Unwatched(), teacher=self.asked))
        return Cost(cost.wall, cost.cpu, sum(cost.shown.losses.values()))


def ours(data: ImageData, pair: Pair, bodies: Mapping[str, nn.Module]) -> dict[str, Kdal]:
    """Three trainings, of which the last two share a table."""
    engine = Engine.start("cpu")

    def network(name: str) -> Network:
        network = Network(deepcopy(bodies[name]), data.mean, data.std)
        engine.place(network)
        return network

    teacher, images = freeze(network(pair.teacher[0])), Resident(data.train.pixels, AUGMENT)
    live = LiveTeacher(teacher, engine, engine.precision("auto", teacher, data.train.pixels[:FILL]))
    table = Table(len(data.train) * AUGMENT.count, len(data.classes))
    cached = CachedTeacher(live, images, table)
    asked = {"kdal, live teacher": live, "kdal, empty cache": cached, OURS: cached}
    return {who: Kdal(data, network(pair.student[0]), teacher, way, images, engine) for who, way in asked.items()}


def first_training(costs: Mapping[str, list[Cost]], epochs: int, views: int) -> str:
    """What is left of the ratio where a table begins empty: after E epochs V(1 − (1 − 1/V)^E) of V views were seen."""
    new = views * (1 - (1 - 1 / views) ** epochs) / epochs
    wall = {who: statistics.median(cost.wall for cost in each) for who, each in costs.items()}
    ours = new * wall["kdal, empty cache"] + (1 - new) * wall[OURS]
    ratio = min(wall[who] for who in wall if who.startswith("RepDistiller")) / ours
    return f"a first training of {epochs} epochs over {views} views asks about {new:.0%} of what it sees: {ratio:.2f}"


def main() -> None:
    chosen = options(__doc__, peers=True).parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.simplefilter("ignore")
    head("loss by turn")
    long = []
    for pair in PAIRS:
        steps, turns, uncounted = (7, 1, 0) if chosen.quick else (STEPS, chosen.turns, 1)
        data = cifar10(chosen.data, steps * BATCH, BATCH)
        torch.manual_seed(0)
        bodies = {name: make(data.shape) for name, make in (pair.student, pair.teacher)}
        sides: dict[str, Any] = dict(ours(data, pair, bodies))
        sides |= {f"RepDistiller, {n} workers": RepDistiller(chosen.peers, data, pair, bodies, n) for n in (8, 0)}
        costs = interleaved({who: side.turn for who, side in sides.items()}, range(uncounted + turns))
        losses = {who: ", ".join(f"{cost.shown:.3g}" for cost in each) for who, each in costs.items()}
        counted = {
            who: [Cost(cost.wall, cost.cpu, losses[who]) for cost in each[uncounted:]] for who, each in costs.items()
        }
        tell(f"{pair}, {steps} steps", counted, lambda told: told[0], OURS)
        long += [f"{pair}: {first_training(counted, *training)}" for training in TRAININGS]
    print("", *long, sep="\n")


if __name__ == "__main__":
    main()
