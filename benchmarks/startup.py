"""What `kdal` takes besides the work: for help, a typo, a configuration, a run that is done, and for the smallest run.

    python benchmarks/startup.py [--quick] [--turns 5]

Beside them, what importing torch, torchvision and hydra takes, with which a command line that imports at its top
begins. Whole processes. Between rounds: what a round takes on the clock beside teaching, training, looking, choosing
and measuring, from smoke runs of 12 rounds and of 2.
"""

import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from turns import Cost, head, interleaved, measured, options, repeated, tell

IMPORTS = "import torch, torchvision, hydra"
TINY = ["al-loop", "experiment=smoke", "loss=none", "teacher=none"]
SMOKE = ["al-loop", "experiment=smoke"]
WORK = ("teacher_s", "train_s", "score_s", "select_s", "evaluate_s")
ROUNDS = 2, 12


def spend(words: list[str], folder: Path, code: int = 0) -> Cost:
    """A whole process, with bytecode kept as an installation keeps it."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    ran = measured(lambda: subprocess.run(words, cwd=folder, env=env, capture_output=True, check=False))
    assert ran.shown.returncode == code, ran.shown.stderr.decode()
    return ran


def beside_the_work(kdal: str, rounds: int, folder: Path) -> float:
    """Seconds of a smoke run that are no work."""
    run = folder / f"rounds_{rounds}"
    wall = spend([kdal, *SMOKE, f"budget.rounds={rounds}", f"hydra.run.dir={run}"], folder).wall
    with (run / "timings.csv").open(encoding="utf-8", newline="") as lines:
        work = sum(float(row[part]) for row in csv.DictReader(lines) for part in WORK)
    shutil.rmtree(run)
    return wall - work


def between_rounds(kdal: str, folder: Path) -> float:
    few, many = (beside_the_work(kdal, rounds, folder) for rounds in ROUNDS)
    return (many - few) / (ROUNDS[1] - ROUNDS[0])


def main() -> None:
    chosen = options(__doc__, turns=5).parse_args()
    kdal = str(Path(sys.executable).parent / "kdal")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spend([kdal, *TINY, "hydra.run.dir=done"], folder)
        eager = "importing torch, torchvision, hydra"
        calls = {
            "kdal --help": [kdal, "--help"],
            "a typo: sampler=margni": [kdal, "al-loop", "sampler=margni"],
            "kdal al-loop --cfg job": [kdal, "al-loop", "--cfg", "job"],
            "a run that is done": [kdal, "al-loop", "resume=done"],
            "experiment=smoke": [kdal, *SMOKE],
            eager: [sys.executable, "-c", IMPORTS],
        }
        sides = {who: partial(spend, words, folder, 2 if "typo" in who else 0) for who, words in calls.items()}
        for side in sides.values():
            side()
        head()
        turns = 3 if chosen.quick else chosen.turns
        costs = interleaved(repeated(sides), range(turns))
        tell("a process", costs, ours=eager)
        gap = statistics.median(between_rounds(kdal, folder) for _ in range(turns))
        print(f"between rounds: {gap:.3f} s beside the work")
        slowest = statistics.median(cost.cpu for cost in costs[eager])
        for who in list(calls)[:-1]:
            own = statistics.median(cost.cpu for cost in costs[who])
            print(f"{who}: the imports take {slowest / own:.1f} times its CPU seconds")


if __name__ == "__main__":
    main()
