"""Two runs at once beside one of them alone: on two cores, the ideal is that each takes what it takes alone.

    python benchmarks/parallel.py [--quick] [--turns 3]

The runs differ in their seed: a small CNN on the digits, labels alone, as `kdal al-loop` in a process of its own. They
are started as two commands, with one thread each and with as many as torch takes by itself, and as one sweep of the
joblib launcher, which divides the threads. Beside each: one run alone with the same number of threads, and for the
sweep one job. The aim is 1.1.
"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from turns import Cost, head, interleaved, measured, options, repeated, tell

KDAL = str(Path(sys.executable).parent / "kdal")
RUN = ["al-loop", "loss=none", "teacher=none", "budget.rounds=2"]
JOBLIB = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def together(commands: list[list[str]], folder: Path) -> Cost:
    """Commands that are started at the same time, until the last one ends."""

    def work() -> None:
        runs = [
            subprocess.Popen([KDAL, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for words in commands
        ]
        assert all(run.wait() == 0 for run in runs)

    return measured(work)


def main() -> None:
    chosen = options(__doc__).parse_args()
    turns = 1 if chosen.quick else chosen.turns
    words = [*RUN, f"recipe.steps={60 if chosen.quick else 300}"]
    head()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {
            "one thread": [[*words, "threads=1", f"seed={seed}"] for seed in (0, 1)],
            "torch's threads": [[*words, f"seed={seed}"] for seed in (0, 1)],
        }
        together([cases["one thread"][0]], folder)
        for case, commands in cases.items():
            ways = {"one run": commands[:1], "two at once": commands}
            sides = {who: partial(together, way, folder) for who, way in ways.items()}
            tell(case, interleaved(repeated(sides), range(turns)), ours="one run")
        sweeps = {"one job": [*words, *JOBLIB, "seed=0"], "two jobs": [*words, *JOBLIB, "seed=0,1"]}
        sides = {who: partial(together, [way], folder) for who, way in sweeps.items()}
        tell("joblib", interleaved(repeated(sides), range(turns)), ours="one job")


if __name__ == "__main__":
    main()
