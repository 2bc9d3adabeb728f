"""What a step without labels costs, beside a step of plain training: the same network, images and size of a batch.

    python benchmarks/two_views.py [--data fashion_mnist --root DATA] [--batch 128] [--turns 3]

Processor seconds of a step are those of a run of 150 steps less those of a run of 50, so that neither start nor end
counts; sides take turns, and a ratio is the median of the ratios turn by turn.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

KDAL = str(Path(sys.executable).with_name("kdal"))
PLAIN = ("distill", "teacher=none", "loss=none", "labels=1000", "recipe=equal_steps")
SIDES = {
    "plain, crops": (*PLAIN, "data.augment.kind=crop_flip"),
    "plain, photo views": (*PLAIN, "data.augment.kind=photo"),
    **{name: ("pretrain", f"method={name}") for name in ("simclr", "byol", "barlow_twins", "vicreg")},
    "fixmatch": ("distill", "teacher=none", "loss=fixmatch", "labels=100"),
}
FEW, MANY = 50, 150
SPENT = (
    "import json, resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(json.dumps(used.ru_utime + used.ru_stime))"
)


def seconds(words: list[str], steps: int) -> float:
    """Of the processor, of a run of so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        length = [f"recipe.steps={steps}"]
        command = [sys.executable, "-c", SPENT, KDAL, *words, *length, "threads=1", f"hydra.run.dir={folder}/run"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--root", default="data")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args()
    shared = [f"data={chosen.data}", "student.width=16", f"recipe.batch={chosen.batch}"]
    shared += [] if chosen.data == "digits" else [f"data.root={chosen.root}"]
    turns = []
    for _ in range(chosen.turns):
        costs = {}
        for side, words in SIDES.items():
            less, more = (seconds([*words, *shared], steps) for steps in (FEW, MANY))
            costs[side] = 1000 * (more - less) / (MANY - FEW)
        turns.append(costs)
    print("| step | CPU ms | times plain, photo views |\n|---|---|---|")
    for side in SIDES:
        ratio = statistics.median(turn[side] / turn["plain, photo views"] for turn in turns)
        print(f"| {side} | {statistics.median(turn[side] for turn in turns):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
