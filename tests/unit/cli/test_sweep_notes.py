"""What the jobs of a sweep leave in its folder."""

import csv
import os
from contextlib import suppress
from pathlib import Path

import pytest

from kdal_cli.cli.hydra_app import refuse_elsewhere
from kdal_cli.cli.sweep import NOTES, jobs, note
from kdal_cli.errors import UserError


def summary(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_nothing_that_was_typed_or_said_is_a_formula_in_the_summary(tmp_path: Path) -> None:
    note(
        tmp_path, 0, ["data.root==1+1", "recipe.lr=-0.5", "@SUM(A1)=1"], tmp_path / "0", UserError("=cmd|' /C calc'!A0")
    )
    note(tmp_path, 1, ["data.root=photos", "recipe.lr=0.1"], tmp_path / "1", None)
    first, second = summary(tmp_path)
    assert (first["data.root"], first["recipe.lr"], first["'@SUM(A1)"]) == ("'=1+1", "-0.5", "1")
    assert first["reason"] == "'=cmd|' /C calc'!A0"
    assert (second["data.root"], second["state"]) == ("photos", "done")


@pytest.mark.parametrize("line", ["{}", "[]", '{"job": 1}', '{"job": "x", "folder": "", "overrides": {}, "state": ""}'])
def test_notes_that_nobody_has_written_are_refused_by_name(tmp_path: Path, line: str) -> None:
    (tmp_path / NOTES).write_text(line[:-1] + "}\n")
    with pytest.raises(UserError, match=r"damaged .*jobs\.jsonl"):
        jobs(tmp_path)


@pytest.mark.parametrize("name", [NOTES, "summary.csv"])
def test_a_link_is_not_written_through(tmp_path: Path, name: str) -> None:
    sweep, treasure = tmp_path / "sweep", tmp_path / "treasure"
    sweep.mkdir()
    treasure.write_text("four years of work")
    (sweep / name).symlink_to(treasure)
    with suppress(UserError):  # of the notes; the summary is replaced
        note(sweep, 0, [], sweep / "0", None)
    assert treasure.read_text() == "four years of work"


def test_a_pipe_does_not_make_a_sweep_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NOTES)
    with pytest.raises(UserError, match="not a regular file"):
        note(tmp_path, 0, [], tmp_path / "0", None)


def test_a_job_that_was_started_in_another_folder_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    for run in (home / "sweep" / "0", other / "sweep" / "0"):
        run.mkdir(parents=True)
    monkeypatch.chdir(home)
    refuse_elsewhere(home, home / "sweep" / "0")
    assert (home / "sweep" / "0").exists()
    monkeypatch.chdir(other)
    with pytest.raises(UserError, match=f"started in {other}, and the command was typed in {home}"):
        refuse_elsewhere(home, other / "sweep" / "0")
    assert not (other / "sweep" / "0").exists()
