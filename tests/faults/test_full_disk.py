"""A disk that refuses: one line, exit code 3, and once there is room the run goes on to the same end."""

import errno
import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli.harness import Ended, Kdal, RunFolder

from faults.conftest import SMALL
from faults.sabotage import FailFrom

PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """disk(bytes) makes a disk of that size, or makes it that large, and returns where it is."""
    place = tmp_path / "disk"
    place.mkdir()

    def sized(size: int) -> Path:
        options = f"{'remount,' if place.is_mount() else ''}size={size}"
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"only root may mount a small disk to fill: {made.stderr.strip()}")
        return place

    yield sized
    if place.is_mount():
        subprocess.run(["umount", place], check=True)


def assert_it_went_on(kdal: Kdal, run: RunFolder, reference) -> None:
    """Resumed, or typed again when nothing had been started, the run ends as if nothing had happened."""
    started = (run.path / "manifest.json").exists()
    again = kdal("al-loop", f"resume={run.path}") if started else kdal(*SMALL, f"hydra.run.dir={run.path}")
    assert (again.code, again.err) == (0, "")
    assert run.outcome() == reference.outcome


def assert_told(ended: Ended, run: RunFolder, reason: str) -> None:
    """One line with what the disk said; it says where, and what to do."""
    assert ended.code == 3
    assert reason in ended.refusal
    assert run.path.name in ended.refusal


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_a_full_disk_stops_a_run_which_goes_on_when_there_is_room(kdal: Kdal, disk, reference, share: float):
    needed = sum(-(-path.stat().st_size // PAGE) for path in reference.run.path.rglob("*")) * PAGE
    run = RunFolder(disk(int(share * needed) // PAGE * PAGE) / "run")
    stopped = kdal(*SMALL, f"hydra.run.dir={run.path}")
    assert_told(stopped, run, "No space left on device")
    disk(10 * needed)
    assert_it_went_on(kdal, run, reference)
    assert not run.half_written()


def test_no_room_for_the_first_file_is_one_line_as_well(kdal: Kdal, disk, reference):
    run = RunFolder(disk(PAGE) / "run")
    stopped = kdal(*SMALL, f"hydra.run.dir={run.path}")
    assert stopped.code in (2, 3)
    assert "No space left on device" in stopped.refusal
    disk(10 * 2**20)
    assert_it_went_on(kdal, run, reference)


def test_what_was_full_is_said_in_the_run_log_when_there_is_room_for_it(kdal: Kdal, here: Path):
    kdal(*SMALL, "hydra.run.dir=run", first=FailFrom(20, errno.ENOSPC))
    assert "Traceback" in (here / "run" / "run.log").read_text()


def failed_at_steps(kdal: Kdal, reference, error: int, reason: str, steps: itertools.count) -> tuple[int, dict[int, str]]:
    """Refuse from each of these durable steps on, then resume. Returns how many there were, and what went wrong."""
    wrong: dict[int, str] = {}
    for failed, step in enumerate(steps):
        run = RunFolder(kdal.here / f"run-{step}")
        words = (*SMALL, f"hydra.run.dir={run.path}", f"teacher.store={run.path}/teachers")
        ended = kdal(*words, first=FailFrom(step, error))
        if ended.code == 0:
            return failed, wrong
        try:
            assert_told(ended, run, reason)
            again = kdal("al-loop", f"resume={run.path}") if (run.path / "manifest.json").exists() else kdal(*words)
            assert (again.code, again.err) == (0, "")
            assert run.outcome() == reference.outcome
        except AssertionError as problem:
            wrong[step] = str(problem)
        shutil.rmtree(run.path, ignore_errors=True)
    raise AssertionError("there is always a last step")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=["full", "input-output", "quota"])
def test_a_disk_that_fails_at_one_write_in_thirty_is_told_and_survived(kdal: Kdal, reference, error: int):
    reason = {errno.ENOSPC: "No space left", errno.EIO: "Input/output error", errno.EDQUOT: "quota exceeded"}[error]
    failed, wrong = failed_at_steps(kdal, reference, error, reason, itertools.count(2, 29))
    assert failed >= 3
    assert not wrong


@pytest.mark.slow
def test_a_disk_that_fails_at_any_write_is_told_and_survived(kdal: Kdal, reference):
    failed, wrong = failed_at_steps(kdal, reference, errno.EIO, "Input/output error", itertools.count(1))
    assert failed > 100
    assert not wrong
