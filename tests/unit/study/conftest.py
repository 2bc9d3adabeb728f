"""Run folders with curves that tests choose."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

Plant = Callable[..., Path]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """`plant(y, seed=0, sampler="margin")` makes a finished run of 10 labels a round in a folder below `tmp_path/runs`.

    y: the figure, round by round. columns: others of the curve. options: what was chosen of groups, in the manifest as
    choices and as sections that hold a name. config: sections besides. seconds: of each round, by default 1.
    """
    counter = iter(range(10**6))

    def make(
        y: Sequence[float],
        *,
        seed: int = 0,
        stage: str = "al-loop",
        done: bool = True,
        figure: str = "test_accuracy",
        labels: Sequence[float] | None = None,
        columns: Mapping[str, Sequence[float]] | None = None,
        seconds: Sequence[float] | None = None,
        config: Mapping[str, Any] | None = None,
        result: Mapping[str, Any] | None = None,
        started: str = "",
        **options: str,
    ) -> Path:
        number = next(counter)
        folder = tmp_path / "runs" / f"run_{number:04d}"
        folder.mkdir(parents=True)
        settings: dict[str, Any] = {"seed": seed, **{group: {"name": option} for group, option in options.items()}}
        for group, section in (config or {}).items():
            both = isinstance(section, Mapping) and group in settings
            settings[group] = {**settings[group], **section} if both else section
        started = started or f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}+00:00"
        manifest = {
            "stage": stage,
            "seed": seed,
            "choices": options,
            "config": settings,
            "starts": [{"time": started, "command": f"kdal {stage}"}],
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        if y:
            rounds = range(len(y))
            bought = [10 * (round + 1) for round in rounds] if labels is None else labels
            table(folder / "curve.csv", {"round": rounds, "labels": bought, **(columns or {}), figure: y})
            spent = [1.0 for _ in y] if seconds is None else seconds
            table(folder / "timings.csv", {"round": rounds, "train_s": spent, "images_per_s": [99.0 for _ in y]})
        if done:
            (folder / "result.json").write_text(json.dumps({figure: y[-1]} if result is None else result))
        return folder

    return make


def table(path: Path, columns: Mapping[str, Sequence[float]]) -> None:
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
