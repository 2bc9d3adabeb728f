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


def changed(before: dict[str, bytes], run: RunFolder) -> set[str]:
    """Files that are not what they were."""
    after = run.contents()
    return {name for name in before if after.get(name) != before[name]}


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
    def test_a_damaged_teacher_in_the_store_is_named_and_trained_again(self, kdal: Kdal, go_on, run, reference, harm):
        go_on(first=DieBefore(5, of="curve.csv")).ended()
        [teacher] = kdal.here.glob("outputs/teachers/*/teacher.safetensors")
        whole = teacher.read_bytes()
        change(teacher, harm)
        ended = go_on().ended()
        assert (ended.code, ended.err) == (0, "")
        assert "teacher.safetensors" in ended.out
        assert teacher.read_bytes() == whole
        assert run.outcome() == reference.outcome

    def test_half_written_files_of_killed_writers_are_swept_away(self, go_on, stopped, reference):
        for name in (".curve.csv.x1y2.kdal-tmp", "checkpoints/.round_002.json.ab.kdal-tmp", "picks/.r.csv.q.kdal-tmp"):
            (stopped.path / name).write_bytes(b"half a li")
        assert go_on().ended().code == 0
        assert not stopped.half_written()
        assert stopped.outcome() == reference.outcome

    def test_a_torn_line_of_metrics_does_not_spoil_the_next_one(self, go_on, stopped):
        with (stopped.path / "metrics.jsonl").open("a") as file:
            file.write('{"what": "round 2", "st')
        assert go_on().ended().code == 0
        lines = (stopped.path / "metrics.jsonl").read_text().splitlines()
        assert [line for line in lines if line.count('"what"') != 1] == []


def another_value(values: list) -> None:
    """One id, label or cost is not what it was, and nothing else is."""
    if isinstance(values[0], list):
        another_value(values[0])
    else:
        values[0] += 1


CHANGES = [(number, key) for number in (1, 4, 9, 14) for key in ("ids", "scores")]
CHANGES += [(number, key) for number in (2, 5, 10, 15) for key in ("labels", "costs")]
CHANGES += [(6, "ids")]
"""Of requests, of receipts, and of what the teacher was asked."""


class TestTheLedger:
    @pytest.mark.parametrize(("number", "key"), CHANGES)
    def test_a_line_that_was_changed_by_hand_is_refused_by_its_number(self, go_on, stopped, number: int, key: str):
        records = stopped.ledger()
        another_value(records[number - 1][key])
        self.rewrite(stopped, records)
        refusal = self.refused(go_on, stopped)
        assert f"line {number} " in refusal or f"line {number + 1} " in refusal  # the next one follows from it no more

    @pytest.mark.parametrize("number", [1, 4, 7])
    def test_a_line_that_was_taken_out_is_missed(self, go_on, stopped, number: int):
        records = stopped.ledger()
        del records[number - 1]
        self.rewrite(stopped, records)
        assert f"line {number} " in self.refused(go_on, stopped)

    def test_two_purchases_that_changed_places_are_noticed(self, go_on, stopped):
        records = stopped.ledger()
        self.rewrite(stopped, records[:2] + records[4:6] + records[2:4] + records[6:])
        assert "line 3 " in self.refused(go_on, stopped)

    @pytest.mark.parametrize("kept", [0, 2, 4])
    def test_a_ledger_that_has_fewer_rounds_than_the_curve_is_refused(self, go_on, stopped, kept: int):
        self.rewrite(stopped, stopped.ledger()[:kept])
        self.refused(go_on, stopped)

    def test_a_ledger_that_is_gone_is_not_begun_anew_under_a_curve(self, go_on, stopped):
        (stopped.path / "ledger.jsonl").unlink()
        ended = go_on().ended()
        assert ended.code == 2
        assert "ledger.jsonl" in ended.refusal
        assert not (stopped.path / "ledger.jsonl").exists()

    def rewrite(self, run: RunFolder, records: list[dict]) -> None:
        (run.path / "ledger.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    def refused(self, go_on, run: RunFolder) -> str:
        """What resuming says; it must leave everything that was bought and made as it is."""
        before = run.contents()
        ended = go_on().ended()
        assert ended.code == 2
        assert "ledger.jsonl" in ended.refusal
        assert changed(before, run) <= {"manifest.json", "run.log", "seals.json"}
        return ended.refusal


SEALED = ["curve.csv", "classes.csv", "timings.csv", "manifest.json", "result.json", "seals.json"]


@pytest.mark.parametrize("name", SEALED)
def test_a_figure_that_was_changed_is_refused_by_name_and_by_everybody(reference, tmp_path: Path, name: str):
    kdal = Kdal(reference.run.path.parents[2])  # where it was started
    run = RunFolder(shutil.copytree(reference.run.path, tmp_path / "runs" / "run"))
    change(run.path / name, flip_a_bit)
    before = run.contents()
    for words in (["al-loop", f"resume={run.path}"], ["report", str(run.path.parent)]):
        ended = kdal(*words)
        assert ended.code == 2
        assert name in ended.refusal
    listed = kdal("runs", str(run.path.parent))
    assert "0 of 0 runs" in listed.out
    assert f"left out: {'this' if name == 'seals.json' else 'this is not what was written there'}" in listed.out
    assert run.contents() == before


class TestTheFolder:
    def test_a_run_that_is_done_says_so_and_changes_no_byte(self, reference: Reference):
        before = reference.run.contents()
        again = Kdal(reference.run.path.parents[2])("al-loop", f"resume={reference.run.path}")
        assert (again.code, again.err) == (0, "")
        assert "done" in again.out
        assert reference.run.contents() == before

    def test_a_run_goes_on_where_it_was_moved_to(self, kdal: Kdal, stopped: RunFolder, reference, tmp_path: Path):
        moved = RunFolder(stopped.path.rename(tmp_path / "moved"))
        again = kdal("al-loop", f"resume={moved.path}")
        assert (again.code, again.err) == (0, "")
        assert moved.outcome() == reference.outcome

    def test_a_run_goes_on_in_the_folder_that_it_was_started_in(self, go_on, stopped, reference, tmp_path: Path):
        """Its teacher and its images are seen from there; from anywhere else it says where to go."""
        here = stopped.path.parent
        before = stopped.contents()
        (tmp_path / "elsewhere").mkdir()
        again = Kdal(tmp_path / "elsewhere")("al-loop", "resume=../here/run")
        assert again.code == 2
        assert f"cd {here} && kdal al-loop resume={stopped.path}" in again.refusal
        assert not list((tmp_path / "elsewhere").iterdir())
        assert stopped.contents() == before
        assert go_on().ended().code == 0
        assert stopped.outcome() == reference.outcome

    @pytest.mark.parametrize("name", ["config.yaml", "hydra.yaml", "overrides.yaml"])
    def test_killed_before_what_was_asked_for_is_put_down_one_line_says_that_there_is_nothing_to_resume(
        self, kdal: Kdal, here: Path, name: str
    ):
        kdal(*SMALL, "hydra.run.dir=run", first=DieBefore(1, of=name))
        assert not (here / "run" / ".hydra" / name).exists()
        ended = kdal("al-loop", "resume=run")
        if name == "overrides.yaml":  # which is for people alone
            assert (ended.code, ended.err) == (0, "")
        else:
            assert ended.code == 2
            assert "run" in ended.refusal

    def test_every_start_is_on_record(self, go_on, stopped):
        go_on().ended()
        starts = json.loads((stopped.path / "manifest.json").read_text())["starts"]
        assert [start["command"].split()[2].partition("=")[0] for start in starts] == ["experiment", "resume"]
