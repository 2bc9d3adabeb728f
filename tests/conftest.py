"""What all tests share: one thread, the same examples every time, and the command line to drive."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; the processes that tests start inherit it
os.environ["HF_HUB_OFFLINE"] = "1"  # before timm is imported by any test: no test waits for a network

import pytest
from cli.harness import Ended, Kdal, run_installed, wait_for_no_disk
from hypothesis import settings

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what nohup ignores, the processes that tests start would ignore as well
wait_for_no_disk()
settings.register_profile("kdal", derandomize=True, deadline=None)
settings.load_profile("kdal")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """An empty folder that commands are typed in."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def kdal(here: Path) -> Kdal:
    """`kdal(words)` runs a command in a process of its own that has its imports behind it: a second, not ten."""
    return Kdal(here)


@pytest.fixture
def installed(here: Path) -> Callable[..., Ended]:
    """`installed(words)` runs the console script, from nothing, as a shell does."""
    return lambda *words, **keywords: run_installed(here, *words, **keywords)
