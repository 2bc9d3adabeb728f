"""What a pool of N images costs: a run that looks at all of them, chooses, and writes, and the same run begun again.

    python benchmarks/scale.py [--sizes 10000 100000 1000000] [--samplers margin coreset] [--folder FOLDER]

Images are 32 × 32 in colour, classes are noise around a mean colour, in an archive that `data=npz` maps; one is written
for each size and removed again. A run buys 100 labels, trains for 20 steps, looks at the pool and buys 100 more.
Seconds are those of the processor, with one thread (of looking and choosing, on the clock); memory is the most that the
process held, mapped images included where the system keeps them.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

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
    "write s",
    "run CPU s",
    "look s",
    "select s",
    "peak MB",
    "again CPU s",
    "again MB",
    "µs an image",
)


def archive(path: Path, images: int) -> float:
    """Write the images, block by block, and say in how many seconds."""
    rng, started = np.random.default_rng(0), time.perf_counter()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as file:
        for part, count in (("train", images), ("test", TEST)):
            labels = rng.integers(CLASSES, size=count)
            with file.open(f"x_{part}.npy", mode="w", force_zip64=True) as array:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, 32, 32)}
                np.lib.format.write_array_header_2_0(array, header)
                for some in np.array_split(labels, -(-count // BLOCK)):
                    noise = rng.integers(0, 128, size=(len(some), 3, 32, 32), dtype=np.uint8)
                    array.write((noise + (12 * some[:, None, None, None]).astype(np.uint8)).tobytes())
            with file.open(f"y_{part}.npy", mode="w") as array:
                np.lib.format.write_array(array, labels)
    return time.perf_counter() - started


def cost(*words: str) -> tuple[float, float]:
    """(processor seconds, peak MB) of a command."""
    script = (
        "import json, resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))"
    )
    ran = subprocess.run([sys.executable, "-c", script, *words], check=True, capture_output=True, text=True)
    seconds, peak = json.loads(ran.stdout.splitlines()[-1])
    return seconds, peak


def rows(size: int, samplers: list[str], folder: Path) -> Iterator[list[str]]:
    """A row of the table for each sampler."""
    path = folder / f"images_{size}.npz"
    written = archive(path, size)
    for sampler in samplers:
        run = folder / f"run_{sampler}_{size}"
        words = [
            str(KDAL),
            "al-loop",
            "data=npz",
            f"data.path={path}",
            f"sampler={sampler}",
            *RUN,
            f"hydra.run.dir={run}",
        ]
        seconds, peak = cost(*words)
        again, held = cost(str(KDAL), "al-loop", f"resume={run}")
        with (run / "timings.csv").open(encoding="utf-8", newline="") as lines:
            rounds = list(csv.DictReader(lines))
        look, select = (sum(float(row[part]) for row in rounds) for part in ("score_s", "select_s"))
        figures = (written, seconds, look, select, peak, again, held, 1e6 * seconds / size)
        yield [sampler, f"{size:,}", *(f"{figure:,.3g}" if figure < 1000 else f"{figure:,.0f}" for figure in figures)]
        shutil.rmtree(run)
    path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--samplers", nargs="+", default=["margin", "coreset"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    chosen = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        for size in chosen.sizes:
            for row in rows(size, chosen.samplers, Path(folder)):
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
