"""What distilling adds to plain training when every answer of the teacher is in its table already: the aim is 1.05.

    python benchmarks/kd_overhead.py [--quick] [--turns 7] [--threads 1]

A small CNN on noise of 3 × 32 × 32 in 10 classes, batches of 128, all of them labelled, crops and flips: cross-entropy
alone, and with KD at T = 4 beside it, whose teacher is asked at every step or looked up.
"""

from functools import partial

import torch
from torch import nn
from turns import head, interleaved, measured, options, repeated, tell

from kdal_cli.dataset import Shape
from kdal_cli.devices.engine import Engine
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.losses.kd import kd
from kdal_cli.models.resnet import resnet
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.network import Network, freeze
from kdal_cli.streams import Streams
from kdal_cli.training.answers import CachedTeacher, LiveTeacher, Table
from kdal_cli.training.fit import fit
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples, Unwatched

SHAPE, IMAGES = Shape(3, 32, 32, 10), 512
PLAIN = "labels alone"
STEPS = 50
"""In fewer, running statistics of batch-norm are measured besides."""


def main() -> None:
    chosen = options(__doc__, turns=7).parse_args()
    turns = 3 if chosen.quick else chosen.turns
    engine, rng = Engine.start("cpu", chosen.threads), torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=rng)
    images = Resident(pixels, Augment(pad=4, flip=True))
    examples = Examples(torch.arange(IMAGES), torch.randint(10, (IMAGES,), generator=rng))
    recipe = Recipe(steps=STEPS, batch=128, pool_batch=0, checks=1)

    def network(body: nn.Module) -> Network:
        made = Network(body, (0.5,) * 3, (0.25,) * 3)
        engine.place(made)
        return made

    torch.manual_seed(0)
    live = LiveTeacher(freeze(network(resnet(SHAPE, depth=20))), engine, "fp32")
    cached = CachedTeacher(live, images, Table(IMAGES * images.augment.count, 10))
    distilling = Objective(0.5, {"kd": Part(lambda *three: kd(*three, temperature=4.0), 0.5, "labelled")})

    def train(objective: Objective, teacher: LiveTeacher | CachedTeacher | None) -> None:
        student = network(small_cnn(SHAPE))
        fit(student, images, examples, objective, recipe, engine, Streams(0), Unwatched(), teacher=teacher)

    ways = {
        PLAIN: partial(train, Objective(), None),
        "kd, answers looked up": partial(train, distilling, cached),
        "kd, teacher live": partial(train, distilling, live),
    }
    for way in ways.values():
        way()
    head()
    sides = repeated({who: partial(measured, way) for who, way in ways.items()})
    tell(f"small_cnn <- resnet20, {STEPS} steps", interleaved(sides, range(turns)), ours=PLAIN)


if __name__ == "__main__":
    main()
