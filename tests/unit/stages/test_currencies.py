"""What a run of active learning costs, counted by hand: teacher's answers, operations, the same after a kill."""

import shutil

import pytest
import torch
from killing import Killed, kill_before, outcome

from kdal_cli.lab.guide import Guide
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.pool import Scoring
from kdal_cli.lab.teacher import Manner, Teacher
from kdal_cli.lab.tutors import Standing
from kdal_cli.labels.budget import Budget
from kdal_cli.labels.oracles.simulated import simulated
from kdal_cli.losses.kd import kd
from kdal_cli.network import freeze
from kdal_cli.samplers.disagreement import disagreement
from kdal_cli.samplers.margin import margin
from kdal_cli.samplers.random import random
from kdal_cli.stages.al_loop import Loop
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe

STEPS, BATCH, POOL_BATCH, ROUNDS = 4, 6, 3, 3
STUDENT, TEACHER = 2 * (36 * 8 + 8 * 3), 2 * (36 * 16 + 16 * 3)
"""Operations of a forward pass over one image."""

VISITS = STEPS * (BATCH + POOL_BATCH)
RECIPE = Recipe(steps=STEPS, batch=BATCH, pool_batch=POOL_BATCH, checks=2)


def distilling(*_: object) -> Objective:
    return Objective(0.5, {"kd": Part(kd, 0.5)})


def labels_alone(*_: object) -> Objective:
    return Objective()


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    """Drawing takes longer than all the rest."""
    monkeypatch.setattr("kdal_cli.stages.al_loop.contact_png", lambda *_, **__: b"")


@pytest.fixture
def loop(bench, student, make_network, images):
    """`loop(lab, sampler)`: three rounds of 10 labels with a teacher, in the folder of a lab, where a run may be."""

    def make(
        lab: Lab | None = None,
        sampler=margin,
        objective=distilling,
        manner: Manner | None = None,
        rounds=ROUNDS,
        **more,
    ) -> Loop:
        lab, network = lab or bench(), freeze(make_network(5))
        logits = lab.test_output(network).logits
        teacher = Teacher(network, "mlp", (), {"accuracy": 0.5}, logits, {})
        guide = Guide(manner or Manner(), network)
        oracle = simulated(images.train.labels, 3)
        budget = Budget(10, 10, rounds - 1)
        tutors = Standing(lab, teacher)
        return Loop(lab, student, tutors, guide, objective, sampler, random, budget, oracle, RECIPE, **more)

    return make


@pytest.mark.parametrize("sampler", [margin, disagreement])
def test_answers_are_the_images_that_training_and_sampler_asked_about_each_once(loop, monkeypatch, sampler) -> None:
    run, asked, so_far = loop(sampler=sampler), set(), []

    def spied(answer, ids_of):
        return lambda about: (asked.update(ids_of(about).tolist()), answer(about))[1]

    call, classes_of = LiveTeacher.__call__, LiveTeacher.classes_of
    add, scorer = run.curve.add, run.tutors.after(0, run.ledger).scorer.scorer
    scorer.look, scorer.logits = (spied(answer, lambda ids: ids) for answer in (scorer.look, scorer.logits))
    monkeypatch.setattr(
        LiveTeacher, "__call__", lambda live, batch: (asked.update(batch.ids.tolist()), call(live, batch))[1]
    )
    monkeypatch.setattr(
        LiveTeacher, "classes_of", lambda live, all, ids: (asked.update(ids.tolist()), classes_of(live, all, ids))[1]
    )
    monkeypatch.setattr(run.curve, "add", lambda row: (so_far.append(len(asked)), add(row)))
    assert run.run().column("teacher_answers") == so_far
    assert set(run.ledger.teacher_ids().tolist()) == asked
    assert (so_far[-1] == 80) == (sampler is disagreement)  # which looks at the whole pool


def test_operations_are_counted_by_hand(loop) -> None:
    """Training: three passes of the student and one of the teacher; choosing: one look at what is not labelled yet."""
    run = loop()
    run.run()
    training = VISITS * (3 * STUDENT + TEACHER)
    expected = {(round, "train"): training for round in range(ROUNDS)}
    expected |= {(0, "choose"): 0, (1, "choose"): 70 * STUDENT, (2, "choose"): 60 * STUDENT}
    assert run.ledger.computed == expected
    assert run.curve.column("flops") == [training, 2 * training + 70 * STUDENT, 3 * training + 130 * STUDENT]


def test_without_a_teacher_nobody_is_asked_and_only_the_student_computes(loop) -> None:
    run = loop(objective=labels_alone)
    curve = run.run()
    assert curve.column("teacher_answers") == [0, 0, 0]
    assert run.ledger.computed[0, "train"] == STEPS * BATCH * 3 * STUDENT


def test_a_sampler_that_asks_the_teacher_pays_for_each_image_once(loop) -> None:
    run = loop(sampler=disagreement, objective=labels_alone, price=0.5)
    curve = run.run()
    assert curve.column("teacher_answers") == [0, 70, 70]  # what the second query looks at, the first had looked at
    assert curve.column("cost") == [16 + 10, 16 + 20 + 35, 16 + 30 + 35]
    assert run.ledger.computed[1, "choose"] == 70 * (STUDENT + TEACHER)
    assert run.ledger.computed[2, "choose"] == 60 * STUDENT


def test_a_committee_of_seeds_is_trained_and_looked_at(loop) -> None:
    run = loop(objective=labels_alone, scoring=Scoring("seeds", 3))
    run.run()
    sibling = STEPS * BATCH * 3 * STUDENT
    assert run.ledger.computed[1, "choose"] == 2 * sibling + 3 * 70 * STUDENT


def test_leaving_out_what_the_teacher_is_not_sure_of_asks_about_the_whole_pool(loop) -> None:
    run = loop(manner=Manner(min_confidence=0.4))
    curve = run.run()
    assert curve.column("teacher_answers")[0] == 80
    assert run.ledger.computed[0, "train"] == 70 * TEACHER + VISITS * (3 * STUDENT + TEACHER)


# Killed.


def test_killed_before_any_write_a_run_ends_with_the_same_currencies(loop, bench, monkeypatch) -> None:
    def begun(folder: str) -> Loop:
        return loop(bench(folder), sampler=disagreement, price=0.5, rounds=2)

    whole, wrong = begun("whole"), []
    whole.run()
    writes = len(whole.ledger.path.read_text().splitlines()) + 3 * len(whole.curve)
    for write in range(writes):
        with pytest.raises(Killed):
            kill_before(begun("killed"), monkeypatch, write)
        again = begun("killed")
        again.run()
        if outcome(again) != outcome(whole):
            wrong.append(write)
        shutil.rmtree(again.lab.run.folder)
    assert writes > 15
    assert wrong == []


# Class by class.


def test_the_classes_are_told_round_by_round(loop, images) -> None:
    run = loop(objective=labels_alone)
    curve = run.run()
    rows = run.measurements.per_class.rows
    assert [(row["round"], row["class"]) for row in rows] == [(r, c) for r in range(ROUNDS) for c in range(3)]
    for round in range(ROUNDS):
        mine = [row for row in rows if row["round"] == round]
        assert sum(row["labels"] for row in mine) == curve.rows[round]["labels"]
        assert [row["test_images"] for row in mine] == images.test.labels.all().bincount().tolist()
        right = sum(row["test_recall"] * row["test_images"] for row in mine)
        assert right / len(images.test) == pytest.approx(curve.rows[round]["test_accuracy"], abs=1e-5)
    assert torch.equal(
        run.ledger.bought()[1].bincount(minlength=3), torch.tensor([int(row["labels"]) for row in rows[-3:]])
    )
