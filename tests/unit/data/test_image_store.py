"""The store that images are decoded into: opened again, made again when anything changed, never half made."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdal_cli.cli.storing import store
from kdal_cli.data import image_folder as source
from kdal_cli.data.image_folder import image_folder
from kdal_cli.errors import MachineError, UserError
from kdal_cli.images import pixels as store_files
from kdal_cli.records.files import sha256


def test_a_second_start_opens_the_store_and_decodes_nothing(load, decoded, stores):
    first = load()
    assert len(decoded) == 10
    second = load()
    assert len(decoded) == 10
    assert torch.equal(first.train.pixels, second.train.pixels)
    assert first.test.paths == second.test.paths
    assert (first.mean, first.std, first.classes) == (second.mean, second.std, second.classes)
    assert sorted(path.name for path in stores()[0].iterdir()) == [
        "index.json",
        *("test.npy", "test.rows.npy", "train.npy", "train.rows.npy"),
    ]


def test_the_files_are_ordinary_npy(load, stores):
    data = load()
    assert np.array_equal(np.load(stores()[0] / "train.npy"), data.train.pixels.numpy())


@pytest.mark.parametrize("change", ["content", "added", "removed", "renamed"])
def test_a_changed_folder_is_decoded_again(root, load, decoded, change: str, png):
    load()
    if change == "content":
        png(root / "train/cat/0.png", 77)
    elif change == "added":
        png(root / "train/cat/3.png", 77)
    elif change == "removed":
        (root / "train/cat/0.png").unlink()
    else:
        (root / "train/cat/0.png").rename(root / "train/cat/7.png")
    decoded.clear()
    data = load()
    assert len(decoded) == len(data.train) + len(data.test)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _edit(path: Path) -> None:
    index = json.loads(path.read_text())
    index["body"]["train"]["found"]["broken"]["train/cat/0.png"] = "hidden"
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("train.npy", _flip),
        ("test.npy", _flip),
        ("test.npy", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("train.npy", Path.unlink),
        ("train.rows.npy", _flip),
        ("index.json", Path.unlink),
        ("index.json", _edit),
        ("index.json", lambda path: path.write_text("[]")),
        ("index.json", lambda path: path.write_bytes(b"\xff\x00")),
    ],
)
def test_a_damaged_store_is_noticed_and_decoded_again(load, decoded, ear, name: str, harm, stores):
    first = load()
    kept = first.train.pixels.clone()
    harm(stores()[0] / name)
    second = load()
    assert len(decoded) == 20
    assert ear.said[-1].endswith("are damaged; decoding again")
    assert torch.equal(second.train.pixels, kept)
    assert second.train.labels.all().tolist() == [0, 0, 0, 1, 1, 1]
    load()
    assert len(decoded) == 20


def _forged(change) -> Callable[[Path], None]:
    """An index changed and sealed again, as whoever knows the code can."""

    def harm(path: Path) -> None:
        body = json.loads(path.read_text())["body"]
        change(body)
        path.write_text(json.dumps({"sha256": sha256(body), "body": body}))

    return harm


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["train"]["found"]["broken"].update({"train/cat/0.png": "left out"}),
        lambda body: body["train"]["found"]["broken"].update({"elsewhere.png": "left out"}),
        lambda body: body["train"]["images"].update(sha256=None),
        lambda body: body["train"]["images"].update(size="1"),
        lambda body: body["train"].update(found=[]),
        lambda body: body.update(mean=[0.5]),
        lambda body: body.update(std=["nan"] * 3),
        lambda body: body.update(ranges={"integer": [1]}),
        lambda body: body.update(twins=None),
        lambda body: body.clear(),
    ],
)
def test_a_forged_index_is_noticed(load, decoded, ear, stores, change):
    kept = load().train.pixels.clone()
    _forged(change)(stores()[0] / "index.json")
    again = load()
    assert len(decoded) == 20
    assert torch.equal(again.train.pixels, kept)
    assert again.train.labels.all().tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("name", ["", "index.json", "train.npy", "test.npy"])
def test_links_in_a_store_are_refused_and_what_they_lead_to_stays(load, stores, tmp_path, name: str):
    load()
    inside, outside = stores()[0] / name, tmp_path / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    before = _contents(outside)
    with pytest.raises(UserError, match="links in a store of images are not followed"):
        load()
    assert _contents(outside) == before


def test_a_lock_that_is_a_link_is_not_followed(load, stores, tmp_path):
    load()
    lock = stores()[0].with_suffix(".lock")
    lock.unlink()
    lock.symlink_to(tmp_path / "new")
    with pytest.raises(MachineError, match="cannot be kept"):
        load()
    assert not (tmp_path / "new").exists()


def test_a_pipe_in_a_store_is_damage_and_not_waited_for(load, stores, decoded):
    load()
    (stores()[0] / "train.npy").unlink()
    os.mkfifo(stores()[0] / "train.npy")
    load()
    assert len(decoded) == 20


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_nobody_else_can_write_to_a_store_whatever_the_umask(load, tmp_path, umask: int):
    before = os.umask(umask)
    try:
        load()
    finally:
        os.umask(before)
    paths = [tmp_path / "store", *(tmp_path / "store").rglob("*")]
    assert len(paths) == 8
    assert not [path for path in paths if path.stat().st_mode & 0o022]


def _contents(path: Path) -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in ([path] if path.is_file() else path.iterdir())}


def test_what_a_killed_process_left_is_swept(load, stores):
    load()
    home = stores()[0]
    draft = home.with_name(f"{home.name}.part")
    home.rename(draft)
    (draft / "train.npy").write_bytes(b"half")
    assert len(load().train) == 6
    assert stores()[0] == home


def test_files_that_change_while_they_are_decoded_are_noticed(root, load, monkeypatch, stores, png):
    scan, calls = source.scan, []

    def moving(folder: Path, *rest):
        calls.append(folder)
        if len(calls) == 2:
            png(root / "train/cat/0.png", 123, (9, 9))
        return scan(folder, *rest)

    monkeypatch.setattr(source, "scan", moving)
    with pytest.raises(UserError, match="changed while"):
        load()
    assert stores() == []


def test_a_stop_half_way_leaves_nothing(load, ear, monkeypatch, stores):
    def stop(steps: int, images: int):
        raise KeyboardInterrupt

    monkeypatch.setattr(ear, "advance", stop)
    with pytest.raises(KeyboardInterrupt):
        load()
    assert stores() == []
    assert Image.MAX_IMAGE_PIXELS


def test_a_disk_that_refuses_is_a_machine_error_and_leaves_nothing(load, monkeypatch, stores):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_files.os, "fsync", full)
    with pytest.raises(MachineError, match=r"No space left on device.*data.store"):
        load()
    assert stores() == []


def test_a_store_that_is_a_file_is_a_machine_error(load, tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(MachineError, match="cannot be kept"):
        load()


def test_two_at_once_decode_once_and_the_second_waits(root, tmp_path, ear, decoded):
    """The lock belongs to an open file, so two threads meet at it as two processes do."""
    ears = [type(ear)() for _ in range(2)]
    for each in ears:
        each.advance = lambda steps, images: time.sleep(0.05)

    def start(each):
        return image_folder(each, root=str(root), size=8, store=str(tmp_path / "store"))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(start, ears)
    assert torch.equal(first.train.pixels, second.train.pixels)
    assert len(decoded) == 10
    assert sum(any("waiting for it" in text for text in each.said) for each in ears) == 1


def test_a_whole_check_names_what_is_damaged(load, stores, capsys) -> None:
    load()
    store([str(stores()[0].parent), "--check"])
    assert capsys.readouterr().out == "1 of 1 stores of images are as they were written\n"
    _flip(stores()[0] / "test.npy")
    with pytest.raises(UserError, match=r"1 stores of images are damaged .*kdal store --clear images"):
        store([str(stores()[0].parent), "--check"])
    assert capsys.readouterr().out.startswith("damaged: test.npy in ")
    (stores()[0] / "index.json").write_text("{}")
    with pytest.raises(UserError):
        store([str(stores()[0].parent), "--check"])
    assert capsys.readouterr().out.startswith("damaged: index.json in ")
