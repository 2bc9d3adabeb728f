"""`kdal compress` as it is typed, on the shared run of `kdal al-loop`."""

import json
import signal
from pathlib import Path

import pytest
from cli.harness import Ended, Kdal, RunFolder
from faults.sabotage import DieBefore
from safetensors.torch import load_file

QUICK = ("recipe.steps=12", "threads=1")


@pytest.fixture(scope="module")
def before(al_loop: Ended) -> str:
    return str(al_loop.run.path)


@pytest.fixture(scope="module")
def pruned(shared: Kdal, before: str) -> Ended:
    pytest.importorskip("torch_pruning")
    return shared("compress", before, *QUICK, "hydra.run.dir=pruned")


def test_a_pruned_student_learns_from_the_labels_that_were_bought_and_from_what_it_was(pruned, al_loop) -> None:
    assert (pruned.code, pruned.err) == (0, "")
    bought = [int(row["id"]) for row in al_loop.run.table("ledger.csv") if row["purpose"] == "train"]
    assert json.loads((pruned.run.path / "labelled.json").read_text())["ids"] == bought
    assert f"teacher: mlp hidden=[128] dropout=0.0, from {al_loop.run.path}" in pruned.out
    assert "asked for 50% of the channels, 50.0% of 128 are gone" in pruned.out
    assert "in short: parameters -50%, MACs -50%" in pruned.out
    result = json.loads((pruned.run.path / "result.json").read_text())
    assert result["labels"] == len(bought) == 60
    assert result["student"]["parameters"] < result["before"]["parameters"]


def test_what_reads_a_run_reads_a_pruned_one(shared: Kdal, pruned: Ended) -> None:
    run = str(pruned.run.path)
    accuracy = json.loads((pruned.run.path / "result.json").read_text())["student"]["accuracy"]
    measured = shared("evaluate", run)
    assert (measured.code, measured.err) == (0, "")
    assert json.loads((measured.run.path / "result.json").read_text())["accuracy"] == accuracy
    exported = shared("export", run, "format=torch", "threads=1")
    assert (exported.code, exported.err) == (0, "")
    files = json.loads((pruned.run.path / "export" / "export.json").read_text())["files"]
    assert [file["test_accuracy"] for file in files] == [accuracy, accuracy]
    words = ("experiment=smoke", f"student.weights={run}", "teacher=none", "loss=none", "recipe.steps=2")
    onward = shared("distill", *words, "hydra.run.dir=onward")
    assert (onward.code, onward.err) == (0, "")
    assert load_file(onward.run.path / "checkpoints" / "student.safetensors")["fc.weight"].shape == (4, 64)
    again = shared("compress", "onward", "compress=qat", "loss=none", *QUICK, "hydra.run.dir=again")
    assert (again.code, again.err) == (0, "")
    assert json.loads((again.run.path / "checkpoints" / "student.json").read_text())["model"]["pruned"] is True


@pytest.fixture(scope="module")
def trained_in_8_bits(shared: Kdal, before: str) -> Ended:
    return shared("compress", before, "compress=qat", *QUICK, "hydra.run.dir=qat")


def test_a_student_trained_in_8_bits_is_saved_as_it_was_built(trained_in_8_bits: Ended) -> None:
    ended = trained_in_8_bits
    assert (ended.code, ended.err) == (0, "")
    result = json.loads((ended.run.path / "result.json").read_text())
    assert {"before", "before,_8_bits", "student", "student,_8_bits"} <= result.keys()
    card = json.loads((ended.run.path / "checkpoints" / "student.json").read_text())
    assert card["model"] == {"name": "mlp", "hidden": [128], "dropout": 0.0}
    assert {*load_file(ended.run.path / "checkpoints" / "student.safetensors")} >= {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(("method", "whole"), [("prune", "pruned"), ("qat", "trained_in_8_bits")])
def test_killed_it_goes_on_to_the_same_bits(shared: Kdal, before: str, request, tmp_path: Path, method, whole) -> None:
    whole, words = request.getfixturevalue(whole).run, [before, f"compress={method}", *QUICK]
    killed = shared("compress", *words, f"hydra.run.dir={tmp_path / 'run'}", first=DieBefore(14))
    assert killed.code == -signal.SIGKILL
    assert shared("compress", f"resume={tmp_path / 'run'}").code == 0
    assert RunFolder(tmp_path / "run").weights("student") == whole.weights("student")
    assert not [*(tmp_path / "run").glob("*.snapshot")]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nowhere"], "no such checkpoint (nowhere)"),
        (["RUN", "compress.ratio=1"], "compress.ratio=1: accepted: a finite number from 0 to 0.9"),
        (["RUN", "compress=quantise"], "known: prune, qat"),
        (["RUN", "loss=simkd"], "this loss builds simkd around the student"),
        (["RUN", "teacher=none"], "this loss needs a teacher"),
        (["alone.safetensors", "data=blobs", "data.size=8"], "lies in no run folder"),
    ],
)
def test_what_cannot_be_is_one_line(kdal: Kdal, before: str, here: Path, words, named) -> None:
    newest = sorted(Path(before, "checkpoints").glob("*.safetensors"))[-1]
    (here / "alone.safetensors").write_bytes(newest.read_bytes())
    ended = kdal("compress", *(word.replace("RUN", before) for word in words))
    assert ended.code == 2
    assert named in ended.refusal
