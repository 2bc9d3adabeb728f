"""Run folders as a report finds them on disk, with curves that tests choose."""

import json
from collections.abc import Sequence
from pathlib import Path

from kdal_cli.study.compare import compare
from kdal_cli.study.records import find
from kdal_cli.study.study import Study

WITHOUT_ROUNDS = {"distill", "evaluate"}


def run_folder(
    top: Path,
    accuracy: Sequence[float],
    *,
    seed: int = 0,
    sampler: str = "random",
    loss: str = "kd",
    data: str = "digits",
    stage: str = "al-loop",
    done: bool = True,
    recall: Sequence[float] = (),
    data_sha256: str = "c0ffee",
) -> Path:
    """A run of `stage`: 10 labels a round; recall: of each class, in the last round; class c has c + 1 labels."""
    folder = top / f"{data}_{loss}_{sampler}_{seed}".replace("/", "")
    folder.mkdir(parents=True)
    config = {"sampler": {"name": sampler}, "loss": {"name": loss}, "data": {"name": data}, "seed": seed}
    start = {
        "time": "2026-01-02T03:04:05+00:00",
        "command": f"kdal {stage} sampler={sampler} seed={seed}",
        "versions": {"python": "3.11.7", "torch": "2.11"},
        "machine": {"device": "cpu", "name": "Test & Co", "threads": 1},
        "git": {"commit": "abc123", "dirty": True},
    }
    manifest = {"stage": stage, "seed": seed, "config": config, "starts": [start], "data_sha256": data_sha256}
    manifest["choices"] = {"sampler": sampler, "loss": loss, "data": data}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if stage in WITHOUT_ROUNDS:
        (folder / "result.json").write_text(json.dumps({"student": {"accuracy": accuracy[-1], "nll": 1.5}}))
        return folder
    rows = [(round, 10 * (round + 1), share, 1 - share) for round, share in enumerate(accuracy)]
    _table(folder / "curve.csv", "round,labels,test_accuracy,test_nll", rows)
    _table(folder / "timings.csv", "round,train_s,images_per_s", [(row[0], 2.0, 100.0) for row in rows])
    if done:
        (folder / "result.json").write_text(json.dumps({"test_accuracy": accuracy[-1]}))
    if recall:
        scores = [
            (r, c, c + 1, 0.5 if r + 1 < len(rows) else share)
            for r in range(len(rows))
            for c, share in enumerate(recall)
        ]
        _table(folder / "classes.csv", "round,class,labels,test_recall", scores)
    return folder


def study(top: Path, **options) -> Study:
    return compare(find([top]), **options)


def _table(path: Path, head: str, rows: Sequence[Sequence[float]]) -> None:
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
