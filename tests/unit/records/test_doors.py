"""What only looks like a file of ours is never written to, and nothing is made outside the folder that is held."""

import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdal_cli.errors import KdalError, MachineError, UserError
from kdal_cli.records.files import (
    append,
    cut,
    folder_below,
    hold,
    json_bytes,
    lines,
    read_bytes,
    read_json,
    whole_lines,
    write_bytes,
)

TREASURE = b"four years of work\n"

WRITERS: dict[str, Callable[[Path], None]] = {
    "append": lambda path: append(path, b"a line\n"),
    "cut": lambda path: cut(path, 0),
    "replace": lambda path: write_bytes(path, b"new"),
}


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    path = tmp_path / "treasure.txt"
    path.write_bytes(TREASURE)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return hold(tmp_path / "run")


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def dangling(path: Path, target: Path) -> None:
    target.unlink()
    path.symlink_to(target)


def other_name(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def pipe(path: Path, target: Path) -> None:
    os.mkfifo(path)


PLANTS = [link, dangling, other_name, pipe]


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("write", ["append", "cut"])
def test_nothing_is_written_in_place_into_what_is_planted(run: Path, treasure: Path, plant, write: str) -> None:
    plant(run / "run.log", treasure)
    with pytest.raises(UserError, match="not a regular file"):
        WRITERS[write](run / "run.log")
    assert plant is dangling or treasure.read_bytes() == TREASURE
    assert plant is not dangling or not treasure.exists()


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_where_a_file_is_replaced_goes_and_its_target_stays(run: Path, treasure: Path, plant) -> None:
    plant(run / "curve.csv", treasure)
    write_bytes(run / "curve.csv", b"new")
    assert (run / "curve.csv").read_bytes() == b"new"
    assert not (run / "curve.csv").is_symlink()
    assert plant is dangling or treasure.read_bytes() == TREASURE


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_folder_in_a_run_that_is_a_link_is_not_gone_through(run: Path, tmp_path: Path, write) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_bytes(TREASURE)
    (run / "picks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KdalError):
        write(run / "picks" / "x")
    assert (tmp_path / "elsewhere" / "x").read_bytes() == TREASURE
    assert list((tmp_path / "elsewhere").iterdir()) == [tmp_path / "elsewhere" / "x"]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_folder_that_was_moved_is_not_made_again(run: Path, tmp_path: Path, write) -> None:
    (run / "x").write_bytes(TREASURE)
    run.rename(tmp_path / "moved")
    with pytest.raises(MachineError, match="the folder was moved or replaced"):
        write(run / "x")
    assert not run.exists()
    assert (tmp_path / "moved" / "x").read_bytes() == TREASURE


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_nothing_is_written_into_a_folder_that_has_taken_its_place(run: Path, tmp_path: Path, write) -> None:
    run.rename(tmp_path / "moved")
    run.mkdir()
    (run / "x").write_bytes(TREASURE)
    with pytest.raises(MachineError, match="the folder was moved or replaced"):
        write(run / "x")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == {"x": TREASURE}


def test_a_run_folder_may_be_reached_through_a_link_that_was_typed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    assert hold(tmp_path / "run") == tmp_path / "disk"
    for path in (tmp_path / "run", tmp_path / "disk"):
        write_bytes(path / "picks" / "x", b"new")
        assert (tmp_path / "disk" / "picks" / "x").read_bytes() == b"new"
        (tmp_path / "disk" / "picks" / "x").unlink()


def test_a_store_is_made_with_what_is_below_and_no_link_in_it_is_followed(tmp_path: Path) -> None:
    assert folder_below(tmp_path / "store", "answers", "c0ffee").is_dir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store" / "planted").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        folder_below(tmp_path / "store", "planted", "c0ffee")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.fixture
def anything_goes() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("anything_goes")
def test_nobody_else_may_write_what_is_made_whatever_the_umask_allows(run: Path) -> None:
    append(run / "ledger.jsonl", b"{}\n")
    write_bytes(run / "picks" / "x.csv", b"x")
    folder_below(run.parent / "store", "a")
    made = [run / "ledger.jsonl", run / "picks", run / "picks" / "x.csv", run.parent / "store", run.parent / "store/a"]
    assert [stat.filemode(path.stat().st_mode)[-2] for path in made] == ["-"] * 5
    assert [stat.filemode(path.stat().st_mode)[-5] for path in made] == ["-"] * 5


# Reading.


@pytest.mark.parametrize("plant", [link, pipe])
def test_only_plain_files_are_read(run: Path, treasure: Path, plant) -> None:
    plant(run / "manifest.json", treasure)
    with pytest.raises(UserError, match="not a regular file"):
        read_bytes(run / "manifest.json")


def test_a_file_that_is_too_large_is_refused_before_it_is_read(run: Path) -> None:
    with (run / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)  # it takes no room
    with pytest.raises(UserError, match="1,099,511,627,776 bytes are too many"):
        read_json(run / "manifest.json")


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{", b"{}{}", b"\xff", b'{"a": NaN}', b"[" * 10**5, b'{"a":' * 10**5]
)
def test_json_that_is_no_object_is_refused_by_name(run: Path, content: bytes) -> None:
    (run / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"this file is damaged .*a\.json"):
        read_json(run / "a.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_whatever_is_written_is_valid_json(value: dict) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(json_bytes(value), parse_constant=refuse)


def test_a_figure_that_is_no_finite_number_is_null(run: Path) -> None:
    write_bytes(run / "a.json", json_bytes({"nll": math.inf, "all": [math.nan, 1.5, (-math.inf,)], "n": 10**30}))
    assert read_json(run / "a.json") == {"nll": None, "all": [None, 1.5, [None]], "n": 10**30}


# Logs.


@pytest.mark.parametrize("torn", [b"", b"half a li", b"x" * 200_000])
def test_the_whole_lines_of_a_log_end_where_its_last_one_does(run: Path, torn: bytes) -> None:
    whole = b"one\n" + b"y" * 100_000 + b"\nthree\n"
    (run / "log").write_bytes(whole + torn)
    assert whole_lines(run / "log") == len(whole)
    assert list(lines(run / "log", 200_000)) == whole[:-1].split(b"\n")


def test_a_log_without_a_whole_line_has_none(run: Path) -> None:
    (run / "log").write_bytes(b"half a li")
    assert whole_lines(run / "log") == 0
    assert list(lines(run / "log", 100)) == []


def test_a_line_that_is_too_long_is_refused_before_it_is_in_memory(run: Path) -> None:
    with (run / "log").open("wb") as file:
        file.write(b"short\n")
        file.truncate(1 << 33)
    with pytest.raises(UserError, match="line 2 is longer than 1,000 bytes"):
        list(lines(run / "log", 1000))
