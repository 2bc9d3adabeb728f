"""A class of which the first label comes in a later round: its part of the head is new, and no teacher knows it."""

import pytest
import torch
from torch import Tensor

from kdal_cli.lab.guide import Guide
from kdal_cli.lab.teacher import Manner
from kdal_cli.lab.tutors import Standing
from kdal_cli.labels.budget import Budget
from kdal_cli.labels.oracles.simulated import simulated
from kdal_cli.losses.kd import kd
from kdal_cli.network import classifier
from kdal_cli.stages.al_loop import Loop
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Query

COMES = 2
"""The class that nobody has a label of before round 1."""


@pytest.fixture
def loop(bench, student, images, monkeypatch) -> Loop:
    """Two rounds, taught by the student of the round before; the first one buys nothing of class COMES."""
    monkeypatch.setattr("kdal_cli.stages.al_loop.contact_png", lambda *_, **__: b"")
    truth = images.train.labels.all()

    def of(pool, k: int, wanted: Tensor) -> Query:
        chosen = wanted[pool.ids].nonzero().flatten()[:k]
        return Query(chosen, torch.zeros(len(chosen)))

    lab = bench()
    rest = (Budget(12, 6, 1), simulated(images.train.labels, 3), Recipe(steps=6, batch=6, pool_batch=3, retrain="grow"))
    return Loop(
        lab,
        student,
        Standing(lab, None),
        Guide(Manner(kind="previous")),
        lambda ours, theirs, examples: Objective(0.5, {"kd": Part(kd, 0.5)} if theirs is not None else {}),
        lambda pool, k, generator: of(pool, k, truth == COMES),
        lambda pool, k, generator: of(pool, k, truth != COMES),
        *rest,
    )


def test_its_part_of_the_head_is_new_and_all_else_goes_on(loop: Loop, monkeypatch) -> None:
    begun, fit = [], Loop._fit

    def spy(self: Loop, network, round: int, *address):
        begun.append({name: tensor.clone() for name, tensor in network.body.state_dict().items()})
        return fit(self, network, round, *address)

    monkeypatch.setattr(Loop, "_fit", spy)
    loop.run()
    assert (loop.ledger.first_seen(0), loop.ledger.first_seen(1)) == ([0, 1], [COMES])
    before, fresh = loop._load(0).body, loop.lab.network(loop.student, 1).body
    head = {id(tensor) for tensor in classifier(before).parameters()}
    for name, tensor in before.named_parameters():
        started = begun[1][name]
        if id(tensor) in head:
            assert torch.equal(started[COMES], fresh.get_parameter(name)[COMES])
            assert not torch.equal(started[COMES], tensor[COMES])
            assert torch.equal(started[:COMES], tensor[:COMES])
        else:
            assert torch.equal(started, tensor)


def test_the_student_of_the_round_before_says_what_it_has_learnt(loop: Loop) -> None:
    loop.run()
    teacher = loop._guide(1).teacher
    assert teacher is not None
    assert teacher.known == {0: 0, 1: 1}
    assert loop._guide(0).teacher is None
