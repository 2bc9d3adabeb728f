"""Run folders as they lie on disk: finished, unfinished, damaged, of an older layout, found in any order."""

import json
import math
import os
from pathlib import Path

import pytest

from kdal_cli.errors import UserError
from kdal_cli.study.records import Record, find, read, settings_of


def change(folder: Path, **values) -> Path:
    """Replace parts of a manifest; None takes one out."""
    path = folder / "manifest.json"
    manifest = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in manifest.items() if value is not None}))
    return folder


def test_a_run_is_what_its_files_say(plant) -> None:
    folder = plant([0.5, 0.75], seed=3, sampler="margin", seconds=[2.0, 0.5], result={"test_accuracy": 0.75})
    record = read(folder)
    assert (record.stage, record.seed, record.done) == ("al-loop", 3, True)
    assert record.choices == {"sampler": "margin"}
    assert record.settings == {"seed": 3, "sampler.name": "margin"}
    assert record.values("labels") == [10, 20]
    assert record.values("test_accuracy") == [0.5, 0.75]
    assert record.result == {"test_accuracy": 0.75}


def test_seconds_are_those_that_had_passed_and_speed_is_none_of_them(plant) -> None:
    assert read(plant([0.1, 0.2, 0.3], seconds=[1.0, 2.0, 4.0])).values("seconds") == [1.0, 3.0, 7.0]


def test_of_a_figure_that_rounds_lack_there_is_no_number(plant) -> None:
    record = read(plant([0.5, 0.75]))
    assert all(map(math.isnan, record.values("val_accuracy")))
    assert "val_accuracy" not in record.keys
    assert {"labels", "seconds", "test_accuracy"} <= record.keys


def test_a_figure_counts_only_where_every_round_has_it() -> None:
    rounds = [{"labels": 10.0, "f1": 0.5}, {"labels": 20.0}]
    assert Record(Path("x"), "al-loop", 0, True, {}, {}, "", rounds).keys == {"labels"}


def test_a_stage_without_rounds_has_one_of_its_result(plant) -> None:
    result = {"student": {"accuracy": 0.9, "of": ["a"], "note": "x"}, "val_accuracy": 1}
    record = read(plant([], stage="distill", result=result))
    assert record.rounds == [{"student.accuracy": 0.9, "val_accuracy": 1.0}]


@pytest.mark.parametrize("y", [[], [0.5]])
def test_a_run_without_a_result_is_not_done(plant, y: list[float]) -> None:
    record = read(plant(y, done=False))
    assert (record.done, record.values("test_accuracy"), record.result) == (False, y, {})


def test_lists_nothing_and_truth_values_are_settings(plant) -> None:
    config = {"trust": [], "loss": {"of": ["kd", "at"]}, "threads": None, "compare": True, "deep": {"er": {"still": 1}}}
    record = read(plant([0.5], config=config))
    expected = {"trust": "[]", "loss.of": '["kd", "at"]', "threads": None, "compare": True, "deep.er.still": 1}
    assert {key: record.settings[key] for key in expected} == expected
    assert settings_of({}) == {}


def test_several_options_of_a_group_are_one_choice_and_none_is_nothing(plant) -> None:
    folder = change(plant([0.5]), choices={"loss": ["kd", "at"], "teacher": None, "sampler": "margin"})
    assert read(folder).choices == {"loss": "kd+at", "teacher": "", "sampler": "margin"}


@pytest.mark.parametrize("key", ["stage", "seed", "choices", "config", "starts"])
def test_an_older_layout_is_refused_by_what_it_lacks(plant, key: str) -> None:
    folder = plant([0.5])
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[key]
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"^this manifest has no {key} .*manifest.json.*older kdal"):
        read(folder)


@pytest.mark.parametrize(
    "damage",
    [
        {"choices": ["margin"]},
        {"choices": {"loss": [1, 2]}},
        {"config": "none"},
        {"config": ["data"]},
        {"starts": []},
        {"starts": ["yesterday"]},
        {"starts": 5},
        {"seed": "three"},
        {"seed": [3]},
    ],
    ids=str,
)
def test_a_manifest_that_says_something_else_is_refused(plant, damage) -> None:
    with pytest.raises(UserError, match=r"^this manifest is damaged .*manifest.json"):
        read(change(plant([0.5]), **damage))


NO_TEXT = b"\xff\xfe\x00"
DAMAGED = {
    ".json": [NO_TEXT, b"", b'{"stage": "al-l', b"[1, 2]"],
    ".csv": [NO_TEXT, b"a,b\n0\n", b"a\n0,1\n", b"a\nx\n"],
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (name, content)
        for name in ("manifest.json", "result.json", "curve.csv", "timings.csv")
        for content in DAMAGED[Path(name).suffix]
    ],
)
def test_a_damaged_file_is_refused_by_its_name(plant, name: str, content: bytes) -> None:
    folder = plant([0.5])
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match="damaged") as refused:
        read(folder)
    assert str(folder / name) in str(refused.value)


@pytest.mark.parametrize("name", ["result.json", "curve.csv"])
def test_a_folder_where_a_file_should_be_is_refused(plant, name: str) -> None:
    folder = plant([0.5])
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(UserError, match=f"not a regular file .*{name}"):
        read(folder)


def test_a_cell_longer_than_a_table_can_have_is_damage(plant) -> None:
    folder = plant([0.5])
    (folder / "curve.csv").write_text("labels\n" + "1" * 200_000 + "\n")
    with pytest.raises(UserError, match="this table is damaged"):
        read(folder)


def test_seconds_end_where_timings_do(plant) -> None:
    """A run that was stopped between the two files has a row of timings more, one that lost some has less."""
    folder = plant([0.5, 0.6])
    (folder / "timings.csv").write_text("round,train_s\n0,1.0\n1,1.0\n2,1.0\n")
    assert read(folder).values("seconds") == [1.0, 2.0]
    (folder / "timings.csv").write_text("round,train_s\n0,1.0\n")
    assert "seconds" not in read(folder).keys


@pytest.mark.parametrize("content", ["", "round,labels\n"])
def test_a_table_without_rows_has_no_rounds(plant, content: str) -> None:
    folder = plant([0.5], done=False)
    (folder / "curve.csv").write_text(content)
    assert read(folder).rounds == []


def test_a_finished_run_of_rounds_that_lost_its_curve_is_refused(plant) -> None:
    folder = plant([0.5, 0.6])
    (folder / "curve.csv").unlink()
    with pytest.raises(UserError, match=r"lost its curve .*curve\.csv"):
        read(folder)


# Finding them.


def test_runs_are_found_at_any_depth_in_the_order_of_their_names(plant, tmp_path: Path) -> None:
    folders = [plant([0.5], seed=seed) for seed in range(3)]
    assert [record.folder for record in find([tmp_path])] == folders
    assert [record.folder for record in find([folders[2], folders[0]])] == [folders[2], folders[0]]


def test_a_run_is_found_once_however_it_is_named(plant, tmp_path: Path, monkeypatch) -> None:
    folder = plant([0.5])
    (tmp_path / "link").symlink_to(folder.parent)
    monkeypatch.chdir(tmp_path)
    names = [folder, folder.parent, Path("runs"), Path("runs/../runs"), Path("link")]
    assert [record.folder for record in find(names)] == [folder]


def test_runs_are_not_looked_for_within_runs_or_hidden_folders(plant, tmp_path: Path) -> None:
    folder = plant([0.5])
    for inside in (folder / "copy", tmp_path / "runs" / ".trash"):
        inside.mkdir()
        (inside / "manifest.json").write_text("{}")
    assert [record.folder for record in find([tmp_path])] == [folder]


def test_a_folder_that_is_none_or_in_which_nothing_has_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, reason in (
        (tmp_path, "nothing has run here"),
        (tmp_path / "no", "no such"),
        (tmp_path / "file", "no such"),
    ):
        with pytest.raises(UserError, match=reason) as refused:
            find([path])
        assert str(path) in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(plant) -> None:
    folder = plant([0.5])
    (folder / "curve.csv").chmod(0)
    with pytest.raises(UserError, match=r"curve\.csv"):
        read(folder)
