"""What an experiment costs, beside deepALplus: four rounds with BADGE, from 100 labels to 400, and how good they get.

    python benchmarks/experiment.py --peers FOLDER --data cifar10.npz [--quick] [--turns 3]

deepALplus runs as it stands, as its demo.py does; loop_peers.py says what is called and where FOLDER has it. A turn is
an experiment with a seed of its own: a small CNN is trained anew on 100, 200, 300 and 400 images out of 10,000 of
CIFAR-10, measured on 2,000 after each, and asks for 100 in between. Seconds are those of everything, from the arrays to
the last accuracy.

Both sides have the same seed set, net, initial weights by distribution, batches of 50 without a ragged one, Adam at
0.001 for 30 epochs (as AdamW without decay, which is the same), crops and flips. They differ where their code does:
deepALplus looks at the pool through random crops, ours at the images as they are; and ours trains in bf16 where the CPU
has it. Sides take turns with all cores each. Of its loaders, four workers and none, the faster counts, in bold.
Accuracies are means and standard deviations of the seeds.
"""

import statistics
import warnings
from collections.abc import Callable
from functools import partial

import torch
from loop_peers import DeepALplus, Side, Task
from round import Kdal
from turns import OURS, Cost, cifar10, head, interleaved, measured, options, tell

from kdal_cli.dataset import ImageData
from kdal_cli.devices.engine import Engine

LABELS, ROUNDS, BATCH = 100, 4, 50


def experiment(make: Callable[[], Side]) -> list[float]:
    """The accuracy after each round."""
    side = make()
    side.train()
    accuracies = [side.accuracy()]
    for _ in range(1, ROUNDS):
        side.buy()
        side.train()
        accuracies.append(side.accuracy())
    return accuracies


def task(data: ImageData, epochs: int, seed: int) -> Task:
    rng = torch.Generator().manual_seed(seed)
    seed_set = torch.randperm(len(data.train), generator=rng)[:LABELS]
    return Task(data, seed_set, epochs, BATCH, LABELS, "badge", seed)


def curve(runs: list[list[float]]) -> str:
    """Accuracies of each round over the seeds."""
    rounds = list(zip(*runs, strict=True))
    spread = [statistics.stdev(each) if len(runs) > 1 else 0.0 for each in rounds]
    return ", ".join(f"{statistics.mean(each):.1%} ± {s:.1%}" for each, s in zip(rounds, spread, strict=True))


def main() -> None:
    chosen = options(__doc__, peers=True).parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.simplefilter("ignore")
    pool, epochs, turns = (1_000, 5, 1) if chosen.quick else (10_000, 30, chosen.turns)
    data, little = cifar10(chosen.data, pool, pool // 5), cifar10(chosen.data, 2 * ROUNDS * LABELS, LABELS)

    def ours(data: ImageData, epochs: int, seed: int) -> Cost:
        return measured(
            partial(experiment, lambda: Kdal(task(data, epochs, seed), DeepALplus.recipe, Engine.start("cpu")))
        )

    def theirs(workers: int, data: ImageData, epochs: int, seed: int) -> Cost:
        return measured(partial(experiment, lambda: DeepALplus(task(data, epochs, seed), chosen.peers, workers)))

    ours(little, 1, 0)  # imports, and whatever else is done once
    theirs(0, little, 1, 0)
    sides: dict[str, Callable[[int], Cost]] = {OURS: partial(ours, data, epochs)}
    sides |= {f"deepALplus, {n} workers": partial(theirs, n, data, epochs) for n in (4, 0)}
    head(f"accuracy after {', '.join(str(LABELS * round) for round in range(1, ROUNDS + 1))} labels")
    tell(f"{ROUNDS} rounds of BADGE", interleaved(sides, range(turns)), curve)


if __name__ == "__main__":
    main()
