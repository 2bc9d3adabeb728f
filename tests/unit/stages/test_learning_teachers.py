"""A teacher that learns from what the run buys: from these labels and no other, and the same after a kill."""

import shutil

import pytest
import torch
from killing import Killed, kill_before, outcome

from kdal_cli.lab import tutors as module
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.guide import Guide
from kdal_cli.lab.teacher import Manner, Member, TeacherPlan
from kdal_cli.lab.tutors import Learning
from kdal_cli.labels.budget import Budget
from kdal_cli.labels.oracle import simulated
from kdal_cli.losses.kd import kd
from kdal_cli.models.mlp import mlp
from kdal_cli.records import checkpoint
from kdal_cli.samplers.disagreement import disagreement
from kdal_cli.samplers.random import random
from kdal_cli.stages.al_loop import Loop
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe, Until
from kdal_cli.types import Examples

STUDENT = Recipe(steps=4, batch=6, pool_batch=3, checks=2)
TEACHER = Recipe(until=Until(floor=4, ceiling=12, decay=2), batch=6, checks=1)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    monkeypatch.setattr("kdal_cli.stages.al_loop.contact_png", lambda *_, **__: b"")


@pytest.fixture
def loop(bench, student, images):
    """`loop(folder, learns=…)`: three rounds of 10 labels; the sampler asks the teacher."""

    def make(folder: str = "run", learns="bought", seeds: tuple[int, ...] = (0,), recipe: Recipe = TEACHER) -> Loop:
        lab = bench(folder)
        blueprint = Blueprint({"name": "mlp", "hidden": [16]}, lambda: mlp(images.shape, hidden=(16,)))
        plan = TeacherPlan(Manner(learns=learns), tuple(Member(blueprint, recipe, seed) for seed in seeds))
        tutors, guide = Learning(lab, plan), Guide(plan.manner, asked="logits")
        oracle, budget = simulated(images.train.labels, 3), Budget(10, 10, 2)

        def distilling(*_: object) -> Objective:
            return Objective(0.5, {"kd": Part(kd, 0.5)})

        return Loop(lab, student, tutors, guide, distilling, disagreement, random, budget, oracle, STUDENT)

    return make


@pytest.fixture
def learnt(monkeypatch) -> list[Examples]:
    """What teachers were trained on, in order."""
    seen: list[Examples] = []
    learn = module.learn

    def spied(lab, network, recipe, examples, *rest):
        seen.append(examples)
        return learn(lab, network, recipe, examples, *rest)

    monkeypatch.setattr(module, "learn", spied)
    return seen


@pytest.mark.parametrize(("learns", "labels"), [("bought", [10, 20, 30]), ("seed_set", [10])])
def test_it_learns_from_the_labels_that_were_bought_and_from_no_other(learns, labels, loop, learnt, images) -> None:
    run = loop(learns=learns)
    curve = run.run()
    assert [len(examples.labels) for examples in learnt] == labels
    for round, examples in enumerate(learnt):
        ids, bought = run.ledger.bought(through=round)
        assert torch.equal(examples.ids, ids)
        assert torch.equal(examples.labels, bought)
    assert curve.column("teacher_labels") == (labels * 3)[:3]
    assert curve.column("labels_with_teacher") == curve.column("labels") == [10, 20, 30]
    assert curve.column("cost") == [16 + 10, 16 + 20, 16 + 30]  # once, whoever learns from them


def test_its_accuracy_is_a_curve_of_its_own(loop) -> None:
    run = loop()
    told = run.run().column("teacher_test_accuracy")
    cards = [checkpoint.read(run.tutors._path(0, round)).card for round in range(3)]
    assert told == pytest.approx([card.metrics["accuracy"] for card in cards], abs=1e-6)
    assert len(set(told)) > 1


def test_the_student_of_a_round_is_taught_by_the_teacher_of_that_round_and_leaves_it_as_it_was(
    loop, monkeypatch
) -> None:
    run, taught = loop(), []
    fit = run._fit

    def spied(network, round, *address):
        teacher = run._guide(round).teacher
        before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
        done = fit(network, round, *address)
        assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
        assert not teacher.training
        taught.append(before)
        return done

    monkeypatch.setattr(run, "_fit", spied)
    run.run()
    for round, weights in enumerate(taught):
        saved = checkpoint.read(run.tutors._path(0, round)).weights
        assert all(torch.equal(weights[f"body.{name}"], tensor) for name, tensor in saved.items())


def test_killed_before_any_write_it_ends_the_same(loop, monkeypatch) -> None:
    whole, wrong = loop("whole"), []
    whole.run()
    writes = len(whole.ledger.path.read_text().splitlines()) + 3 * len(whole.curve)
    for write in range(writes):
        with pytest.raises(Killed):
            kill_before(loop("killed"), monkeypatch, write)
        again = loop("killed")
        again.run()
        if outcome(again) != outcome(whole):
            wrong.append(write)
        shutil.rmtree(again.lab.run.folder)
    assert writes > 15
    assert wrong == []


def test_a_damaged_file_is_trained_again_to_the_same_bits(loop) -> None:
    run = loop()
    run.run()
    path = run.tutors._path(0, 1)
    before = path.read_bytes()
    path.write_bytes(before[:-7] + b"damaged")
    assert loop().tutors.after(1, run.ledger) is not None
    assert path.read_bytes() == before


def test_several_of_other_seeds_are_averaged_and_one_may_go_on_from_the_round_before(loop, learnt) -> None:
    run = loop(seeds=(0, 1), recipe=Recipe(steps=3, batch=6, retrain="warm"))
    run.run()
    assert [len(examples.labels) for examples in learnt] == [10, 10, 20, 20, 30, 30]
    tutor = run.tutors.after(2, run.ledger)
    assert tutor.teacher.name.startswith("mean logits of 2")
    assert tutor.teacher.labels_of(run.lab.data.name) == 30
    cold = loop("cold", recipe=Recipe(steps=3, batch=6))
    cold.run()
    first, second = (one.tutors._path(0, 1).read_bytes() for one in (run, cold))
    assert first != second
