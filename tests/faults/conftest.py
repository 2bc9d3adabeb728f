"""A run that nothing happens to, which those that much happens to must equal."""

import logging
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli.harness import Kdal, RunFolder, Running
from faults.sabotage import DieBefore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kdal_cli.cli import hydra_app
from kdal_cli.cli.main import answer
from kdal_cli.cli.outcome import guarded
from kdal_cli.compose.settings import plain

SMALL = ("al-loop", "experiment=smoke", "budget.rounds=3", "recipe.checks=4")
"""Four rounds of 20 labels, each trained for 20 steps with a check every fifth; a second in all."""


@dataclass(frozen=True)
class Reference:
    """SMALL, undisturbed: its folder, what it came to, and how much it said on the way."""

    run: RunFolder
    outcome: dict[str, Any]
    characters: int


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    here = tmp_path_factory.mktemp("reference") / "here"
    here.mkdir()
    ended = Kdal(here)(*SMALL)
    return Reference(ended.run, ended.run.outcome(), len(ended.out))


@pytest.fixture(scope="session")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """SMALL, killed in round 2, before its third snapshot: two rounds are done, the third is paid for."""
    here = tmp_path_factory.mktemp("stopped") / "here"
    here.mkdir()
    snapshots_before = 2 * (2 + 4 + 4) + 2 * 2  # a rename each and an fsync: of the teacher's, of two rounds', of this
    killed = Kdal(here)(*SMALL, "hydra.run.dir=run", first=DieBefore(snapshots_before + 1, of="training.snapshot"))
    assert killed.code == -signal.SIGKILL
    run = RunFolder(here / "run")
    assert (len(run.table()), len(run.ledger()), (run.path / "training.snapshot").exists()) == (2, 15, True)
    return run


@pytest.fixture
def stopped(stopped_once: RunFolder, run: RunFolder) -> RunFolder:
    """It, as if it had been started here: in the folder `run`, with its teacher in the store."""
    there, here = stopped_once.path.parent, run.path.parent
    for name in ("run", "outputs"):
        shutil.copytree(there / name, here / name)
    about = run.path / ".hydra" / "hydra.yaml"
    about.write_text(about.read_text().replace(str(there), str(here)))
    return run


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


SECONDS = 20
"""That a refusal may take here, where it shares the machine with other tests; alone it is a third of one."""


def no_stage(config: DictConfig) -> float:
    """In place of a run: its configuration is read, and put down as a run does."""
    plain(config)
    saved = Path(HydraConfig.get().runtime.output_dir, ".hydra")
    saved.mkdir(parents=True, exist_ok=True)
    for name, content in hydra_app.papers(config).items():
        (saved / name).write_text(content)
    return 0.0


@pytest.fixture
def attempt(here: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> Iterator[Callable[..., tuple[int, str]]]:
    """attempt(words) is (exit code, what stderr says) of `kdal al-loop`, of which all runs but the stage itself."""
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setattr(hydra_app, "job", no_stage)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    before = {
        name: logger.disabled for name, logger in logging.root.manager.loggerDict.items() if hasattr(logger, "disabled")
    }
    level, handlers = logging.root.level, list(logging.root.handlers)

    def attempt(*words: str, stage: str = "al-loop") -> tuple[int, str]:
        began = time.monotonic()
        code = guarded(lambda: answer([stage, *words]), debug=False)
        assert time.monotonic() - began < SECONDS
        return code, capfd.readouterr().err

    yield attempt
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers
    for name, disabled in before.items():
        logging.getLogger(name).disabled = disabled
