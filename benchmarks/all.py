"""The short form of every benchmark that needs no code of others, as one table; with --peers FOLDER those as well.

    python benchmarks/all.py [--peers FOLDER --data cifar10.npz]

Each is a process of its own, one after the other. README.md says what each one is.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ALONE = ("input", "score", "kd_overhead", "startup", "parallel", "durability")
BESIDE = ("distill_train", "round", "experiment")
HEAD = ("benchmark", "case", "side", "wall s", "CPU s", "ratio", "CPU ratio", "more")


def rows(name: str, more: list[str]) -> list[list[str]]:
    """What a benchmark measured."""
    ran = subprocess.run([sys.executable, HERE / f"{name}.py", "--quick", *more], capture_output=True, text=True)
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["no word"])[-1]
        return [[name, "failed", last, "", "", "", "", ""]]
    lines = [line.strip("| ").split(" | ") for line in ran.stdout.splitlines() if line.startswith("| ")]
    measured = [line for line in lines if line[0] != "case" and len(line) > 5]
    return [[name, *line, *[""] * (len(HEAD) - 1 - len(line))] for line in measured]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="where the code of others is")
    parser.add_argument("--data", help="CIFAR-10 as data=npz reads it")
    chosen = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}\n| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|", flush=True)
    given = [word for key in ("peers", "data") if (value := vars(chosen)[key]) for word in (f"--{key}", value)]
    for name in (*ALONE, *(BESIDE if chosen.peers else ())):
        for row in rows(name, given if name in BESIDE else []):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
