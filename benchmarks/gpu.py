"""What kdal does on one GPU, checked and measured by its own commands in about eight minutes.

    python benchmarks/gpu.py [FOLDER] [--minutes 8] [--data cifar10.npz] [--dry] [--device cuda]

Parts come one after the other; what each found is kept in FOLDER, so that a run which was stopped goes on with the part
that is missing, and FOLDER/gpu.md is written anew after each. A part that outlasts the minutes is ended. Without --data
the images are synthetic, 32 × 32 in colour: speed is the same, accuracies say nothing. --dry: every part on a few
images, to see that it runs.
"""

import argparse
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.distributed import FileStore  # pyright: ignore[reportPrivateImportUsage]

from kdal_cli.devices import collectives
from kdal_cli.devices.engine import Engine

KDAL = [sys.executable, "-m", "kdal_cli"]
STUDENTS = ("small_cnn", "resnet8x4", "resnet20", "mobilenet_v2_half", "resnet18")
BATCHES = (128, 1024)
Row = Mapping[str, str | float]


@dataclass(frozen=True)
class Bench:
    """folder: of the runs. device: cuda or cpu. dry: on a few images. data: an archive for data=npz, if any."""

    folder: Path
    device: str
    dry: bool
    data: Path | None

    def images(self, classes: int = 10) -> list[str]:
        """Words for 50,000 training images of 32 × 32."""
        if self.data and classes == 10:
            return ["data=npz", f"data.path={self.data}", "data.split.validation=1000"]
        counts = ("600", "100", "50") if self.dry else ("50000", "10000", "1000")
        sizes = (
            f"data.{key}={count}" for key, count in zip(("train", "test", "split.validation"), counts, strict=True)
        )
        return ["data=blobs", "data.size=32", "data.channels=3", f"data.classes={classes}", *sizes]

    def run(self, name: str, stage: str, *words: str) -> Path:
        """The folder of a finished run. Raises RuntimeError with its last line of complaint."""
        run = self.folder / "runs" / name
        command = [*KDAL, stage, *words, f"device={self.device}", f"teacher.store={self.folder / 'teachers'}"]
        ran = subprocess.run([*command, f"hydra.run.dir={run}"], capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError((ran.stderr.strip().splitlines() or ["no word"])[-1])
        return run

    def steps(self, full: int) -> int:
        return 2 if self.dry else full

    def found(self) -> dict[str, dict[str, Any]]:
        """{part: what it found}, of those that are done."""
        kept = {part: self.folder / f"{part}.json" for part in PARTS}
        return {part: json.loads(path.read_text(encoding="utf-8")) for part, path in kept.items() if path.exists()}


def timings(run: Path) -> list[dict[str, float]]:
    with (run / "timings.csv").open(encoding="utf-8", newline="") as lines:
        return [{key: float(cell) for key, cell in row.items() if cell} for row in csv.DictReader(lines)]


def digest(run: Path) -> str:
    """Of what a run found: its student's weights and, where it bought labels, whose."""
    found = [*sorted((run / "checkpoints").glob("*student.safetensors")), *sorted((run / "picks").glob("*.csv"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in found)).hexdigest()[:16]


def speed(run: Path) -> dict[str, float]:
    """Of the last training of a run: images/s, peak memory, and the share of the device's peak where that is known."""
    return {key: value for key, value in timings(run)[-1].items() if key in ("images_per_s", "peak_mb", "mfu")}


# Checks.


def determinism(bench: Bench) -> list[Row]:
    """The same command twice gives the same picks and the same weights."""
    runs = [bench.run(f"same_{number}", "al-loop", "experiment=smoke") for number in range(2)]
    return [{"check": "picks and weights of two runs", "equal": str(digest(runs[0]) == digest(runs[1]))}]


def answers(bench: Bench) -> list[Row]:
    """Answers of the teacher that are kept, against a teacher that is asked each time."""
    words = ("labels=200", "recipe=equal_steps", f"recipe.steps={bench.steps(200)}")
    runs = [bench.run(f"cache_{cache}", "distill", *words, f"teacher.cache={cache}") for cache in ("full", "off")]
    kept, live = (load_file(run / "checkpoints" / "student.safetensors") for run in runs)
    apart = max(float((kept[name].double() - live[name].double()).abs().max()) for name in kept)
    return [{"check": "weights by kept and by live answers", "equal": str(apart == 0), "largest difference": apart}]


def distances(bench: Bench) -> list[Row]:
    """Products that distances are made of are fp32, not TF32: relative error against float64."""
    engine = Engine.start(bench.device)
    rows = torch.randn(512, 512, generator=torch.Generator().manual_seed(0)).to(engine.device)
    exact = rows.double() @ rows.double().T
    error = float(((rows @ rows.T).double() - exact).abs().max() / exact.abs().max())
    return [{"check": "error of a product of 512 × 512", "equal": str(error < 1e-5), "relative error": error}]


def group(bench: Bench) -> list[Row]:
    """A group of one meets, averages and parts: NCCL on a GPU, gloo on a CPU."""
    engine = Engine.start(bench.device)
    store = bench.folder / "meeting"
    store.unlink(missing_ok=True)
    collectives.meet(FileStore(str(store), 1), engine.device.type, size=1, rank=0)
    values = torch.arange(4.0, device=engine.device)
    collectives.average([values], 1)
    collectives.leave()
    return [{"check": "mean over a group of one", "equal": str(values.tolist() == [0.0, 1.0, 2.0, 3.0])}]


# Measurements.


def compiled(bench: Bench) -> list[Row]:
    """A student as it is, compiled, and with CUDA graphs."""
    kinds = ("none", "default") if bench.device == "cpu" else ("none", "default", "graphs")
    return [
        {"student": "resnet20", "compile": kind, **trained(bench, "resnet20", 128, f"recipe.compile={kind}")}
        for kind in kinds
    ]


def students(bench: Bench) -> list[Row]:
    """Training speed with labels alone."""
    return [{"student": name, "batch": batch, **trained(bench, name, batch)} for name in STUDENTS for batch in BATCHES]


def trained(bench: Bench, student: str, batch: int, *more: str) -> dict[str, float]:
    name = "_".join((student, str(batch), *(word.split("=")[-1] for word in more)))
    words = (f"student={student}", "teacher=none", "loss=none", "recipe=equal_steps", f"recipe.batch={batch}", *more)
    length = f"recipe.steps={bench.steps(300)}"
    return speed(bench.run(name, "distill", *bench.images(), *words, length))


def pair(bench: Bench) -> list[Row]:
    """ResNet-56 teaches ResNet-20 for 20 epochs of 50,000 images, as the CRD benchmark does for 240."""
    epochs = 1 if bench.dry else 20
    words = (
        "experiment=crd_resnet56_resnet20",
        f"recipe.epochs={epochs}",
        f"teacher.recipe.epochs={1 if bench.dry else 2}",
    )
    run = bench.run("crd", "distill", *bench.images(100), *words, "data.augment.pad=4", "data.augment.flip=true")
    return [{"pair": "resnet56 → resnet20", "epochs": epochs, "train_s": timings(run)[-1]["train_s"], **speed(run)}]


def study(bench: Bench) -> list[Row]:
    """Ten rounds of BADGE among 50,000 images: seconds of each part of a round, the median of all but the first."""
    rounds, query = (1, 20) if bench.dry else (9, 1000)
    budget = (f"budget.initial={query}", f"budget.query={query}", f"budget.rounds={rounds}", "sampler=badge")
    words = ("student=resnet8x4", "teacher=none", "loss=none", "recipe=equal_steps", f"recipe.steps={bench.steps(500)}")
    started = time.perf_counter()
    run = bench.run("study", "al-loop", *bench.images(), *words, *budget, "baselines=[]")
    whole = time.perf_counter() - started
    rows = timings(run)[1:]
    parts = ("train_s", "score_s", "select_s", "evaluate_s", "report_s")
    return [
        {
            "rounds": rounds + 1,
            "whole_s": whole,
            **{part: sorted(row[part] for row in rows)[len(rows) // 2] for part in parts},
        }
    ]


PARTS: Mapping[str, Callable[[Bench], list[Row]]] = {
    part.__name__: part for part in (determinism, answers, distances, group, students, compiled, pair, study)
}


def about(device: str) -> dict[str, str]:
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {"date": time.strftime("%Y-%m-%d"), "device": name, "torch": torch.__version__}


def tried(part: str, bench: Bench) -> dict[str, Any]:
    """What a part found, or what it failed with, and its seconds."""
    started = time.perf_counter()
    try:
        found = {"rows": PARTS[part](bench)}
    except (RuntimeError, OSError, KeyError) as error:
        found = {"failed": str(error)}
    return {**about(bench.device), **found, "seconds": time.perf_counter() - started}


def page(found: Mapping[str, dict[str, Any]]) -> str:
    """What all parts found, as Markdown."""
    lines = ["# One GPU", "", "`python benchmarks/gpu.py`"]
    for part, result in found.items():
        told = f"{result['date']}, {result['device']}, torch {result['torch']}, {result['seconds']:.0f} s"
        lines += ["", f"## {part}", "", (PARTS[part].__doc__ or "").strip(), "", told, ""]
        lines += table(result["rows"]) if "rows" in result else [f"Failed: {result['failed']}"]
    missing = [part for part in PARTS if part not in found]
    return "\n".join([*lines, *(["", f"Not run: {', '.join(missing)}."] if missing else [])]) + "\n"


def table(rows: list[Row]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    shown = [[cell(row.get(key, "")) for key in columns] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *shown)]


def cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/gpu"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--data", type=Path, help="CIFAR-10 as data=npz reads it")
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--part", choices=PARTS, help="one part, in this process")
    chosen = parser.parse_args()
    bench = Bench(chosen.folder.resolve(), chosen.device, chosen.dry, chosen.data and chosen.data.resolve())
    bench.folder.mkdir(parents=True, exist_ok=True)
    if chosen.part:
        result = tried(chosen.part, bench)
        (bench.folder / f"{chosen.part}.json").write_text(json.dumps(result), encoding="utf-8")
        return "failed" in result
    end = time.monotonic() + 60 * chosen.minutes
    for part in PARTS:
        if not (bench.folder / f"{part}.json").exists() and not in_time(part, end):
            print(f"{part}: the minutes are over", file=sys.stderr)
        (bench.folder / "gpu.md").write_text(page(bench.found()), encoding="utf-8")
    print((bench.folder / "gpu.md").read_text(encoding="utf-8"))
    return 0


def in_time(part: str, end: float) -> bool:
    """Let a process of its own run the part, and end it with all that it started when the time has come."""
    if (left := end - time.monotonic()) <= 0:
        return False
    process = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--part", part], start_new_session=True)
    try:
        process.wait(left)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
