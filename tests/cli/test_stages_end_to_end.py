"""Each stage from its command to its files: they are there, they can be read, and they agree with each other."""

import argparse
import json
import re
import struct
from pathlib import Path

import pytest
import torch
from cli.harness import Ended, Kdal
from safetensors.torch import load_file

STAGES = ["al_loop", "train_teacher", "distill", "evaluate"]

OF_EVERY_RUN = [
    ".hydra/config.yaml",
    ".hydra/hydra.yaml",
    ".hydra/overrides.yaml",
    "manifest.json",
    "result.json",
    "run.log",
]
MEASURED = ["confusion.png", "per_class.csv", "reliability.png"]
OWN = {
    "al_loop": [
        *("curve.csv", "curve.png", "ledger.csv", "ledger.jsonl", "metrics.jsonl", "timings.csv"),
        *(f"picks/round_{round:03d}.csv" for round in range(3)),
        *(f"checkpoints/round_{round:03d}.{kind}" for round in range(3) for kind in ("json", "safetensors")),
    ],
    "train_teacher": [*MEASURED, "metrics.jsonl", "checkpoints/teacher.json", "checkpoints/teacher.safetensors"],
    "distill": [
        "metrics.jsonl",
        *(f"checkpoints/{name}.{kind}" for name in ("student", "student_alone") for kind in ("json", "safetensors")),
    ],
    "evaluate": MEASURED,
}


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> tuple[str, Ended]:
    """A stage's name and its run."""
    return request.param, request.getfixturevalue(request.param)


def test_every_stage_ends_well_and_says_nothing_on_stderr(stage):
    _, ended = stage
    assert (ended.code, ended.err) == (0, "")


def test_a_run_folder_holds_what_a_reader_looks_for(stage):
    name, ended = stage
    missing = {*OF_EVERY_RUN, *OWN[name]} - set(ended.run.contents())
    assert missing == set()


def test_the_first_line_and_the_last_name_the_run_folder(stage):
    _, ended = stage
    first, *_, last = ended.out.splitlines()
    folder = str(ended.run.path.relative_to(ended.here))
    assert folder in first
    assert folder in last


def test_what_is_said_is_plain_lines_where_there_is_no_terminal(stage):
    _, ended = stage
    assert not re.findall(r"[^\n -\U0010ffff]", ended.out)


def test_a_picture_is_a_png_large_enough_to_look_at(stage):
    _, ended = stage
    for path in ended.run.path.glob("*.png"):
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert data.endswith(b"IEND\xaeB`\x82")
        assert min(struct.unpack(">II", data[16:24])) >= 400


def test_a_manifest_says_what_was_run_with_what_on_what(stage):
    name, ended = stage
    manifest = json.loads((ended.run.path / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert re.fullmatch("[0-9a-f]{64}", manifest["config_sha256"])
    assert re.fullmatch("[0-9a-f]{64}", manifest["data_sha256"])
    [start] = manifest["starts"]
    words = start["command"].split()
    assert words[:2] == ["kdal", name.replace("_", "-")]
    assert "experiment=smoke" in words
    assert start["versions"]["torch"] == torch.__version__
    assert start["machine"]["device"] == "cpu"
    assert start["machine"]["threads"] == 1


def test_metrics_are_one_json_object_a_line(stage):
    _, ended = stage
    for path in ended.run.path.glob("metrics.jsonl"):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        assert {"what", "step"} <= set.intersection(*map(set, records))


def test_the_json_beside_a_checkpoint_describes_it(stage):
    _, ended = stage
    for path in ended.run.path.glob("checkpoints/*.safetensors"):
        card = json.loads(path.with_suffix(".json").read_text())
        assert card["model"] == {"name": "mlp", "hidden": [128], "dropout": 0.0}
        assert card["classes"] == ["0", "1", "2", "3"]
        assert card["shape"] == {"channels": 1, "height": 8, "width": 8, "classes": 4}
        assert len(card["mean"]) == len(card["std"]) == 1
        assert load_file(path)["fc.weight"].shape == (4, 128)


class TestTheLedgerOfARun:
    def test_labels_are_the_seed_set_and_a_query_a_round(self, al_loop: Ended):
        curve = al_loop.run.table()
        assert [int(row["round"]) for row in curve] == [0, 1, 2]
        assert [int(row["labels"]) for row in curve] == [20 + 20 * round for round in range(3)]

    def test_the_table_for_people_has_a_row_a_label_and_the_curve_counts_them_all(self, al_loop: Ended):
        run = al_loop.run
        paid = run.table("ledger.csv")
        assert [row["purpose"] for row in paid].count("train") == 60
        assert [row["purpose"] for row in paid].count("validation") == 64
        assert len(paid) == 124
        assert float(run.table()[-1]["cost"]) == sum(float(row["cost"]) for row in paid) == 124.0

    def test_no_image_is_paid_for_twice_be_it_for_validation(self, al_loop: Ended):
        bought = al_loop.run.bought()
        assert len(set(bought)) == len(bought) == 124

    @pytest.mark.parametrize("round", range(3))
    def test_the_picks_of_a_round_are_what_it_asked_for_in_that_order(self, al_loop: Ended, round: int):
        run = al_loop.run
        rows = [
            int(row["id"]) for row in run.table("ledger.csv") if (row["round"], row["purpose"]) == (str(round), "train")
        ]
        assert run.picks(round) == run.requested(round) == rows
        assert len(rows) == 20

    def test_a_query_is_picked_from_the_highest_score_down(self, al_loop: Ended):
        for round in (1, 2):
            scores = [float(row["score"]) for row in al_loop.run.table(f"picks/round_{round:03d}.csv")]
            assert scores == sorted(scores, reverse=True)
            assert len(set(scores)) > 1

    def test_the_requests_and_receipts_are_chained(self, al_loop: Ended):
        records = al_loop.run.ledger()
        kinds = [record["kind"] for record in records]
        assert [kind for kind in kinds if kind in ("request", "receipt")] == ["request", "receipt"] * 4
        assert kinds.count("compute") == 6  # to choose and to train, in three rounds
        assert [record["n"] for record in records] == list(range(1, len(records) + 1))
        assert len({record["previous"] for record in records}) == len(records)

    def test_a_row_of_timings_for_every_round(self, al_loop: Ended):
        rows = al_loop.run.table("timings.csv")
        assert [row["round"] for row in rows] == ["0", "1", "2"]
        assert all(float(row["train_s"]) > 0 for row in rows)


class TestDistillation:
    def test_teacher_student_and_student_alone_stand_side_by_side(self, distill: Ended):
        head = next(line for line in distill.out.splitlines() if "student alone" in line and "steps" not in line)
        assert re.split(r"\s{2,}", head.strip())[-3:] == ["teacher", "student", "student alone"]

    def test_the_result_has_figures_of_all_three(self, distill: Ended):
        result = json.loads((distill.run.path / "result.json").read_text())
        for name in ("teacher", "student", "student_alone"):
            assert 0 <= result[name]["accuracy"] <= 1
            assert result[name]["parameters"] == 64 * 128 + 128 + 128 * 4 + 4
            assert result[name]["flops"] > 0
            assert result[name]["images_per_s"] > 0
        assert 0 <= result["student"]["teacher_agreement"] <= 1

    def test_the_student_alone_learnt_without_the_teacher(self, distill: Ended):
        assert distill.run.weights("student") != distill.run.weights("student_alone")

    def test_without_compare_there_are_two_columns(self, shared: Kdal, distill: Ended):
        ended = shared("distill", "experiment=smoke")
        assert "student alone" not in ended.out
        assert ended.run.weights("student") == distill.run.weights("student")
        assert [path.name for path in ended.run.path.glob("checkpoints/*.safetensors")] == ["student.safetensors"]


class TestTheTeacher:
    def test_it_is_the_one_that_other_stages_find(self, train_teacher: Ended, workplace: Path):
        [stored] = workplace.glob("outputs/teachers/*/teacher.safetensors")
        mine = load_file(train_teacher.run.path / "checkpoints" / "teacher.safetensors")
        theirs = load_file(stored)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine | theirs)

    def test_its_card_says_what_it_was_trained_on(self, train_teacher: Ended):
        card = json.loads((train_teacher.run.path / "checkpoints" / "teacher.json").read_text())
        assert card["role"] == "teacher"
        assert card["trained_on"] == {"data": "blobs", "labels": 448, "validation_labels": 64}


class TestEvaluation:
    def test_a_run_scores_exactly_what_its_curve_ended_with(self, al_loop: Ended, evaluate: Ended):
        last = al_loop.run.table()[-1]
        result = json.loads((evaluate.run.path / "result.json").read_text())
        for metric in ("accuracy", "nll", "ece", "precision", "recall", "f1"):
            assert f"{result[metric]:.6f}" == last[f"test_{metric}"]

    def test_a_round_is_evaluated_by_its_file(self, shared: Kdal, al_loop: Ended):
        file = al_loop.run.path / "checkpoints" / "round_000.safetensors"
        ended = shared("evaluate", "experiment=smoke", f"checkpoint={file}")
        result = json.loads((ended.run.path / "result.json").read_text())
        assert f"{result['accuracy']:.6f}" == al_loop.run.table()[0]["test_accuracy"]

    def test_a_checkpoint_of_ours_says_its_architecture_itself(self, shared: Kdal, al_loop: Ended):
        ended = shared("evaluate", "data=blobs", f"checkpoint={al_loop.run.path}")
        assert (ended.code, ended.err) == (0, "")

    def test_weights_from_elsewhere_score_the_same_when_their_architecture_is_named(
        self, shared: Kdal, al_loop: Ended, evaluate: Ended
    ):
        weights = load_file(al_loop.run.path / "checkpoints" / "round_002.safetensors")
        parallel = {f"module.{name}": tensor for name, tensor in weights.items()}
        torch.save({"state_dict": parallel, "args": argparse.Namespace(lr=0.1)}, shared.here / "elsewhere.pt")
        ended = shared("evaluate", "experiment=smoke", "student=mlp", "checkpoint=elsewhere.pt")
        ours, theirs = (json.loads((e.run.path / "result.json").read_text()) for e in (evaluate, ended))
        assert theirs["accuracy"] == ours["accuracy"]
        assert "elsewhere.pt: without the prefix module." in ended.out

    def test_with_a_teacher_it_shows_the_gap_and_the_agreement(self, shared: Kdal, al_loop: Ended):
        ended = shared("evaluate", "experiment=smoke", f"checkpoint={al_loop.run.path}", "teacher=mlp")
        result = json.loads((ended.run.path / "result.json").read_text())
        assert result["teacher_gap"] == result["teacher_accuracy"] - result["accuracy"]
        assert f"{result['teacher_agreement']:.6f}" == al_loop.run.table()[-1]["teacher_agreement"]

    @pytest.mark.parametrize(("split", "images"), [("test", 256), ("validation", 64), ("pool", 448)])
    def test_every_split_can_be_measured(self, shared: Kdal, al_loop: Ended, split: str, images: int):
        ended = shared("evaluate", "experiment=smoke", f"checkpoint={al_loop.run.path}", f"split={split}")
        assert json.loads((ended.run.path / "result.json").read_text())["images"] == images

    def test_the_classes_one_by_one_add_up_to_the_test_set(self, evaluate: Ended):
        rows = evaluate.run.table("per_class.csv")
        assert [row["class"] for row in rows] == ["0", "1", "2", "3"]
        assert sum(int(row["support"]) for row in rows) == 256


def test_two_starts_of_the_same_run_give_the_same_bytes(shared: Kdal, al_loop: Ended):
    assert shared("al-loop", "experiment=smoke").run.outcome() == al_loop.run.outcome()
