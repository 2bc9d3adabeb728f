"""What a round of active learning costs, train + look + choose, beside other projects: same net, steps and batch.

    python benchmarks/round.py --peers FOLDER --data cifar10.npz [--quick] [--turns 3]

deepALplus, DISTIL and baal run as they stand; loop_peers.py says what is called and where FOLDER has them. A measured
round begins with the arrays and the ids that are labelled and ends with those that were bought: a small CNN is trained
for 10 epochs on 1,024 images of CIFAR-10 in steps of 128, looks at 4,000 others, and 128 are chosen. Ours takes the
optimizer of the one beside it, and bf16 where the CPU has it, as `recipe.precision=auto` does; they compute in fp32.
What a run writes, ledger and reports, is no part of it.

Sides take turns in one process, with all cores each; its C library keeps freed memory, as ours tells it to, from which
theirs gain too. Seconds on the clock, and CPU seconds with those of worker processes: medians of the turns, and of the
ratios turn by turn. Of a peer's two loaders, its own number of workers and none, the faster one counts, in bold. The
accuracy on 1,000 test images is there to show that all of them learn.
"""

import statistics
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from loop_peers import AUGMENT, Baal, DeepALplus, Distil, Side, Task
from turns import OURS, Cost, cifar10, head, interleaved, measured, options, tell

from kdal_cli.compose.parts import sampler
from kdal_cli.devices.engine import Engine
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.predict import predict
from kdal_cli.inference.scorers import Seer
from kdal_cli.network import Network
from kdal_cli.streams import Streams
from kdal_cli.training.fit import fit
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples, Unwatched

PEERS: Mapping[str, tuple[type, tuple[int, ...], tuple[str, ...]]] = {
    "deepALplus": (DeepALplus, (4, 0), ("entropy", "badge")),
    "DISTIL": (Distil, (0,), ("entropy", "badge")),
    "baal": (Baal, (4, 0), ("entropy",)),
}
"""Of each: what runs it, its own number of workers and none, the samplers that it shares with ours."""

BATCH = 128


class Kdal:
    """Ours, as a round of `kdal al-loop` runs it: `fit`, `Evidence` of the student, the sampler of conf/sampler."""

    def __init__(self, task: Task, recipe: Mapping[str, Any], engine: Engine) -> None:
        data, self.task, self.ids = task.data, task, task.seed_set
        self.engine, self.streams = engine, Streams(task.seed)
        self.images = Resident(data.train.pixels, AUGMENT, self.engine.device)
        self.test = Resident(data.test.pixels, Augment(), self.engine.device)
        self.choose = sampler(task.sampler, [])
        self.recipe = Recipe(epochs=task.epochs, batch=task.batch, pool_batch=0, **recipe)

    def train(self) -> None:
        data, streams = self.task.data, self.streams.under("round", len(self.ids))
        with streams.applied("weights"):
            self.network = Network(self.task.net(), data.mean, data.std)
        self.engine.place(self.network)
        examples = Examples(self.ids, data.train.labels.all()[self.ids])
        fit(self.network, self.images, examples, Objective(), self.recipe, self.engine, streams, Unwatched())

    def buy(self) -> None:
        data, all_ids = self.task.data, torch.arange(len(self.task.data.train))
        pool = Evidence(
            ids=all_ids[~torch.isin(all_ids, self.ids)],
            labelled_ids=self.ids,
            labels=data.train.labels.all()[self.ids],
            classes=len(data.classes),
            scorer=Seer(self.network, self.images),
            known=len(all_ids),
        )
        rows = self.choose(pool, self.task.query, self.streams.at("sampler", len(self.ids))).rows
        self.ids = torch.cat([self.ids, pool.ids[rows]])

    def accuracy(self) -> float:
        truth = self.task.data.test.labels.all()
        answers = predict(self.network, self.test, torch.arange(len(truth))).logits.argmax(1)
        return float((answers == truth).float().mean())


def once(make: Callable[[], Side]) -> Cost:
    """A round, and then the accuracy of its net, which is not measured with it."""

    def work() -> Side:
        side = make()
        side.train()
        side.buy()
        return side

    cost = measured(work)
    return Cost(cost.wall, cost.cpu, measured(cost.shown.accuracy).shown)


def main() -> None:
    chosen = options(__doc__, peers=True).parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.simplefilter("ignore")
    pool, labelled, epochs, turns = (1_000, 256, 3, 1) if chosen.quick else (5_000, 1_024, 10, chosen.turns)
    data, little = cifar10(chosen.data, pool, 1_000), cifar10(chosen.data, 2 * BATCH, BATCH)
    engine = Engine.start("cpu")  # one for all turns, as a run has one for all rounds
    head("accuracy")
    for peer, (kind, workers, samplers) in PEERS.items():
        for name in samplers:
            task = Task(data, torch.arange(labelled), epochs, BATCH, BATCH, name)
            makers: dict[str, Callable[[], Side]] = {OURS: partial(Kdal, task, kind.recipe, engine)}
            makers |= {f"{peer}, {n} workers": partial(kind, task, chosen.peers, n) for n in workers}
            first = Task(little, torch.arange(BATCH), 1, BATCH, BATCH // 2, name)
            for make in (partial(Kdal, first, kind.recipe, engine), partial(kind, first, chosen.peers, 0)):
                once(make)  # imports, and whatever else is done once
            sides = {who: lambda turn, make=make: once(make) for who, make in makers.items()}
            costs = interleaved(sides, range(turns))
            tell(f"{peer} {name}", costs, lambda shown: f"{statistics.mean(shown):.1%}")


if __name__ == "__main__":
    main()
