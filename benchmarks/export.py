"""Exported files against the student that they were written from: accuracy of the very file, agreement, size, speed.

    python benchmarks/export.py                              six networks on the embedded digits
    python benchmarks/export.py data=fashion_mnist NETWORK…  on other images; words with = go to `kdal distill`

Prints two tables in Markdown. In the second the peer is the same network in torch, in eager mode: the three take turns
in one process, and a ratio is the median of the ratios of their processor time, turn by turn.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdal_cli.compose.shipped import shipped
from kdal_cli.export import measure
from kdal_cli.export.whole import Whole

KDAL = Path(sys.executable).with_name("kdal")
NETWORKS = ("resnet8", "small_cnn", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0", "resnet18")
USUAL = ("data=digits", "recipe.epochs=20", "threads=1")
HEAD = "| network | file | MB | ms at 1 | p95 | ms at 16 | test accuracy % | agreement % | largest difference |"
RATIOS = "| network | eager by ONNX, batch 1 | batch 16 | ONNX by int8, batch 1 | batch 16 | MB, checkpoint by int8 |"
TURNS, WARMUP = 60, 5


def shipped_files(network: str, words: list[str], folder: Path) -> list[dict[str, Any]]:
    """Train a network with labels alone, export it, and read what was measured."""
    run = folder / network
    train = ["distill", f"student={network}", "teacher=none", "loss=none", *USUAL, *words, f"hydra.run.dir={run}"]
    subprocess.run([KDAL, *train], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    export = ["export", str(run), "format=[onnx,int8]", "threads=1", "max_drop=1"]
    subprocess.run([KDAL, *export], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return json.loads((run / "export" / "export.json").read_text(encoding="utf-8"))["files"]


def in_turns(run: Path, batch: int) -> tuple[float, float]:
    """(how many times as long as ONNX eager torch takes, and as int8 ONNX does), for a batch of noise."""
    ship = shipped(run, [])
    card, sides = ship.card, ship.card.shape
    eager = measure.torch_module(Whole(ship.body(), card.mean, card.std, card.size).eval())
    files = (run / "export" / name for name in ("model.onnx", "model.int8.onnx"))
    runs = [eager, *(measure.onnx_session(file, 1) for file in files)]
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, sides.channels, sides.height, sides.width), dtype=np.uint8)
    turns = [[seconds(each, pixels) for each in runs] for _ in range(WARMUP + TURNS)][WARMUP:]
    return statistics.median(e / o for e, o, _ in turns), statistics.median(o / i for _, o, i in turns)


def seconds(run: measure.Run, pixels: np.ndarray) -> float:
    """Processor seconds of one pass on one thread: what other programs take does not count."""
    start = time.process_time()
    run(pixels)
    return time.process_time() - start


def main() -> None:
    """Every network, one after the other."""
    torch.set_num_threads(1)
    words = [word for word in sys.argv[1:] if "=" in word]
    networks = [word for word in sys.argv[1:] if "=" not in word] or [*NETWORKS]
    print(f"\n{measure.instructions()}, 1 thread\n", file=sys.stderr)
    print(HEAD + "\n" + "|---" * (HEAD.count("|") - 1) + "|")
    compared: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for network in networks:
            rows = shipped_files(network, words, Path(folder))
            for row in rows:
                times = [f"{row[key]:.2f}" for key in ("ms_1", "ms_1_p95", "ms_16")]
                shares = [f"{100 * row[key]:.2f}" for key in ("test_accuracy", "agreement")]
                cells = [network, row["format"], f"{row['mb']:.2f}", *times, *shares, f"{row['difference']:.1e}"]
                print("| " + " | ".join(cells) + " |", flush=True)
            one, many = (in_turns(Path(folder, network), batch) for batch in (1, measure.LARGE))
            ratios = [one[0], many[0], one[1], many[1], rows[0]["mb"] / rows[-1]["mb"]]
            compared.append("| " + " | ".join([network, *(f"{ratio:.2f}" for ratio in ratios)]) + " |")
    print("\n".join(["", RATIOS, "|---" * (RATIOS.count("|") - 1) + "|", *compared]))


if __name__ == "__main__":
    main()
