"""What `kdal` takes before it does anything: help, a typo, a configuration, a run that is done already.

    python benchmarks/startup.py [--quick] [--turns 5]

Beside them, what importing torch, torchvision and hydra takes, with which a command line that imports at its top
begins. Whole processes; the aims are 0.3, 0.5 and 0.5 CPU seconds, and a fifth of the imports.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from turns import Cost, head, interleaved, measured, options, repeated, tell

IMPORTS = "import torch, torchvision, hydra"
TINY = ["al-loop", "experiment=smoke", "loss=none", "teacher=none"]


def spend(words: list[str], folder: Path, code: int = 0) -> Cost:
    """A whole process, with bytecode kept as an installation keeps it."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    ran = measured(lambda: subprocess.run(words, cwd=folder, env=env, capture_output=True, check=False))
    assert ran.shown.returncode == code, ran.shown.stderr.decode()
    return ran


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
            eager: [sys.executable, "-c", IMPORTS],
        }
        sides = {who: partial(spend, words, folder, 2 if "typo" in who else 0) for who, words in calls.items()}
        for side in sides.values():
            side()
        head()
        costs = interleaved(repeated(sides), range(3 if chosen.quick else chosen.turns))
        tell("a process", costs, ours=eager)
        slowest = statistics.median(cost.cpu for cost in costs[eager])
        for who in list(calls)[:-1]:
            own = statistics.median(cost.cpu for cost in costs[who])
            print(f"{who}: the imports take {slowest / own:.1f} times its CPU seconds")


if __name__ == "__main__":
    main()
