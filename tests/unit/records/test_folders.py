"""Whose a folder is does not depend on the names in it."""

import os
from pathlib import Path

import pytest

from kdal_cli.errors import UserError
from kdal_cli.records.folders import LOCK, MARK, REQUEST, discard, enter, forget, inspect, made_for_us
from kdal_cli.records.run import Request, Run, claim

PAPERS = {"config.yaml": "seed: 0\n", "hydra.yaml": "hydra: {}\n"}
REQUESTED = Request("al-loop", "kdal al-loop", {}, PAPERS)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"/" for p in folder.rglob("*")}


def begin(folder: Path) -> None:
    """All that a run has done when it is refused."""
    enter(folder)
    with claim(folder) as run:
        run.begin(REQUESTED)
        run.write("manifest.json", "{}")
        run.write("run.log", "a word\n")


STRANGE = {
    "run.log": "x",
    "manifest.json": '{"name": "a web page"}',
    ".hydra/config.yaml": "of another application: 1\n",
    "multirun.yaml": "hydra: {}\n",
    "summary.csv": "a,b\n",
    "thesis.tex": "four years of work",
    LOCK: "somebody else's lock",
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_folder_with_anything_of_somebody_elses_is_refused_and_stays_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / "p" / name
    path.parent.mkdir(parents=True)
    path.write_text(STRANGE[name])
    before = contents(tmp_path)
    with pytest.raises(UserError, match="holds files that are not those of a run"):
        enter(tmp_path / "p")
    with pytest.raises(UserError, match="holds files that are not those of a run"), claim(tmp_path / "p"):
        pass
    assert not discard(tmp_path / "p")
    assert contents(tmp_path) == before


def test_a_refused_run_leaves_nothing_of_what_it_made(tmp_path: Path) -> None:
    begin(tmp_path / "outputs" / "al-loop" / "now")
    assert discard(tmp_path / "outputs" / "al-loop" / "now")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_above_in_which_there_is_something_else_by_now_stays(tmp_path: Path) -> None:
    begin(tmp_path / "outputs" / "now")
    (tmp_path / "outputs" / "mine.txt").write_text("mine")
    discard(tmp_path / "outputs" / "now")
    assert contents(tmp_path) == {"outputs": b"/", "outputs/mine.txt": b"mine"}


def test_an_empty_folder_of_the_users_is_empty_again(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    begin(tmp_path / "empty")
    assert {path.name for path in (tmp_path / "empty").iterdir()} <= REQUEST
    assert discard(tmp_path / "empty")
    assert contents(tmp_path) == {"empty": b"/"}


def test_what_a_run_has_done_is_not_taken_away_nor_what_the_user_put_there(tmp_path: Path) -> None:
    for name in ("ledger.jsonl", "notes.txt"):
        begin(tmp_path / name)
        (tmp_path / name / name).write_text("1")
        before = contents(tmp_path)
        assert not discard(tmp_path / name)
        assert contents(tmp_path) == before
    begin(tmp_path / "third")
    (tmp_path / "third" / ".hydra" / "notes.txt").write_text("mine")
    discard(tmp_path / "third")
    assert contents(tmp_path / "third") == {".hydra": b"/", ".hydra/notes.txt": b"mine"}


def test_a_folder_that_took_the_place_of_ours_is_not_ours(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.log").write_text("x")
    assert not discard(tmp_path / "run")
    assert (tmp_path / "run" / "run.log").read_text() == "x"


def test_a_run_that_an_earlier_start_began_is_ours_to_go_on_with_and_not_to_take_away(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(MARK)
    (tmp_path / "run.log").write_text("an earlier start\n")
    with claim(tmp_path):
        pass
    assert not discard(tmp_path)
    assert (tmp_path / "run.log").exists()


def test_a_run_of_an_older_version_is_known_by_its_manifest(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("")
    (tmp_path / "manifest.json").write_text('{"config_sha256": "0", "starts": []}')
    with claim(tmp_path) as run:
        assert run.folder == tmp_path


def test_a_start_that_was_killed_before_it_could_mark_its_folder_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("")
    with claim(tmp_path):
        assert (tmp_path / LOCK).read_bytes() == MARK


def test_what_others_hold_by_now_is_theirs(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    before = contents(tmp_path)
    with claim(tmp_path / "run"):
        discard(tmp_path / "run")
        assert contents(tmp_path) == before


def test_a_stop_before_anything_has_begun_takes_all_such_folders_away(tmp_path: Path) -> None:
    for name in ("one", "two", "begun"):
        enter(tmp_path / name)
    (tmp_path / "begun" / "manifest.json").write_text("{}")
    (tmp_path / "three").mkdir()
    made_for_us(tmp_path / "three")
    forget()
    assert [path.name for path in tmp_path.iterdir()] == ["begun"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"cannot write here|choose another hydra\.run\.dir"):
            enter(path)


PLANTED = ["run.log", "metrics.jsonl", "curve.csv", "picks", "checkpoints", "report", ".hydra", "precision.json"]


@pytest.mark.parametrize("name", [*PLANTED, "training.snapshot", "picks/round_000.csv", "tensorboard/config"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_run_with_a_link_or_a_pipe_in_it_is_not_gone_on_with(tmp_path: Path, name: str, kind: str) -> None:
    run, treasure = tmp_path / "run", tmp_path / "treasure"
    with claim(run):
        pass
    treasure.mkdir()
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(treasure) if kind == "link" else os.mkfifo(run / name)
    with pytest.raises(UserError, match=Path(name).name.replace(".", r"\.")), claim(run):
        pass
    assert list(treasure.iterdir()) == []


@pytest.mark.parametrize("name", ["run.log", "metrics.jsonl", "ledger.jsonl", LOCK])
def test_nor_one_of_whose_logs_another_file_is_the_same(tmp_path: Path, name: str) -> None:
    run, treasure = tmp_path / "run", tmp_path / "treasure"
    with claim(run):
        pass
    treasure.write_bytes(MARK)
    (run / name).unlink(missing_ok=True)
    (run / name).hardlink_to(treasure)
    with pytest.raises(UserError, match="not a regular file"), claim(run):
        pass
    assert treasure.read_bytes() == MARK


def test_links_among_the_files_of_a_guest_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "latest-run").symlink_to(tmp_path / "wandb")
    inspect(tmp_path)


def test_what_is_asked_for_is_put_down_once(tmp_path: Path) -> None:
    with claim(tmp_path / "run") as run:
        run.begin(REQUESTED)
        assert {p.name: p.read_text() for p in (run.folder / ".hydra").iterdir()} == PAPERS
        run.write("manifest.json", "{}")
        run.begin(Request("al-loop", "kdal al-loop seed=1", {}, {"config.yaml": "seed: 1\n"}))
    assert (Run(tmp_path / "run").folder / ".hydra" / "config.yaml").read_text() == "seed: 0\n"
