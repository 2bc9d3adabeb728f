"""Files that are whole or not there, tried by killing a writer at every call that it makes of the system."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdal_cli.errors import MachineError
from kdal_cli.records.files import TEMPORARY, hold, sha256, write_bytes, write_json
from kdal_cli.records.folders import inspect

OLD, NEW = b"old" * 1000, b"new" * 5000

# A writer that is killed when it comes to the call named by its second argument, or after it.
WRITER = """
import os, pathlib, signal, sys, io
path, call, when = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
from kdal_cli.records.files import write_bytes
def deadly(real):
    def killed(*args, **keywords):
        if when == "after":
            real(*args, **keywords)
        os.kill(os.getpid(), signal.SIGKILL)
    return killed
def half(handle, mode):
    class Half(io.FileIO):
        def write(self, data):
            super().write(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
    return Half(handle, mode)
if call == "write":
    os.fdopen = half
else:
    setattr(os, call, deadly(getattr(os, call)))
write_bytes(path, b"new" * 5000)
"""


def kill_a_writer(path: Path, call: str, when: str) -> None:
    process = subprocess.run([sys.executable, "-c", WRITER, str(path), call, when], check=False, capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def orphans(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(TEMPORARY)]


@pytest.mark.parametrize(
    ("call", "when", "content"),
    [
        ("write", "half way", OLD),
        ("fsync", "before", OLD),
        ("fsync", "after", OLD),
        ("replace", "before", OLD),
        ("replace", "after", NEW),
    ],
)
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, call: str, when: str, content: bytes
) -> None:
    path = tmp_path / "curve.csv"
    write_bytes(path, OLD)
    kill_a_writer(path, call, when)
    assert path.read_bytes() == content
    assert len(orphans(tmp_path)) == (content == OLD)
    inspect(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_orphans_are_swept_from_every_folder_below_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    kill_a_writer(tmp_path / "deep" / "er" / "x.json", "replace", "before")
    kept = [tmp_path / name for name in (".lock", f"mine{TEMPORARY}.txt", f"not hidden{TEMPORARY}")]
    for path in kept:
        path.write_text("")
    assert len(orphans(tmp_path / "deep")) == 1
    inspect(tmp_path)
    assert orphans(tmp_path / "deep") == []
    assert all(path.exists() for path in kept)


def test_a_file_is_made_with_its_folders_and_replaced(tmp_path: Path) -> None:
    path = hold(tmp_path) / "picks" / "round_000.csv"
    for data in (OLD, NEW):
        write_bytes(path, data)
        assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o644


def test_whoever_has_the_old_file_open_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    write_bytes(path, OLD)
    with path.open("rb") as reader:
        write_bytes(path, NEW)
        assert reader.read() == OLD


def test_a_link_planted_at_the_target_is_replaced_and_not_followed(tmp_path: Path) -> None:
    treasure, path = tmp_path / "treasure", tmp_path / "curve.csv"
    treasure.write_bytes(OLD)
    path.symlink_to(treasure)
    write_bytes(path, NEW)
    assert treasure.read_bytes() == OLD
    assert not path.is_symlink()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_is_told_in_one_line_and_the_old_file_stays(tmp_path: Path, call: str, monkeypatch) -> None:
    path = tmp_path / "curve.csv"
    write_bytes(path, OLD)

    def full(*args: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(MachineError, match=r"cannot write: No space left on device .*: make room"):
            write_bytes(path, NEW)
    assert path.read_bytes() == OLD
    assert orphans(tmp_path) == []


def test_a_folder_that_is_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(MachineError, match="cannot write"):
        write_bytes(tmp_path / "x" / "y", NEW)


def test_json_is_written_for_people(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "name": "猫"})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"b": [1, 2.5], "name": "猫"}
    assert "猫" in text
    assert text.endswith("}\n")


def test_the_hash_of_a_value_depends_on_what_it_is_and_not_on_the_order_of_its_keys() -> None:
    assert sha256({"a": 1, "b": {"c": 2, "d": 3}}) == sha256({"b": {"d": 3, "c": 2}, "a": 1})
    assert len({sha256(value) for value in (1, 1.5, "1", [1], {"1": 1}, None, True, [1, 2], [2, 1])}) == 9
