"""Each stage once, through the installed command, in one folder: the runs that many tests look at."""

from pathlib import Path

import pytest
from cli.harness import Ended, Kdal, run_installed


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shared runs are."""
    folder = tmp_path_factory.mktemp("shared") / "workplace"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def shared(workplace: Path) -> Kdal:
    """The warm command line, in the folder of the shared runs; whoever uses it changes none of them."""
    return Kdal(workplace)


@pytest.fixture(scope="session")
def al_loop(workplace: Path) -> Ended:
    """Three rounds of 20 labels; the first run in its folder, so it trains the teacher too."""
    return run_installed(workplace, "al-loop", "experiment=smoke")


@pytest.fixture(scope="session")
def train_teacher(workplace: Path, al_loop: Ended) -> Ended:
    return run_installed(workplace, "train-teacher", "experiment=smoke")


@pytest.fixture(scope="session")
def distill(workplace: Path, al_loop: Ended) -> Ended:
    return run_installed(workplace, "distill", "experiment=smoke", "compare=true")


@pytest.fixture(scope="session")
def evaluate(workplace: Path, al_loop: Ended) -> Ended:
    """Of the run `al_loop`."""
    return run_installed(workplace, "evaluate", "experiment=smoke", f"checkpoint={al_loop.run.path}")
