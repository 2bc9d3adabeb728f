"""Files of a run, harmed between a stop and a resume: what can be made good is, what cannot is refused by name."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.harness import Kdal, RunFolder

from faults.conftest import SMALL, Reference
from faults.sabotage import DieBefore


@pytest.fixture
def stopped(go_on, run: RunFolder) -> RunFolder:
    """SMALL, killed in round 2, between its second and its third snapshot: two rounds are done, three are paid for."""
    killed = go_on(first=DieBefore(3 * 8 + 5, of="training.snapshot")).ended()
    assert killed.code == -signal.SIGKILL
    assert (len(run.table()), len(run.ledger()), (run.path / "training.snapshot").exists()) == (2, 8, True)
    return run


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip_a_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def empty(data: bytes) -> bytes:
    return b""


def garbage(data: bytes) -> bytes:
    return b"\x80\x04not a snapshot" * 100


def of_zeros(data: bytes) -> bytes:
    """What some file systems leave of a file after a power cut."""
    return bytes(len(data))


HARM = [truncate, flip_a_bit, empty, garbage, of_zeros]


def change(path: Path, harm: Callable[[bytes], bytes]) -> None:
    path.write_bytes(harm(path.read_bytes()))


class TestSnapshotsAndCheckpoints:
    def test_a_sound_snapshot_is_where_the_training_goes_on(self, go_on, stopped: RunFolder, reference: Reference):
        ended = go_on().ended()
        assert "step 5/20" not in ended.out.partition("round 3/3")[0]
        assert stopped.outcome() == reference.outcome

    @pytest.mark.parametrize("harm", HARM)
    def test_a_damaged_snapshot_costs_a_minute_and_changes_nothing(self, go_on, stopped, reference, harm):
        change(stopped.path / "training.snapshot", harm)
        ended = go_on().ended()
        assert (ended.code, ended.err) == (0, "")
        assert "step 5/20" in ended.out.partition("round 3/3")[0]
        assert stopped.outcome() == reference.outcome

    def test_a_snapshot_of_another_round_is_not_taken_for_this_one(self, go_on, stopped, reference, tmp_path: Path):
        shutil.copy(stopped.path / "training.snapshot", tmp_path)
        assert go_on(first=DieBefore(3, of="curve.csv")).ended().code == -signal.SIGKILL
        assert len(stopped.table()) == 3
        shutil.copy(tmp_path / "training.snapshot", stopped.path)
        assert go_on().ended().code == 0
        assert stopped.outcome() == reference.outcome

    @pytest.mark.parametrize("harm", [truncate, flip_a_bit, empty])
    def test_a_damaged_checkpoint_of_the_last_round_is_made_again_and_said(self, go_on, stopped, reference, harm):
        change(stopped.path / "checkpoints" / "round_001.safetensors", harm)
        ended = go_on().ended()
        assert (ended.code, ended.err) == (0, "")
        assert "round_001.safetensors" in ended.out
        assert stopped.outcome() == reference.outcome

    @pytest.mark.parametrize("harm", [truncate, flip_a_bit, empty])
    def test_a_damaged_teacher_in_the_store_is_named_and_not_used(self, kdal, go_on, stopped, harm):
        [teacher] = kdal.here.glob("outputs/teachers/*/teacher.safetensors")
        change(teacher, harm)
        before = stopped.contents()
        ended = go_on().ended()
        assert ended.code == 2
        assert "teacher.safetensors" in ended.refusal
        assert stopped.ledger() == RunFolder(stopped.path).ledger()
        assert set(before) <= set(stopped.contents())

    def test_half_written_files_of_killed_writers_are_swept_away(self, go_on, stopped, reference):
        for name in (".curve.csv.x1y2.kdal-tmp", "checkpoints/.round_002.json.ab.kdal-tmp", "picks/.r.csv.q.kdal-tmp"):
            (stopped.path / name).write_bytes(b"half a li")
        assert go_on().ended().code == 0
        assert not [name for name in stopped.contents() if "kdal-tmp" in name]
        assert stopped.outcome() == reference.outcome

    def test_a_torn_line_of_metrics_does_not_spoil_the_next_one(self, go_on, stopped):
        with (stopped.path / "metrics.jsonl").open("a") as file:
            file.write('{"what": "round 2", "st')
        assert go_on().ended().code == 0
        lines = (stopped.path / "metrics.jsonl").read_text().splitlines()
        broken = [line for line in lines if not line.endswith("}") or line.count('"what"') != 1]
        assert broken in ([], ['{"what": "round 2", "st'])


class TestLedger:
    @pytest.mark.parametrize("number", range(1, 9))
    @pytest.mark.parametrize(("old", "new"), [('"labels": [', '"labels": [3, '), ('"round": ', '"round": 1'), ('"ids": [', '"ids": [1')])
    def test_a_line_that_was_changed_by_hand_is_refused_by_its_number(self, go_on, stopped, number, old, new):
        lines = (stopped.path / "ledger.jsonl").read_text().splitlines()
        changed = lines[number - 1].replace(old, new, 1)
        if changed == lines[number - 1]:
            pytest.skip("a request has no labels, a receipt has no ids")
        lines[number - 1] = changed
        (stopped.path / "ledger.jsonl").write_text("\n".join(lines) + "\n")
        before = stopped.contents()
        ended = go_on().ended()
        assert ended.code == 2
        assert "ledger.jsonl" in ended.refusal
        assert f"line {number} " in ended.refusal or f"line {number + 1} " in ended.refusal  # where the chain breaks
        assert stopped.contents()["ledger.jsonl"] == before["ledger.jsonl"]
