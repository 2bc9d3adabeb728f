"""A run that nothing happens to, which those that much happens to must equal."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli.harness import Kdal, RunFolder, Running

SMALL = ("al-loop", "experiment=smoke", "budget.rounds=3", "recipe.checks=4")
"""Four rounds of 20 labels, each trained for 20 steps with a check every fifth; a second in all."""


@dataclass(frozen=True)
class Reference:
    """SMALL, undisturbed: its folder, what it came to, and how many seconds it took."""

    run: RunFolder
    outcome: dict[str, Any]
    seconds: float


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    here = tmp_path_factory.mktemp("reference") / "here"
    here.mkdir()
    kdal = Kdal(here)
    kdal("--version")  # the fork server imports everything now
    started = time.monotonic()
    run = kdal(*SMALL).run
    return Reference(run, run.outcome(), time.monotonic() - started)


@pytest.fixture
def run(here: Path) -> RunFolder:
    """Where a test has its run."""
    return RunFolder(here / "run")


@pytest.fixture
def go_on(kdal: Kdal, run: RunFolder) -> Callable[..., Running]:
    """Start SMALL, or resume it when it has started, as a user does who finds the machine rebooted."""

    def go_on(first: Callable[[], None] | None = None) -> Running:
        if (run.path / "manifest.json").exists():
            return kdal.start("al-loop", f"resume={run.path}", first=first)
        return kdal.start(*SMALL, f"hydra.run.dir={run.path}", first=first)

    return go_on
