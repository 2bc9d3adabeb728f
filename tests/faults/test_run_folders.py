"""Whose folder it is: nothing of another run, of another process or of the user's own is ever changed or taken away."""

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.harness import Kdal, RunFolder
from faults.conftest import SMALL, Reference
from faults.sabotage import DieBefore
from thinning import some

BAD = ["seed=abc", "budget.initial=100000", "teacher=none", "+seeed=3", "loss.kd.temperature=0"]
"""Refused after Hydra has written into the run folder."""


@pytest.fixture
def held(stopped: RunFolder) -> Iterator[RunFolder]:
    """The same, while another process is in the folder."""
    with (stopped.path / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield stopped


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the teachers, which are nobody's alone."""
    return {name: data for name, data in RunFolder(folder).contents().items() if "outputs/teachers" not in name}


class TestAFolderInUse:
    def test_it_cannot_be_resumed(self, go_on, held: RunFolder):
        before = held.contents()
        ended = go_on().ended()
        assert ended.code == 4
        assert "in use" in ended.refusal or "another process" in ended.refusal
        assert held.contents() == before

    def test_it_cannot_be_written_to_by_a_run_of_another_configuration(self, kdal: Kdal, held: RunFolder):
        before = held.contents()
        ended = kdal(*SMALL, "seed=1", f"hydra.run.dir={held.path}")
        assert ended.code == 4
        assert str(held.path) in ended.refusal
        assert held.contents() == before

    def test_of_two_processes_that_resume_at_once_one_does(self, go_on, stopped: RunFolder, reference: Reference):
        both = [go_on(), go_on()]
        ended = [running.ended() for running in both]
        assert sorted(one.code for one in ended) in ([0, 4], [0, 0])  # the second may come when all is done
        assert stopped.outcome() == reference.outcome

    def test_the_lock_dies_with_its_process(self, go_on, stopped: RunFolder, reference: Reference):
        assert (stopped.path / ".lock").exists()
        assert go_on().ended().code == 0
        assert stopped.outcome() == reference.outcome


class TestAFolderWithARunInIt:
    def test_a_finished_run_is_not_overwritten_by_another(self, kdal: Kdal, here: Path, reference: Reference):
        kdal(*SMALL, "hydra.run.dir=run")
        before = files(here / "run")
        ended = kdal(*SMALL, "seed=1", "hydra.run.dir=run")
        assert ended.code == 2
        assert "run" in ended.refusal
        assert files(here / "run") == before

    def test_a_stopped_run_is_not_overwritten_by_another_and_can_be_resumed(self, kdal, go_on, stopped, reference):
        before = stopped.contents()
        ended = kdal(*SMALL, "seed=1", f"hydra.run.dir={stopped.path}")
        assert ended.code == 2
        assert "configuration" in ended.refusal
        after = stopped.contents()
        assert {name for name in before if after[name] != before[name]} <= {"run.log"}
        assert go_on().ended().code == 0
        assert stopped.outcome() == reference.outcome

    @pytest.mark.parametrize("stage", ["distill", "train-teacher", "evaluate"])
    def test_a_run_of_one_stage_cannot_be_resumed_as_another(self, kdal: Kdal, stopped: RunFolder, stage: str):
        before = stopped.contents()
        ended = kdal(stage, f"resume={stopped.path}")
        assert ended.code == 2
        assert f"kdal al-loop resume={stopped.path}" in ended.refusal
        assert stopped.contents() == before

    def test_the_same_command_goes_on_with_a_stopped_run(self, kdal: Kdal, stopped: RunFolder, reference: Reference):
        assert kdal(*SMALL, f"hydra.run.dir={stopped.path}").code == 0
        assert stopped.outcome() == reference.outcome


class TestAFolderOfTheUsers:
    """What is refused here is refused before Hydra, or anybody else, writes a byte."""

    @pytest.mark.parametrize("bad", some(["seed=0", *BAD]))
    @pytest.mark.parametrize("name", ["thesis.txt", "run.log"])
    def test_a_folder_with_files_of_the_users_stays_as_it_is(self, kdal: Kdal, here: Path, bad: str, name: str):
        (here / "precious").mkdir()
        (here / "precious" / name).write_text("four years of work")
        ended = kdal(*SMALL, bad, "hydra.run.dir=precious")
        assert ended.code == 2
        assert bad != "seed=0" or "not those of a run (precious)" in ended.refusal
        assert files(here) == {f"precious/{name}": b"four years of work"}

    @pytest.mark.parametrize("name", [".hydra/config.yaml", "multirun.yaml", "summary.csv", "manifest.json"])
    @pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
    def test_files_of_another_application_stay_as_they_are(self, kdal: Kdal, here: Path, name: str, key: str):
        theirs = here / "theirs" / name
        theirs.parent.mkdir(parents=True)
        theirs.write_text("hydra: {of: another application}\n")
        sweep = ["-m", "seed=0,1"] if key == "hydra.sweep.dir" else []
        ended = kdal(*SMALL, *sweep, f"{key}=theirs")
        assert ended.code == 2
        assert "choose" in ended.refusal or f"{key}=…" in ended.refusal
        assert files(here) == {f"theirs/{name}": b"hydra: {of: another application}\n"}

    def test_nor_is_the_working_directory_taken_away(self, kdal: Kdal, here: Path):
        (here / "thesis.txt").write_text("four years of work")
        assert kdal(*SMALL, "seed=abc", "hydra.run.dir=.").code == 2
        assert files(here) == {"thesis.txt": b"four years of work"}

    @pytest.mark.parametrize("subdir", ["precious", "../here/precious"])
    def test_nor_is_a_folder_that_jobs_of_a_sweep_land_in(self, kdal: Kdal, here: Path, subdir: str):
        (here / "precious").mkdir()
        (here / "precious" / "run.log").write_text("four years of work")
        assert kdal(*SMALL, "-m", "seed=abc,1", "hydra.sweep.dir=sweep", f"hydra.sweep.subdir=../{subdir}").code != 0
        assert files(here / "precious") == {"run.log": b"four years of work"}

    @pytest.mark.parametrize("bad", BAD)
    def test_a_refused_run_leaves_nothing_behind(self, kdal: Kdal, here: Path, bad: str):
        assert kdal(*SMALL, bad).code == 2
        assert [path for path in here.rglob("*") if "teachers" not in str(path) and path.name != "outputs"] == []

    def test_an_empty_folder_stays_and_stays_empty(self, kdal: Kdal, here: Path):
        (here / "empty").mkdir()
        assert kdal(*SMALL, "seed=abc", "hydra.run.dir=empty").code == 2
        assert list(here.iterdir()) == [here / "empty"]
        assert files(here) == {}

    @pytest.mark.parametrize("name", ["run.log", "curve.csv", "picks"])
    def test_a_run_with_a_link_in_it_does_not_go_on(self, go_on, stopped: RunFolder, here: Path, name: str):
        (here / "thesis").mkdir()
        (here / "thesis" / "chapter.txt").write_text("four years of work")
        planted = stopped.path / name
        if planted.is_dir():
            planted.rename(stopped.path / "put aside")
        planted.unlink(missing_ok=True)
        planted.symlink_to(here / "thesis" / ("chapter.txt" if "." in name[1:] else ""))
        ended = go_on().ended()
        assert ended.code == 2
        assert name in ended.refusal
        assert files(here / "thesis") == {"chapter.txt": b"four years of work"}


class TestWhatARunWasStartedWith:
    def test_a_configuration_that_was_edited_is_refused(self, go_on, stopped: RunFolder, reference: Reference):
        file = stopped.path / ".hydra" / "config.yaml"
        sound = file.read_text()
        file.write_text(sound.replace("seed: 0\ndevice", "seed: 1\ndevice"))
        assert file.read_text() != sound
        ended = go_on().ended()
        assert ended.code == 2
        assert "configuration" in ended.refusal
        assert str(stopped.path) in ended.refusal
        file.write_text(sound)
        assert go_on().ended().code == 0
        assert stopped.outcome() == reference.outcome

    def test_images_that_were_changed_are_refused_and_put_back_they_go_on(self, kdal: Kdal, here: Path, images: Path):
        words = ("al-loop", "experiment=smoke", "data=npz", f"data.path={images}", "data.split.validation=40")
        undisturbed = kdal(*words).run.outcome()
        kdal(*words, "hydra.run.dir=run", first=DieBefore(3, of="curve.csv"))
        sound = images.read_bytes()
        change_one_pixel(images)
        ended = kdal("al-loop", "resume=run")
        assert ended.code == 2
        assert "data" in ended.refusal
        images.write_bytes(sound)
        assert kdal("al-loop", "resume=run").code == 0
        assert RunFolder(here / "run").outcome() == undisturbed

    def test_images_that_are_gone_are_refused_and_put_back_they_go_on(self, kdal: Kdal, here: Path, images: Path):
        words = ("al-loop", "experiment=smoke", "data=npz", f"data.path={images}", "data.split.validation=40")
        undisturbed = kdal(*words).run.outcome()
        kdal(*words, "hydra.run.dir=run", first=DieBefore(2, of="manifest.json"))
        assert not (here / "run" / "ledger.jsonl").exists()  # nothing is bought yet
        images.rename(here / "away.npz")
        ended = kdal("al-loop", "resume=run")
        assert ended.code == 2
        assert images.name in ended.refusal
        (here / "away.npz").rename(images)
        assert kdal("al-loop", "resume=run").code == 0
        assert RunFolder(here / "run").outcome() == undisturbed

    def test_another_number_of_threads_is_written_down(self, kdal: Kdal, stopped: RunFolder):
        kdal("al-loop", f"resume={stopped.path}", first=two_threads)
        starts = json.loads((stopped.path / "manifest.json").read_text())["starts"]
        assert [start["machine"]["threads"] for start in starts] == [1, 2]

    @pytest.fixture
    def images(self, here: Path) -> Path:
        """160 + 40 grey images of 4 × 4 pixels in two classes, dark and bright."""
        import numpy as np

        rng = np.random.default_rng(0)
        labels = np.arange(200) % 2
        pixels = rng.integers(0, 128, (200, 4, 4)).astype(np.uint8) + (128 * labels[:, None, None]).astype(np.uint8)
        np.savez(
            here / "images.npz", x_train=pixels[:160], y_train=labels[:160], x_test=pixels[160:], y_test=labels[160:]
        )
        return here / "images.npz"


def change_one_pixel(path: Path) -> None:
    import numpy as np

    with np.load(path) as archive:
        arrays = {name: archive[name].copy() for name in archive.files}
    arrays["x_train"][7, 1, 2] ^= 1
    np.savez(path, **arrays)


def two_threads() -> None:
    import torch

    torch.set_num_threads(2)


def anything_goes() -> None:
    os.umask(0)


def test_nobody_else_may_write_what_a_run_or_a_sweep_makes_whatever_the_umask_allows(kdal: Kdal, here: Path):
    for words in (SMALL, [*SMALL, "-m", "seed=0,1"], ["runs"]):
        assert kdal(*words, first=anything_goes).code == 0
    made = list(here.rglob("*"))
    assert len(made) > 50
    assert [path for path in made if path.stat().st_mode & stat.S_IWOTH] == []


def test_two_runs_of_one_second_have_a_folder_each(kdal: Kdal):
    both = [kdal.start(*SMALL), kdal.start(*SMALL)]
    folders = {running.ended().run.path for running in both}
    assert len(folders) == 2


def test_a_folder_that_is_moved_while_its_run_goes_on_is_told_and_not_made_again(
    kdal: Kdal, run: RunFolder, here: Path
):
    running = kdal.start(*SMALL, "recipe.steps=400", f"hydra.run.dir={run.path}")
    running.wait_for("round 1/3")
    run.path.rename(here / "moved")
    ended = running.ended()
    assert ended.code == 3
    assert str(run.path) in ended.refusal
    assert not run.path.exists()
    assert len(RunFolder(here / "moved").table()) >= 1
