"""What it costs that nothing is lost: fsync, hashes and logs, as a share of a run. The aim is 2 %.

    python benchmarks/durability.py [--quick] [--turns 3]

`kdal al-loop` on the digits, labels alone, in this process: the seconds spent in os.fsync, in hashing, in writing files
whole, and in the two logs, each counted by the function that does it, whichever calls it, and never twice.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from turns import Cost, head, interleaved, measured, options, tell

import kdal_cli.labels.ledger
import kdal_cli.records.checkpoint
import kdal_cli.records.curve
import kdal_cli.records.files
import kdal_cli.records.run
import kdal_cli.records.snapshots
from kdal_cli.cli.main import main as kdal
from kdal_cli.lab import lab

RUN = ["kdal", "al-loop", "loss=none", "teacher=none", "budget.rounds=4", "threads=1"]


class Stopwatch:
    """Seconds within the functions it is put around; one within another counts once."""

    def __init__(self) -> None:
        self.seconds, self.depth = 0.0, 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **more: Any) -> Any:
            self.depth += 1
            started = time.perf_counter()
            try:
                return function(*args, **more)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.seconds += time.perf_counter() - started

        return timed


PLACES = [
    (kdal_cli.records.files.os, "fsync"),
    (kdal_cli.records.files, "write_bytes"),
    (kdal_cli.records.curve, "write_bytes"),
    (kdal_cli.records.run, "write_bytes"),
    (kdal_cli.records.snapshots, "write_bytes"),
    (kdal_cli.records.checkpoint, "write"),
    (kdal_cli.labels.ledger.Ledger, "_append"),
    (kdal_cli.records.run.Log, "figures"),
    (kdal_cli.records.run.Log, "say"),
    (kdal_cli.records.snapshots.Snapshots, "offer"),
    (lab, "fingerprint"),
]


def run(words: list[str], seed: int) -> tuple[float, float]:
    """(seconds of a run, those that durability took)."""
    watch = Stopwatch()
    started = time.perf_counter()
    patches = [patch.object(owner, name, watch.around(getattr(owner, name))) for owner, name in PLACES]
    with patch.object(sys, "argv", [*words, f"seed={seed}"]):
        for each in patches:
            each.start()
        try:
            kdal()
        except SystemExit as ended:
            if ended.code:
                raise
        finally:
            for each in patches:
                each.stop()
    return time.perf_counter() - started, watch.seconds


def main() -> None:
    chosen = options(__doc__).parse_args()
    words, turns = [*RUN, f"recipe.steps={60 if chosen.quick else 300}"], 1 if chosen.quick else chosen.turns
    with tempfile.TemporaryDirectory() as folder:
        words.append(f"hydra.run.dir={folder}/${{now:%H-%M-%S-%f}}")
        whole = interleaved({"run": lambda turn: measured(lambda: run(words, turn))}, range(turns + 1))["run"][1:]
    head()
    costs = {"the run": [Cost(c.shown[0], c.cpu) for c in whole], "durability": [Cost(c.shown[1], 0) for c in whole]}
    tell("al-loop, 5 rounds", costs, ours="the run")


if __name__ == "__main__":
    main()
