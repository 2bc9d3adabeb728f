"""What a pool of N images costs: a run that looks at all of them, chooses and writes, stopped midway and resumed.

    python benchmarks/scale.py FOLDER [--sizes 10000 100000 1000000] [--samplers random "coreset features=mapped"]
    python benchmarks/scale.py FOLDER --side 128 --sizes 20000 200000 --samplers random margin

Images are 32 × 32 in colour, or as large as is said, classes are noise around a mean colour, in an archive that
`data=npz` maps; one is written for each size and removed again. A run buys 100 labels at random and trains for 20
steps. It is killed when that round is on disk and resumed, to look at the pool, buy 100 more and train once more. CPU
seconds are of all threads, looking and choosing are on the clock, with one thread; own memory is what no file backs,
looked at ten times a second, and all memory counts the pages of mapped images that the system keeps. FOLDER/scale.csv
holds the rows, and those that it has are not measured again; FOLDER/scale.png shows them.
"""

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

KDAL = Path(sys.executable).with_name("kdal")
BLOCK, TEST, CLASSES = 10_000, 1_000, 10
RUN = (
    "teacher=none",
    "loss=none",
    "student=small_cnn",
    "student.width=16",
    "recipe=equal_steps",
    "recipe.steps=20",
    "baselines=[]",
    "budget.initial=100",
    "budget.query=100",
    "budget.rounds=1",
    "data.split.validation=500",
    "threads=1",
)


COLUMNS = (
    "sampler",
    "N",
    "start CPU s",
    "rest CPU s",
    "look s",
    "select s",
    "start own MB",
    "rest own MB",
    "all MB",
    "folder MB",
    "µs an image",
    "own KB an image",
)
"""start: from nothing until round 0 is on disk; rest: resumed, to the end."""


def archive(path: Path, images: int, side: int) -> None:
    """Write the images, block by block."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as file:
        for part, count in (("train", images), ("test", TEST)):
            labels, shape = rng.integers(CLASSES, size=count), (3, side, side)
            with file.open(f"x_{part}.npy", mode="w", force_zip64=True) as array:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
                np.lib.format.write_array_header_2_0(array, header)
                for some in np.array_split(labels, -(-count // BLOCK)):
                    noise = rng.integers(0, 128, size=(len(some), *shape), dtype=np.uint8)
                    array.write((noise + (12 * some[:, None, None, None]).astype(np.uint8)).tobytes())
            with file.open(f"y_{part}.npy", mode="w") as array:
                np.lib.format.write_array(array, labels)


def own_memory(process: int) -> float:
    """MB; 0 when it has ended."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return float(found[0].split()[1]) / 1024 if found else 0.0


def cost(*words: str, until: Path | None = None) -> tuple[float, float, float]:
    """(CPU seconds, MB of its own, MB in all) of a command, killed as soon as there are two lines in `until`."""
    process = subprocess.Popen([KDAL, "al-loop", *words], stdout=subprocess.DEVNULL)
    own = 0.0
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        own = max(own, own_memory(process.pid))
        if until is not None and until.exists() and until.read_bytes().count(b"\n") == 2:
            process.kill()
            until = None
        time.sleep(0.1)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise SystemExit(f"kdal al-loop {' '.join(words)} ended with {code}")
    return used.ru_utime + used.ru_stime, own, used.ru_maxrss / 1024


def measured(sampler: str, images: int, path: Path, run: Path) -> list[str]:
    """A row of the table."""
    shutil.rmtree(run, ignore_errors=True)
    source = "data=npz", f"data.path={path}", f"data.max_bytes={path.stat().st_size}"
    words = [*source, *f"sampler={sampler}".split(), *RUN, f"hydra.run.dir={run}"]
    start, start_own, start_all = cost(*words, until=run / "curve.csv")
    rest, rest_own, rest_all = cost(f"resume={run}")
    with (run / "timings.csv").open(encoding="utf-8", newline="") as lines:
        rounds = list(csv.DictReader(lines))
    look, select = (sum(float(row[part]) for row in rounds) for part in ("score_s", "select_s"))
    written = sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) / 1e6
    shutil.rmtree(run)
    each = 1e6 * (start + rest) / images, 1e3 * max(start_own, rest_own) / images
    figures = (start, rest, look, select, start_own, rest_own, max(start_all, rest_all), written, *each)
    return [sampler, str(images), *(f"{figure:.3g}" if figure < 1000 else f"{figure:.0f}" for figure in figures)]


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def add(path: Path, row: list[str]) -> None:
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, row] if is_new else [row])


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """CPU time and memory of an image against the size of the pool, both axes logarithmic."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, column in zip(axes, COLUMNS[-2:], strict=True):
        for sampler in dict.fromkeys(row["sampler"] for row in rows):
            points = sorted((int(row["N"]), float(row[column])) for row in rows if row["sampler"] == sampler)
            axis.loglog(*zip(*points, strict=True), marker="o", label=sampler)
        axis.set_xlabel("images of the pool")
        axis.set_ylabel(column)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--samplers", nargs="+", default=["random", "margin", "coreset"], help="and further words")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    kept = chosen.folder / "scale.csv"
    for size in chosen.sizes:
        left = [
            name
            for name in chosen.samplers
            if (name, str(size)) not in {(row["sampler"], row["N"]) for row in read(kept)}
        ]
        path = chosen.folder / f"images_{size}.npz"
        if left:
            archive(path, size, chosen.side)
        for sampler in left:
            add(kept, measured(sampler, size, path, chosen.folder / "run"))
        path.unlink(missing_ok=True)
    rows = read(kept)
    draw(rows, chosen.folder / "scale.png")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    print(*(f"| {' | '.join(row.values())} |" for row in rows), sep="\n")


if __name__ == "__main__":
    main()
