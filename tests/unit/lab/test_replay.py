"""What one run bought, another buys again: in the same order, with the same scores, and nothing else."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.errors import MachineError, UserError
from kdal_cli.inference.evidence import Evidence, Meter
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.lab import fingerprint
from kdal_cli.lab.replay import Replay, chosen_by, replay
from kdal_cli.lab.train import Guide
from kdal_cli.lab.tutors import Standing
from kdal_cli.labels.budget import Budget
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.oracle import simulated
from kdal_cli.models.mlp import mlp
from kdal_cli.samplers.margin import margin
from kdal_cli.samplers.random import random
from kdal_cli.stages.al_loop import Loop
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe

RNG = torch.Generator()
QUERIES = ((30, 2, 50), (7, 8), (60, 1))
SCORES = ((0.1, 0.9, 0.5), (2.0, 1.0), (3.0, 4.0))


def manifest(folder: Path, **values) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(values))


@pytest.fixture
def bought(tmp_path: Path, images) -> Path:
    """The folder of a run with a purchase for validation and three queries."""
    folder = tmp_path / "before"
    config = {"sampler": {"name": "badge", "space": "student"}, "student": {"name": "mlp", "hidden": [8]}}
    manifest(folder, data_sha256=fingerprint(images), config=config)
    ledger, oracle = Ledger.open(folder / "ledger.jsonl"), simulated(images.train.labels, 3)
    ledger.buy(0, torch.arange(80, 96), torch.zeros(16), oracle, "validation")
    for round, (ids, scores) in enumerate(zip(QUERIES, SCORES, strict=True)):
        ledger.buy(round, torch.tensor(ids), torch.tensor(scores), oracle)
    return folder


def evidence(ids: list[int], labelled: list[int]) -> Evidence:
    return Evidence(
        ids=torch.tensor(ids, dtype=torch.int64),
        labelled_ids=torch.tensor(labelled, dtype=torch.int64),
        labels=torch.zeros(len(labelled), dtype=torch.int64),
        classes=3,
        scorer=None,  # it looks at nothing
        meter=Meter(),
    )


def loop(lab, student: Blueprint, sampler, budget) -> Loop:
    oracle = simulated(lab.data.train.labels, 3)
    seed_set = sampler if isinstance(sampler, Replay) else random
    recipe = Recipe(steps=2, batch=4, checks=1)
    return Loop(
        lab, student, Standing(lab, None), Guide(), lambda *_: Objective(), sampler, seed_set, budget, oracle, recipe
    )


# Queries.


def test_a_replay_plans_what_was_bought_then(bought: Path, bench) -> None:
    again = replay(bought, bench())
    assert again.plan(80) == again.plan(5) == [3, 2, 2]
    assert again.sentence(80) == f"the 7 labels that {bought} bought, in 3 queries"


@given(order=st.permutations(range(80)))
def test_queries_come_in_the_order_of_then_with_their_scores_however_the_pool_lies(order: list[int]) -> None:
    again = Replay(Path("x"), tuple(map(torch.tensor, QUERIES)), tuple(map(torch.tensor, SCORES)))
    labelled: list[int] = []
    for ids, scores in zip(QUERIES, SCORES, strict=True):
        pool = evidence([id for id in order if id not in labelled], labelled)
        query = again(pool, len(ids), RNG)
        assert pool.ids[query.rows].tolist() == list(ids)
        assert query.scores.tolist() == pytest.approx(list(scores))
        labelled += ids


def test_an_image_that_left_the_pool_is_a_fault_and_not_another_image() -> None:
    again = Replay(Path("x"), (torch.tensor([30, 2]),), (torch.zeros(2),))
    for pool in ([2, 3, 4], [31, 2], []):
        with pytest.raises(MachineError, match="not in the pool"):
            again(evidence(pool, []), 2, RNG)


def test_another_student_buys_the_same_and_the_last_query_is_trained_on(bench, student, images, monkeypatch) -> None:
    monkeypatch.setattr("kdal_cli.stages.al_loop.contact_png", lambda *_, **__: b"")
    first = loop(bench("first"), student, margin, Budget(10, 10, 2))
    first.run()
    manifest(first.lab.run.folder, data_sha256=fingerprint(images))
    lab = bench("second", seed=9)
    other = Blueprint({"name": "mlp", "hidden": [5]}, lambda: mlp(images.shape, hidden=(5,)))
    again = replay(first.lab.run.folder, lab)
    second = loop(lab, other, again, again)
    curve = second.run()
    assert curve.column("labels") == [10, 20, 30]
    for ours, theirs in zip(second.ledger.purchases, first.ledger.purchases, strict=True):
        assert (ours.round, ours.purpose) == (theirs.round, theirs.purpose)
        assert torch.equal(ours.ids, theirs.ids)
        assert torch.equal(ours.scores, theirs.scores)
    assert curve.column("test_nll") != first.curve.column("test_nll")


def test_a_run_that_is_not_over_is_replayed_as_far_as_it_came(bought: Path, bench) -> None:
    path = bought / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:-5])  # its last receipt is being written
    before = path.read_bytes()
    assert replay(bought, bench()).plan(80) == [3, 2]
    assert path.read_bytes() == before


# What cannot be replayed.


def test_a_run_of_other_images_is_refused(bought: Path, bench) -> None:
    manifest(bought, data_sha256="of other images")
    with pytest.raises(UserError, match=r"other images than data=.*replay="):
        replay(bought, bench())


def test_a_run_of_another_pool_is_refused(bought: Path, bench) -> None:
    with pytest.raises(UserError, match="images that are not in this pool"):
        replay(bought, bench(pool=60))  # 60 is the first id outside


def test_a_run_that_bought_nothing_is_refused(bought: Path, bench) -> None:
    (bought / "ledger.jsonl").unlink()
    with pytest.raises(UserError, match="has bought nothing"):
        replay(bought, bench())


def test_a_ledger_that_was_changed_is_refused(bought: Path, bench) -> None:
    path = bought / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"[30, 2, 50]", b"[30, 2, 51]"))
    with pytest.raises(UserError, match=r"^line 3 is not what was written"):
        replay(bought, bench())


@pytest.mark.parametrize("name", ["nowhere", "empty", "before/manifest.json"])
def test_a_folder_without_a_run_is_refused(bought: Path, bench, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    for ask in (lambda folder: replay(folder, bench()), chosen_by):
        with pytest.raises(UserError, match="no run here"):
            ask(tmp_path / name)


# Who chose.


def test_the_sampler_that_chose_is_told_with_the_student_for_which_it_did(bought: Path) -> None:
    assert chosen_by(bought) == {"name": "badge", "space": "student", "for": "mlp hidden=[8]"}


def test_a_replay_of_a_replay_tells_the_first_student(tmp_path: Path) -> None:
    sampler = {"name": "badge", "for": "mlp hidden=[8]"}
    manifest(tmp_path / "again", config={"sampler": sampler, "student": {"name": "resnet", "depth": 8}})
    assert chosen_by(tmp_path / "again") == sampler


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        {},
        {"sampler": {"name": "badge"}},
        {"sampler": "badge", "student": "mlp"},
        {"sampler": {}, "student": {}},
    ],
    ids=str,
)
def test_a_run_without_a_sampler_is_refused(tmp_path: Path, config) -> None:
    manifest(tmp_path / "other", config=config)
    with pytest.raises(UserError, match="that run has no sampler"):
        chosen_by(tmp_path / "other")
