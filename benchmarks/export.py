"""Exported files against the student that they were written from: accuracy of the very file, agreement, size, speed.

    python benchmarks/export.py                              six networks on the embedded digits
    python benchmarks/export.py data=fashion_mnist NETWORK…  on other images; words with = go to `kdal distill`

Prints a table in Markdown: the peer is the same network in torch, in eager mode, in the same process as its files.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kdal_cli.export import measure

KDAL = Path(sys.executable).with_name("kdal")
NETWORKS = ("resnet8", "small_cnn", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0", "resnet18")
USUAL = ("data=digits", "recipe.epochs=20", "threads=1")
HEAD = "| network | file | MB | ms at 1 | p95 | ms at 16 | test accuracy % | agreement % | largest difference |"


def rows(network: str, words: list[str], folder: Path) -> list[dict[str, Any]]:
    """Train a network with labels alone, export it, and read what was measured."""
    run = folder / network
    train = ["distill", f"student={network}", "teacher=none", "loss=none", *USUAL, *words, f"hydra.run.dir={run}"]
    subprocess.run([KDAL, *train], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    export = ["export", str(run), "format=[onnx,int8]", "threads=1", "max_drop=1"]
    subprocess.run([KDAL, *export], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    return json.loads((run / "export" / "export.json").read_text(encoding="utf-8"))["files"]


def main() -> None:
    """Every network, one after the other."""
    words = [word for word in sys.argv[1:] if "=" in word]
    networks = [word for word in sys.argv[1:] if "=" not in word] or [*NETWORKS]
    print(HEAD + "\n" + "|---" * (HEAD.count("|") - 1) + "|")
    print(f"\n{measure.instructions()}, 1 thread\n", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        for network in networks:
            for row in rows(network, words, Path(folder)):
                times = [f"{row[key]:.2f}" for key in ("ms_1", "ms_1_p95", "ms_16")]
                shares = [f"{100 * row[key]:.2f}" for key in ("test_accuracy", "agreement")]
                cells = [network, row["format"], f"{row['mb']:.2f}", *times, *shares, f"{row['difference']:.1e}"]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
