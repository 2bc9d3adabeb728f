"""A look at the pool by onnxruntime: beside torch, as `al-loop` looks. And whether both would choose the same images.

    python benchmarks/score_onnx.py RUN [--root data]

RUN is a run of `kdal distill` or `kdal al-loop`; its network looks at its pool. Processor seconds on one thread, the
medians of five turns. The network of each round is another one, so that the file would have to be written every time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from kdal_cli.compose.finished import finished, run_of
from kdal_cli.compose.shipped import shipped
from kdal_cli.export import measure
from kdal_cli.export.formats import write_onnx
from kdal_cli.export.whole import Whole
from kdal_cli.images.augment import Augment, Resident, unaugmented
from kdal_cli.inference.predict import predict_logits
from kdal_cli.samplers.margin import margin_score
from kdal_cli.types import Unwatched

TURNS, QUERY = 5, 100


def timed(look: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.process_time()
    logits = look()
    return time.process_time() - start, logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--root")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    ship = shipped(asked.run, [])
    folder = run_of(ship.path.resolve())
    assert folder is not None
    run = finished(folder, {"root": asked.root} if asked.root else {}, [], Unwatched())
    assert run.data is not None
    assert run.ids is not None
    pool, images = run.ids.pool, Resident.of(run.data.train, Augment(), torch.device("cpu"))
    pixels = unaugmented(run.data.train, pool).numpy()
    whole = Whole(ship.body(), ship.card.mean, ship.card.std, ship.card.size).eval()
    with tempfile.TemporaryDirectory() as draft:
        path = Path(draft, "model.onnx")
        start = time.process_time()
        write_onnx(path, whole, torch.from_numpy(pixels[:4]), ship.card, {})
        written = time.process_time() - start
        session = measure.onnx_session(path, 1)
        looks = (
            lambda: predict_logits(ship.network, images, pool),
            lambda: torch.from_numpy(measure.logits(session, pixels)),
        )
        turns = [[timed(look) for look in looks] for _ in range(TURNS + 1)][1:]
    ours, theirs = (statistics.median(turn[side][0] for turn in turns) for side in (0, 1))
    picks = [{*margin_score(logits).topk(QUERY).indices.tolist()} for _, logits in turns[-1]]
    print("| network | images | torch s | onnxruntime s | ratio | writing the file s | same picks of 100 |")
    print("|---|---|---|---|---|---|---|")
    cells = [ship.card.model["name"], f"{len(pool):,}", f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f}"]
    print("| " + " | ".join([*cells, f"{written:.1f}", str(len(picks[0] & picks[1]))]) + " |")


if __name__ == "__main__":
    main()
