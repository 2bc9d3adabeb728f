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
from PIL import Image

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


def pages_of(run: RunFolder) -> int:
    """What a run takes on a disk that counts in pages."""
    return sum(-(-path.stat().st_size // PAGE) for path in run.path.rglob("*"))


def fill_and_make_room(kdal: Kdal, disk: Callable[[int], Path], reference, pages: int) -> None:
    run = RunFolder(disk(pages * PAGE) / "run")
    assert_told(kdal(*SMALL, f"hydra.run.dir={run.path}"), run, "No space left on device")
    disk(10 * pages_of(reference.run) * PAGE)
    assert_it_went_on(kdal, run, reference)
    assert not run.half_written()


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_a_full_disk_stops_a_run_which_goes_on_when_there_is_room(kdal: Kdal, disk, reference, share: float):
    fill_and_make_room(kdal, disk, reference, int(share * pages_of(reference.run)))


@pytest.mark.slow
@pytest.mark.parametrize("missing", range(4, 53))  # three pages of slack: the longer path of the reference
def test_a_disk_that_is_so_many_pages_too_small_stops_a_run_which_goes_on(kdal: Kdal, disk, reference, missing: int):
    fill_and_make_room(kdal, disk, reference, pages_of(reference.run) - missing)


def test_no_room_for_the_first_file_is_one_line_as_well(kdal: Kdal, disk, reference):
    run = RunFolder(disk(PAGE) / "run")
    stopped = kdal(*SMALL, f"hydra.run.dir={run.path}")
    assert stopped.code in (2, 3)
    assert "No space left on device" in stopped.refusal
    disk(10 * 2**20)
    assert_it_went_on(kdal, run, reference)


REFUSED = ["manifest.json", "ledger.jsonl", "curve.csv", "teacher.safetensors"]
REFUSED_TOO = ["ledger.csv", "round_001.csv", "training.snapshot", "round_001.safetensors", "round_001.json"]
REFUSED_TOO += ["timings.csv", "curve.png", "result.json"]


@pytest.mark.parametrize("file", [*REFUSED, *(pytest.param(file, marks=pytest.mark.slow) for file in REFUSED_TOO)])
def test_a_disk_that_fails_at_one_file_is_told_and_survived(kdal: Kdal, run, reference, file: str):
    ended = kdal(*SMALL, f"hydra.run.dir={run.path}", first=FailFrom(1, errno.EIO, file))
    assert ended.code == 3
    assert "Input/output error" in ended.refusal
    assert file in ended.refusal
    assert_it_went_on(kdal, run, reference)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(errno.ENOSPC, "No space left on device"), (errno.EDQUOT, "Disk quota exceeded"), (errno.EROFS, "Read-only")],
)
def test_what_the_disk_said_is_in_the_line_and_the_traceback_in_the_run_log(kdal: Kdal, run, error: int, reason: str):
    ended = kdal(*SMALL, f"hydra.run.dir={run.path}", first=FailFrom(1, error, "curve.csv"))
    assert_told(ended, run, reason)
    assert "Traceback" in (run.path / "run.log").read_text()


@pytest.mark.slow
def test_a_disk_that_fails_at_any_write_is_told_and_survived(kdal: Kdal, reference):
    wrong: dict[int, str] = {}
    for step in itertools.count(1):
        run = RunFolder(kdal.here / f"run-{step}")
        store = f"teacher.store={run.path}/teachers"  # outside outputs/, and so named again by whoever resumes
        words = (*SMALL, f"hydra.run.dir={run.path}", store)
        ended = kdal(*words, first=FailFrom(step, errno.EIO))
        if ended.code == 0:
            break
        try:
            assert_told(ended, run, "Input/output error")
            started = (run.path / "manifest.json").exists()
            again = kdal("al-loop", f"resume={run.path}", store) if started else kdal(*words)
            assert (again.code, again.err) == (0, "")
            assert run.outcome() == reference.outcome
        except AssertionError as problem:
            wrong[step] = str(problem)
    assert step > 100
    assert not wrong


SHORT = ("experiment=smoke", "recipe.steps=4", "teacher.recipe.steps=4", "hydra.run.dir=run")
COMMANDS = {
    "distill": ("distill", *SHORT),
    "train-teacher": ("train-teacher", *SHORT),
    "pretrain": ("pretrain", "experiment=smoke", "method=simclr", "recipe.steps=4", "hydra.run.dir=run"),
    "compress": ("compress", "student", "compress=qat", "recipe.steps=4", "hydra.run.dir=run"),
    "evaluate": ("evaluate", "student", "hydra.run.dir=run"),
    "export": ("export", "student", "format=torch", "threads=1"),
    "predict": ("predict", "student", "photos", "--out", "answers"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_at_some_write_that_the_disk_fails_and_works_when_it_does_not(kdal: Kdal, command: str):
    made = kdal("distill", "experiment=smoke", "recipe.steps=4", "hydra.run.dir=student")
    assert made.code == 0
    (kdal.here / "photos").mkdir()
    for number in range(3):
        Image.new("L", (8, 8), 80 * number).save(kdal.here / "photos" / f"{number}.png")
    wrong: dict[int, str] = {}
    for step in itertools.chain(range(1, 5), itertools.count(5, 7)):
        ended = kdal(*COMMANDS[command], first=FailFrom(step, errno.ENOSPC))
        if ended.code == 0:
            break
        assert ended.code == 3, ended.err
        if "No space left on device" not in ended.refusal:
            wrong[step] = ended.err
        again = kdal(*(word.replace("answers", "again") for word in COMMANDS[command]))  # answers are never overwritten
        if (again.code, again.err) != (0, ""):
            wrong[step] = f"again {again.code}: {again.err}"
        if half := [*kdal.here.rglob("*.kdal-tmp")]:
            wrong[step] = f"half written: {half}"
        for left in ("run", "answers", "again", "outputs", "student/export"):
            shutil.rmtree(kdal.here / left, ignore_errors=True)
    assert step > 1
    assert not wrong
