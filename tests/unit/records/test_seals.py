"""Of every bit that is turned in a sealed file, and in the seals themselves, somebody hears."""

import json
import os
import random
from contextlib import suppress
from pathlib import Path

import pytest

from kdal_cli.errors import UserError
from kdal_cli.records import files, seals
from kdal_cli.records.curve import Table

FILES = ["curve.csv", "classes.csv", "timings.csv", "manifest.json", "result.json"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a table of several rounds and two objects."""
    for name in FILES[:3]:
        table = Table(tmp_path / name)
        for round in range(3):
            table.add({"round": round, "labels": 10 * round, "test_accuracy": 0.5 + round / 7})
    seals.write_json(tmp_path / "manifest.json", {"stage": "al-loop", "config": {"seed": 0, "lr": 0.1}})
    seals.write_json(tmp_path / "result.json", {"test_accuracy": 0.75, "labels": 20})
    return tmp_path


def same(turned: bytes, whole: bytes) -> bool:
    with suppress(ValueError):
        return json.loads(turned) == json.loads(whole)
    return False


@pytest.mark.parametrize("name", [*FILES, seals.NAME])
def test_of_200_turned_bits_every_one_is_found(run: Path, name: str) -> None:
    """Or the file says the same as before: white space in the JSON of the seals is not a figure."""
    whole, rng = (run / name).read_bytes(), random.Random(name)
    for bit in rng.sample(range(8 * len(whole)), 200):
        turned = bytearray(whole)
        turned[bit // 8] ^= 1 << bit % 8
        (run / name).write_bytes(turned)
        if name == seals.NAME and same(turned, whole):
            continue
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            seals.verify(run)
    (run / name).write_bytes(whole)
    seals.verify(run)


def test_what_is_read_is_what_was_written(run: Path) -> None:
    assert seals.read_object(run / "result.json") == {"test_accuracy": 0.75, "labels": 20}
    assert [row["labels"] for row in Table(run / "curve.csv").rows] == [0, 10, 20]


def test_a_table_is_still_one_that_everybody_reads_and_equal_tables_are_equal_bytes(run: Path, tmp_path: Path) -> None:
    assert (run / "curve.csv").read_text().splitlines()[:2] == ["round,labels,test_accuracy", "0,0,0.500000"]
    assert (run / "curve.csv").read_bytes() == (run / "classes.csv").read_bytes()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(8))
def test_killed_at_any_step_of_a_write_the_old_file_or_the_new_one_fits_its_seal(
    run: Path, at: int, monkeypatch
) -> None:
    """And so it is when the next writes are killed as well."""
    steps = 0

    def deadly(real):
        def step(*args, **keywords):
            nonlocal steps
            steps += 1
            if steps == at + 1:
                raise Killed
            return real(*args, **keywords)

        return step

    for value in (1, 2, 3):
        steps = 0
        with monkeypatch.context() as patch:
            for call in ("fsync", "replace"):
                patch.setattr(files.os, call, deadly(getattr(os, call)))
            with suppress(Killed):
                seals.write_json(run / "result.json", {"labels": value})
        seals.verify(run)
        assert seals.read_object(run / "result.json")["labels"] in (20, 1, 2, 3)
    seals.write_json(run / "result.json", {"labels": 4})
    assert seals.read_object(run / "result.json") == {"labels": 4}


def test_a_run_without_seals_is_read_as_it_is_and_gets_them_as_it_goes_on(run: Path) -> None:
    (run / seals.NAME).unlink()
    table = Table(run / "curve.csv")
    assert len(table) == 3
    table.add({"round": 3, "labels": 30, "test_accuracy": 0.9})
    (run / "curve.csv").write_text((run / "curve.csv").read_text().replace("0.9", "0.8"))
    with pytest.raises(UserError, match=r"not what was written there.*curve\.csv"):
        Table(run / "curve.csv")


@pytest.mark.parametrize("name", ["../treasure", "a/b", "/etc/passwd"])
def test_a_seal_of_a_file_elsewhere_is_none(run: Path, name: str) -> None:
    forged = {name: ["0" * 64]}
    (run / seals.NAME).write_bytes(files.json_bytes({"files": forged, "sha256": files.sha256(forged)}))
    with pytest.raises(UserError, match=r"seals\.json"):
        seals.verify(run)
