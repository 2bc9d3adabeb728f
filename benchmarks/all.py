"""The short form of every benchmark that needs no code of others, as one table; with --peers FOLDER those as well.

    python benchmarks/all.py [--peers FOLDER --data cifar10.npz]
    python benchmarks/all.py --against COMMIT

Each is a process of its own, one after the other. README.md says what each one is. With --against, the benchmarks of an
earlier commit take turns with these, on that commit's code in this environment: then, now, now, then. A ratio says how
many times as long it took then.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = Path(__file__).parents[1]
ALONE = ("input", "score", "kd_overhead", "startup", "parallel", "durability")
BESIDE = ("distill_train", "round", "experiment")
HEAD = ("benchmark", "case", "side", "wall s", "CPU s", "ratio", "CPU ratio", "more")
CHANGE = ("benchmark", "case", "side", "wall s then", "now", "ratio", "CPU s then", "now", "ratio")


def rows(name: str, more: list[str], home: Path = HOME) -> list[list[str]]:
    """What a benchmark measured, of the code in `home`."""
    words = [sys.executable, home / "benchmarks" / f"{name}.py", "--quick", *more]
    ran = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(home)})
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["no word"])[-1]
        return [[name, "failed", last, "", "", "", "", ""]]
    lines = [line.strip("| ").split(" | ") for line in ran.stdout.splitlines() if line.startswith("| ")]
    measured = [line for line in lines if line[0] != "case" and len(line) > 5]
    return [[name, *line, *[""] * (len(HEAD) - 1 - len(line))] for line in measured]


def changes(name: str, more: list[str], then: Path) -> Iterator[list[str]]:
    """What a benchmark measured then and now, twice each, so that a machine that slows down slows both."""
    seen: dict[Path, dict[tuple[str, str], list[list[str]]]] = {HOME: {}, then: {}}
    for home in (then, HOME, HOME, then):
        for row in rows(name, more, home):
            seen[home].setdefault((row[1], row[2]), []).append(row[3:5])
    for key in {**seen[HOME], **seen[then]}:
        cells: list[str] = []
        for which in (0, 1):
            before, after = (mean([figures[which] for figures in seen[home].get(key, [])]) for home in (then, HOME))
            cells += [before, after, f"{float(before) / float(after):.2f}" if before and after else ""]
        yield [name, *key, *cells]


def mean(cells: list[str]) -> str:
    """Of numbers; nothing where one is missing."""
    return f"{sum(map(float, cells)) / len(cells):.3g}" if cells and all(cells) else ""


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A folder with the code of a commit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "then"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", folder, commit], cwd=HOME, check=True)
        try:
            yield folder
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=HOME, check=True)


def show(cells: tuple[str, ...] | list[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="where the code of others is")
    parser.add_argument("--data", help="CIFAR-10 as data=npz reads it")
    parser.add_argument("--against", metavar="COMMIT", help="an earlier commit, to take turns with")
    chosen = parser.parse_args()
    given = [word for key in ("peers", "data") if (value := vars(chosen)[key]) for word in (f"--{key}", value)]
    more = {name: given if name in BESIDE else [] for name in (*ALONE, *(BESIDE if chosen.peers else ()))}
    head = CHANGE if chosen.against else HEAD
    print(f"{time.strftime('%Y-%m-%d')}\n| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
    if not chosen.against:
        for name, words in more.items():
            for row in rows(name, words):
                show(row)
        return
    with checkout(chosen.against) as then:
        for name, words in more.items():
            for row in changes(name, words, then):
                show(row)


if __name__ == "__main__":
    main()
