"""Many small photographs: how fast they become a store, how much memory that takes, and how soon a run starts.

    python benchmarks/photos_scale.py make FOLDER 200000    # synthetic JPEGs of 160 × 120 pixels, of some 4 KB
    python benchmarks/photos_scale.py run FOLDER packed     # or decoded: a first start, a second, a run, and its resume
    python benchmarks/photos_scale.py run FOLDER packed 0.1 # with a tenth of the training images, for the slope

Nineteen of twenty images are for training. Stores and runs are written below FOLDER.store and may be removed. Seconds
of the CPU are those of all threads: on a busy machine they say more than those of the clock.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, AT_ONCE, STORE = 20, 1000, "outputs/store"
LIMIT = {"packed": 0, "decoded": 1000}
"""data.decoded_gb of each kind of store."""


def make(folder: Path, images: int) -> None:
    for split in ("train", "test"):
        for label in range(CLASSES):
            (folder / split / f"class{label:02}").mkdir(parents=True, exist_ok=True)
    with Pool() as pool:
        for _ in pool.imap_unordered(_some, [(folder, n, images) for n in range(0, images, AT_ONCE)]):
            pass


def _some(job: tuple[Path, int, int]) -> None:
    """Smooth pictures with some grain, each of its own; which class it is shows in one channel."""
    folder, start, images = job
    for number in range(start, min(start + AT_ONCE, images)):
        rng, label = np.random.default_rng(number), number % CLASSES
        coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        coarse[:, :, label % 3] = coarse[:, :, label % 3] // 2 + 6 * label
        image = np.asarray(Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC))
        grain = rng.integers(0, 12, (120, 160, 1), np.uint8)
        split = "test" if number // CLASSES % 20 == 19 else "train"
        path = folder / split / f"class{label:02}" / f"{number:07}.jpg"
        Image.fromarray(np.minimum(image, 243) + grain).save(path, quality=85)


def run(folder: Path, kind: str, share: float) -> None:
    """Each start in a process of its own, whose memory is its own as well."""
    work = folder.with_name(f"{folder.name}.store")
    work.mkdir(exist_ok=True)
    root = folder if share == 1 else _part(folder, work / f"part{share:g}", share)
    for what in ("first start", "second start"):
        subprocess.run([sys.executable, __file__, "load", str(root), kind, what], cwd=work, check=True)
    words = ["data=photos", f"data.root={root}", "data.size=64", f"data.decoded_gb={LIMIT[kind]}"]
    words += ["teacher=none", "loss=none", "sampler=random", "student=small_cnn", "student.width=8", "baselines=[]"]
    words += ["budget.initial=200", "budget.query=200", "recipe.steps=100", "data.split.validation=200"]
    one, two = (
        _al_loop(words, work / f"{kind}{share:g}_{name}", work, rounds) for name, rounds in (("a", 2), ("b", 1))
    )
    same = [(path / "curve.csv").read_bytes() for path in (one, two)]
    print(f"{kind}: the resumed run has the same curve: {same[0] == same[1]}")


def _part(folder: Path, to: Path, share: float) -> Path:
    """The same folders with links to a part of the training images, hard ones."""
    for place in folder.glob("*/*"):
        new = to / place.relative_to(folder)
        new.mkdir(parents=True, exist_ok=True)
        files = sorted(place.iterdir())
        for file in files[: round(share * len(files))]:
            if not (new / file.name).exists():
                os.link(file, new / file.name)
    return to


def _al_loop(words: list[str], home: Path, work: Path, stop: int) -> Path:
    """A run of two rounds; with `stop` 1 it is killed after its first, and resumed."""
    command, before = [sys.executable, "-m", "kdal_cli", "al-loop"], _children()
    fresh = [*command, *words, f"hydra.run.dir={home}", "budget.rounds=2"]
    process = subprocess.Popen(fresh, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if stop == 1 and line.startswith("round 0: 200 labels, test"):
            process.kill()
    if process.wait() and stop != 1:
        sys.exit(f"the run failed: {home}")
    print(f"  a run{', killed after its first round' * (stop == 1)}: {_children() - before:.1f} s of the CPU")
    if stop == 1:
        before = _children()
        subprocess.run([*command, f"resume={home}"], cwd=work, check=True, stdout=subprocess.DEVNULL)
        print(f"  resumed to its end: {_children() - before:.1f} s of the CPU")
    return home


def _children() -> float:
    """Seconds of the CPU of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def load(root: Path, kind: str, what: str) -> None:
    """Open the images as a run does, and say what that took."""
    from kdal_cli.data.photos import photos
    from kdal_cli.lab.lab import fingerprint
    from kdal_cli.types import Unwatched

    base, started, before = _memory(), time.time(), time.process_time()
    data = photos(Unwatched(), root=root, size=64, store=STORE, decoded_gb=LIMIT[kind])
    opened, spent = time.time() - started, time.process_time() - before
    fingerprint(data)
    total, more = len(data.train) + len(data.test), time.process_time() - before - spent
    size = sum(path.stat().st_size for path in Path(STORE).rglob("*") if path.is_file())
    figures = {"images": total, "s": opened, "cpu_s": spent, "images/s": total / opened, "images/cpu_s": total / spent}
    figures |= {"fingerprint_cpu_s": more, "MB at the peak": _memory() - base, "GB of stores": size / 1e9}
    print(f"{kind}, {what}: {json.dumps({name: round(value, 2) for name, value in figures.items()})}", flush=True)


def _memory() -> float:
    """MB that this process had at its peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["make", "run", "load"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("rest", nargs="+")
    asked = parser.parse_args()
    folder, first, *more = asked.folder.resolve(), *asked.rest
    if asked.command == "make":
        make(folder, int(first))
    elif asked.command == "run":
        run(folder, first, float(more[0]) if more else 1.0)
    else:
        load(folder, first, *more)


if __name__ == "__main__":
    main()
