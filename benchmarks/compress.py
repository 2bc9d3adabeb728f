"""What a teacher is worth when a student is compressed: 8 bits and pruning, each with labels alone and with the student
as it was before.

    python benchmarks/compress.py FOLDER [--root data] [--seeds 5] [--labels 500]

Fashion-MNIST, 8,000 images in the pool, a small CNN. Runs lie in FOLDER, and those that are done are not done again.
Prints a table in Markdown: test accuracy of the int8 file that `kdal export` writes, or of the pruned student.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

KDAL = Path(sys.executable).with_name("kdal")
PRUNE = ("method=prune", "method.ratio=0.75")
CASES = {
    "PTQ": (),
    "QAT": ("method=qat", "loss=none"),
    "QAT+KD": ("method=qat", "loss=kd"),
    "prune": (*PRUNE, "loss=none"),
    "prune+KD": (*PRUNE, "loss=kd"),
}
"""Words of `kdal compress`; without any, the student is exported as it is."""

STEPS = ("recipe.steps=200", "threads=1")


def student(folder: Path, root: str, labels: int, seed: int) -> Path:
    """A student of labels alone."""
    data = ("data=fashion_mnist", f"data.root={root}", "data.split.pool=8000", f"labels={labels}", f"seed={seed}")
    words = ("student=small_cnn", "student.width=16", "teacher=none", "loss=none", *data, "recipe.steps=400")
    return done(folder / f"student_{seed}", "distill", *words, "threads=1")


def done(run: Path, *words: str) -> Path:
    """The folder of a run, which is made where it is missing."""
    if not (run / "result.json").exists():
        command = [KDAL, *words, f"hydra.run.dir={run}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return run


def accuracy_of_int8(run: Path) -> float:
    """Of the test set, by the file."""
    path = run / "export" / "export.json"
    if not path.exists():
        words = ["export", str(run), "format=int8", "threads=1", "max_drop=1"]
        subprocess.run([KDAL, *words], check=True, stdout=subprocess.DEVNULL)
    return read(path)["files"][-1]["test_accuracy"]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def of_seed(folder: Path, root: str, labels: int, seed: int) -> dict[str, float]:
    """{case: test accuracy} of one seed, and that of the student itself."""
    before = student(folder, root, labels, seed)
    found = {"student": read(before / "result.json")["student"]["accuracy"]}
    for case, words in CASES.items():
        run = before
        if words:
            run = done(folder / f"{case}_{seed}", "compress", str(before), *words, *STEPS, f"seed={seed}")
        pruned = case.startswith("prune")
        found[case] = read(run / "result.json")["student"]["accuracy"] if pruned else accuracy_of_int8(run)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--root", default="data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=500)
    asked = parser.parse_args()
    names = ["student", *CASES]
    print(f"| seed | {' | '.join(names)} |\n{'|---' * (len(names) + 1)}|", flush=True)
    rows = []
    for seed in range(asked.seeds):
        rows.append(of_seed(asked.folder.resolve(), asked.root, asked.labels, seed))
        print(f"| {seed} | {' | '.join(f'{100 * rows[-1][name]:.2f}' for name in names)} |", flush=True)
    means = [statistics.mean(100 * (row[name] - row["student"]) for row in rows) for name in names]
    print(f"| mean − student | {' | '.join(f'{mean:+.2f}' for mean in means)} |")


if __name__ == "__main__":
    main()
