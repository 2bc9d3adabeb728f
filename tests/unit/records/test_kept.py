"""What is kept is found by its form, and nothing else is ever removed."""

import fcntl
import os
from pathlib import Path

import pytest

from kdal_cli.records.kept import kept, remove

IMAGES, HASH = "0123456789abcdef01234567", "0123456789abcdef"


def put(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"x" * 5000)
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    put(tmp_path / "store" / IMAGES, "train.npy", "test.npy", "index.json")
    (tmp_path / "store" / f"{IMAGES}.lock").touch()
    put(tmp_path / "teachers" / HASH, "teacher.safetensors", "teacher.json", ".lock", "seals.json")
    put(tmp_path / "teachers" / "answers" / HASH, "pad0_logits_fp32.rows")
    put(tmp_path / "features" / HASH, "train.rows", "train_photo.rows")
    return tmp_path


def found(folder: Path) -> dict[str, Path]:
    return {one.kind: one.path.relative_to(folder) for one in kept(folder)}


def test_each_kind_is_known_by_its_form(outputs: Path) -> None:
    assert found(outputs) == {
        "features": Path("features", HASH),
        "images": Path("store", IMAGES),
        "answers": Path("teachers", "answers", HASH),
        "teachers": Path("teachers", HASH),
    }
    assert all(one.size >= 5000 for one in kept(outputs))


@pytest.mark.parametrize("kind", ["store", "teachers", "features"])
def test_a_folder_with_anything_else_is_not_ours(outputs: Path, kind: str) -> None:
    name = IMAGES if kind == "store" else HASH
    (outputs / kind / name / "notes.txt").write_text("mine")
    assert {"store": "images"}.get(kind, kind) not in found(outputs)


def test_names_that_are_no_hash_links_and_run_folders_are_passed_over(outputs: Path, tmp_path: Path) -> None:
    put(outputs / "features" / "photos", "train.rows")
    put(outputs / "al-loop" / "run", "manifest.json")
    put(outputs / "al-loop" / "run" / HASH, "train.rows")
    put(outputs / "empty" / HASH)
    (outputs / "linked").symlink_to(outputs / "features")
    (outputs / "features" / HASH.replace("0", "f")).symlink_to(outputs / "features" / HASH)
    assert len(list(kept(outputs))) == 4


def test_a_link_among_its_files_makes_it_not_ours(outputs: Path) -> None:
    (outputs / "features" / HASH / "test.rows").symlink_to("/etc/passwd")
    assert "features" not in found(outputs)


def test_what_is_removed_is_gone_and_its_neighbours_stay(outputs: Path) -> None:
    (outputs / "store" / "mine.txt").write_text("mine")
    for one in list(kept(outputs)):
        assert remove(one)
    assert list(kept(outputs)) == []
    assert (outputs / "store" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("kind", "lock"), [("images", Path("store", f"{IMAGES}.lock")), ("teachers", Path("teachers", HASH, ".lock"))]
)
def test_what_a_process_is_writing_stays(outputs: Path, kind: str, lock: Path) -> None:
    handle = os.open(outputs / lock, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    [one] = [one for one in kept(outputs) if one.kind == kind]
    assert not remove(one)
    assert one.path.exists()
    os.close(handle)
    assert remove(one)
