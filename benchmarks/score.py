"""What looking at a pool costs: `predict`, beside the loop that everybody writes, contiguous fp32 in batches of 1,000.

    python benchmarks/score.py [--quick] [--turns 5] [--threads 1]

Both give logits and features. Each measurement is a process of its own, because what a run tells the C library about
memory would help the loop too; its first pass does not count. A second table says whether a forward pass in bf16
changes what is chosen: the share of picks of some samplers that a student, trained for a few steps, makes in fp32 and
in bf16 alike, the same picks of the same pool being 100 %. It is why looking is in fp32 on every processor.
"""

import json
import statistics
import subprocess
import sys
import time
from functools import partial

import torch
from turns import OURS, Cost, head, interleaved, options, repeated, tell

from kdal_cli.compose.parts import sampler
from kdal_cli.data.blobs import blobs
from kdal_cli.dataset import Shape
from kdal_cli.devices.engine import Engine
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.predict import BATCH, predict
from kdal_cli.inference.scorers import Seer
from kdal_cli.models.resnet import resnet
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.network import Network
from kdal_cli.streams import Streams
from kdal_cli.training.fit import fit
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples, Unwatched

SHAPE = Shape(3, 32, 32, 10)
BODIES = {
    "small_cnn": partial(small_cnn, SHAPE),
    "resnet8x4": partial(resnet, SHAPE, depth=8, widths=(32, 64, 128, 256)),
}
IMAGES = {"small_cnn": 6_000, "resnet8x4": 1_500}
LOOP, BATCHES = 1000, (125, 250, 500, 1000)
SAMPLERS = ("entropy", "margin", "least_confidence", "badge", "coreset", "typiclust")


def once(body: str, images: int, threads: int, batch: int, *, loop: bool) -> None:
    """Print the seconds of a pass over so many images."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = Network(BODIES[body](), (0.5,) * 3, (0.25,) * 3).eval()
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8)

    def the_loop() -> None:
        with torch.no_grad():
            for part in pixels.split(batch):
                network.body((part.float() - network.mean) / network.std)

    if loop:
        work = the_loop
    else:
        Engine.start("cpu", threads).place(network)
        work = partial(predict, network, Resident(pixels, Augment()), torch.arange(images), batch)
    work()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))


def measured(body: str, images: int, threads: int, batch: int, *, loop: bool) -> Cost:
    words = [body, images, threads, batch, int(loop)]
    ran = subprocess.run([sys.executable, __file__, "once", *map(str, words)], capture_output=True, check=True)
    wall, cpu = json.loads(ran.stdout)
    return Cost(wall, cpu, images / wall)


def picks(steps: int, count: int) -> None:
    """Print the share of picks that a bf16 pass leaves as they are, sampler by sampler."""
    data = blobs(Unwatched(), train=4_000, test=10, classes=10, size=16, noise=3.0)
    engine, streams, images = Engine.start("cpu"), Streams(0), Resident(data.train.pixels, Augment())
    with streams.applied("weights"):
        network = Network(small_cnn(data.shape), data.mean, data.std)
    labelled = torch.arange(200)
    recipe = Recipe(steps=steps, batch=64, pool_batch=0, optimizer="adamw", lr=3e-3)
    fit(
        network,
        images,
        Examples(labelled, data.train.labels.all()[:200]),
        Objective(),
        recipe,
        engine,
        streams,
        Unwatched(),
    )
    pool = torch.arange(200, len(data.train))
    print("\n| sampler | picks | the same in bf16 |\n|---|---|---|")
    for name in SAMPLERS:
        chosen = []
        for precision in ("fp32", "bf16"):
            with engine.autocast(precision):
                seen = Evidence(
                    pool, labelled, data.train.labels.all()[:200], 10, Seer(network, images), known=len(data.train)
                )
                _ = seen.features, seen.labelled_features
            chosen.append(set(sampler({"name": name}, [])(seen, count, streams.at("sampler")).rows.tolist()))
        print(f"| {name} | {count} | {len(chosen[0] & chosen[1]) / count:.0%} |", flush=True)


def main() -> None:
    chosen = options(__doc__, turns=5).parse_args()
    turns = 3 if chosen.quick else chosen.turns
    head("images/s")
    for body, many in IMAGES.items():
        images = many // 3 if chosen.quick else many
        looks = partial(measured, body, images, chosen.threads)
        ways = {OURS: partial(looks, BATCH, loop=False)}
        if not chosen.quick:
            ways |= {f"{OURS}, batches of {batch}": partial(looks, batch, loop=False) for batch in BATCHES}
        ways["the loop"] = partial(looks, LOOP, loop=True)
        tell(body, interleaved(repeated(ways), range(turns)), lambda shown: f"{statistics.median(shown):,.0f}")
    if not chosen.quick:
        picks(300, 200)


if __name__ == "__main__":
    if sys.argv[1:2] == ["once"]:
        body, *rest = sys.argv[2:]
        images, threads, batch, loop = map(int, rest)
        once(body, images, threads, batch, loop=bool(loop))
    else:
        main()
