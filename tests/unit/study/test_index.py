"""An index is fast, is never the truth, and is never in the way."""

import json
import os
import resource
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from kdal_cli.errors import UserError
from kdal_cli.records.files import sha256
from kdal_cli.study.compare import compare
from kdal_cli.study.index import NAME, index
from kdal_cli.study.records import Record, find
from kdal_cli.study.study import Study


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def last_only(record: Record) -> dict[str, object]:
    return {**{key: value for key, value in vars(record).items() if key != "keys"}, "rounds": record.rounds[-1:]}


def rows(top: Path) -> dict[str, str]:
    """{folder: stamp} as the file has them."""
    with sqlite3.connect(top / NAME) as connection:
        found = dict(connection.execute("SELECT folder, stamp FROM runs"))
    connection.close()
    return found


def test_it_says_what_the_folders_say_with_the_last_round(plant, top: Path) -> None:
    for seed in range(3):
        plant([0.5, 0.6], seed=seed, sampler="margin", config={"trust": ["a"], "threads": None})
    plant([], done=False)
    for _ in range(2):  # read from the folders, then from the index
        found, damage = index(top)
        assert damage == []
        assert [vars(record) for record in found] == [last_only(record) for record in find([top])]
    assert len(rows(top)) == 4


def test_runs_come_in_the_order_they_started(plant, top: Path) -> None:
    days = ["2026-01-03", "2026-01-01", "2026-01-02"]
    folders = {day: plant([0.5], started=day) for day in days}
    assert [record.folder for record in index(top)[0]] == [folders[day] for day in sorted(days)]


def test_an_empty_folder_has_no_runs_and_no_folder_is_refused(top: Path) -> None:
    assert index(top) == ([], [])
    with pytest.raises(UserError, match="no such folder"):
        index(top / "elsewhere")


def test_only_what_has_changed_is_read_again(plant, top: Path, monkeypatch) -> None:
    folders = [plant([0.5], done=False) for _ in range(3)]
    index(top)
    opened: list[Path] = []
    monkeypatch.setattr("kdal_cli.study.index.read", lambda folder: opened.append(folder) or find([folder])[0])
    assert len(index(top)[0]) == 3
    assert opened == []
    (folders[1] / "result.json").write_text('{"test_accuracy": 0.5}')
    assert [record.done for record in index(top)[0]] == [False, True, False]
    assert opened == [folders[1]]


@pytest.mark.parametrize("name", ["manifest.json", "curve.csv", "timings.csv", "result.json"])
def test_a_change_of_any_file_is_seen(plant, top: Path, name: str) -> None:
    folder = plant([0.5])
    index(top)
    before = rows(top)
    path = folder / name
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    index(top)
    assert rows(top) != before


def test_a_run_that_is_gone_or_moved_is_forgotten(plant, top: Path) -> None:
    one, two = plant([0.5]), plant([0.6])
    index(top)
    shutil.rmtree(one)
    two.rename(top / "moved")
    assert [record.folder.name for record in index(top)[0]] == ["moved"]
    assert list(rows(top)) == ["moved"]


def test_a_folder_of_runs_may_be_moved_with_its_index(plant, top: Path, tmp_path: Path) -> None:
    plant([0.5])
    index(top)
    top.rename(tmp_path / "elsewhere")
    ((record,), _) = index(tmp_path / "elsewhere")
    assert record.folder == tmp_path / "elsewhere" / "run_0000"
    assert record.folder.is_dir()


def test_a_damaged_run_is_left_out_in_words_until_it_is_mended(plant, top: Path) -> None:
    good, bad = plant([0.5]), plant([0.6])
    index(top)
    whole = (bad / "curve.csv").read_text()
    (bad / "curve.csv").write_text("round\nx\n")
    for _ in range(2):
        found, (line,) = index(top)
        assert [record.folder for record in found] == [good]
        assert str(bad / "curve.csv") in line
    (bad / "curve.csv").write_text(whole)
    assert [record.folder for record in index(top)[0]] == [good, bad]


# The file itself.


def damaged(top: Path) -> None:
    """A page in the middle of the file, so that it opens."""
    data = bytearray((top / NAME).read_bytes())
    data[4096:] = b"\xee" * (len(data) - 4096)
    (top / NAME).write_bytes(data)


def another_record(top: Path) -> None:
    with sqlite3.connect(top / NAME) as connection:
        connection.execute("UPDATE runs SET record = replace(record, '0.5', '0.9')")
    connection.close()


def endless(top: Path) -> None:
    """A view in the place of the table, of which there is no end."""
    with sqlite3.connect(top / NAME) as connection:
        connection.execute("DROP TABLE runs")
        rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i, i, i FROM n"
        connection.execute(f"CREATE VIEW runs (folder, stamp, record, sha256) AS {rows}")
    connection.close()


@pytest.mark.parametrize("harm", [damaged, another_record, endless, lambda top: (top / NAME).unlink()])
def test_whatever_happens_to_the_file_the_runs_are_told_and_it_is_made_anew(plant, top: Path, harm) -> None:
    folders = [plant([0.5], config={"note": "x" * 2000}) for _ in range(5)]
    index(top)
    harm(top)
    for _ in range(2):
        found, notes = index(top)
        assert [record.folder for record in found] == folders
        assert [record.rounds[-1]["test_accuracy"] for record in found] == [0.5] * 5
        assert notes == []
    assert len(rows(top)) == 5


def database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (something TEXT)")
        connection.execute("INSERT INTO runs VALUES ('four years of work')")
    connection.close()


STRANGE = {
    "database": database,
    "head": lambda path: path.write_bytes(b"SQLite format 3\x00" + b"\x01" * 100),
    "text": lambda path: path.write_text("no database at all, but long enough to be one: " * 20),
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_not_ours_stays_as_it_is_and_the_runs_are_told_without(plant, top: Path, make, linked: bool) -> None:
    folder, theirs = plant([0.5]), top / NAME
    if linked:
        theirs = top.parent / "treasure"
        (top / NAME).symlink_to(theirs)
    make(theirs)
    before = theirs.read_bytes() if theirs.is_file() else None
    for _ in range(2):
        found, (note,) = index(top)
        assert [record.folder for record in found] == [folder]
        assert str(top / NAME) in note
    assert before is None or theirs.read_bytes() == before
    assert (top / NAME).is_symlink() == linked


def test_an_index_of_another_format_is_made_anew(plant, top: Path) -> None:
    folder = plant([0.5])
    index(top)
    with sqlite3.connect(top / NAME) as connection:
        connection.execute("UPDATE runs SET record = 'of another time'")
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert [record.folder for record in index(top)[0]] == [folder]


def test_nobody_waits_for_an_index_that_another_process_holds(plant, top: Path) -> None:
    plant([0.5])
    index(top)
    plant([0.6])
    holder = sqlite3.connect(top / NAME)
    holder.execute("BEGIN EXCLUSIVE")
    begun = time.monotonic()
    assert len(index(top)[0]) == 2
    assert time.monotonic() - begun < 5
    holder.rollback()
    holder.close()


WHOLE = {"stage": "al-loop", "seed": 0, "done": True, "settings": {}, "choices": {}, "started": "", "rounds": []}
FORGED = ["[]", "{}", "null", '{"folder": "x"}', "[" * 100_000]
FORGED += [json.dumps({**WHOLE, **part}) for part in ({"stage": 1}, {"settings": {"a": {}}}, {"rounds": [7]})]
FORGED += [json.dumps({**WHOLE, "rounds": [{"a": "b"}]})]


@pytest.mark.parametrize("record", FORGED)
def test_a_row_that_somebody_forged_is_read_from_its_run(plant, top: Path, record: str) -> None:
    folder = plant([0.5])
    index(top)
    ((_, stamp),) = rows(top).items()
    with sqlite3.connect(top / NAME) as connection:
        connection.execute("UPDATE runs SET record = ?, sha256 = ?", (record, sha256([stamp, record])))
    connection.close()
    ((found,), notes) = index(top)
    assert (found.folder, found.stage, found.rounds[-1]["test_accuracy"], notes) == (folder, "al-loop", 0.5, [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_index_that_may_not_be_written_is_done_without(plant, top: Path) -> None:
    plant([0.5])
    index(top)
    plant([0.6])
    (top / NAME).chmod(0o444)
    top.chmod(0o555)
    try:
        assert len(index(top)[0]) == 2
    finally:
        top.chmod(0o755)


# A thousand runs.


@pytest.fixture
def thousand(plant, top: Path) -> Path:
    """Twenty cells of fifty seeds, ten rounds each, with a configuration as long as a real one."""
    settings = {"recipe": {f"key_{n}": n / 7 for n in range(80)}}
    for seed in range(50):
        for sampler in ("random", "margin", "badge", "coreset", "typiclust"):
            for loss in ("none", "kd", "dist", "at"):
                y = [0.3 + 0.05 * round + 0.001 * (seed % 7) + 0.01 * len(sampler) for round in range(10)]
                plant(y, seed=seed, sampler=sampler, loss=loss, config=settings)
    return top


@pytest.mark.slow
def test_a_thousand_runs_are_compared_and_listed_in_seconds_and_little_memory(thousand: Path) -> None:
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def compared() -> Study:
        return compare(find([thousand]))

    for work, seconds in ((compared, 5), (lambda: index(thousand), 5), (lambda: index(thousand), 2)):
        begun = time.process_time()
        found = work()
        assert time.process_time() - begun < seconds
        told = found.records if isinstance(found, Study) else found[0]
        assert len(told) == 1000
    assert [len(entry.cell.runs) for entry in compared().blocks[0].entries] == [50] * 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held < 500_000  # KiB
