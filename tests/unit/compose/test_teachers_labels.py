"""Whose labels a teacher learns from: settled by stage and split, and refused where there are none."""

import pytest

from kdal_cli.compose.teacher import plan_teacher, settled
from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError


@pytest.mark.parametrize(
    ("stage", "own", "learns"),
    [
        ("al-loop", False, "bought"),
        ("al-loop", True, "own"),
        ("distill", False, "pool"),
        ("train-teacher", True, "own"),
    ],
)
def test_auto_takes_images_of_its_own_else_what_is_bought_else_the_pool(stage: str, own: bool, learns: str) -> None:
    assert settled("auto", stage, own=own) == learns


@pytest.mark.parametrize("learns", ["pool", "own", "seed_set", "bought"])
def test_what_is_named_is_taken_where_it_is_there(learns) -> None:
    assert settled(learns, "al-loop", own=True) == learns


@pytest.mark.parametrize(
    ("learns", "stage", "more", "told"),
    [
        ("own", "distill", {}, "the teacher has no images of its own (teacher.learns=own): give it some"),
        ("bought", "distill", {}, "distill buys no labels (teacher.learns=bought): accepted: auto, pool, own"),
        ("seed_set", "train-teacher", {}, "train-teacher buys no labels (teacher.learns=seed_set)"),
        ("bought", "al-loop", {"given": True}, "a checkpoint has learnt already (teacher.learns=bought)"),
        ("bought", "al-loop", {"kind": "previous"}, "teacher.kind=previous is not trained before the student"),
        ("nothing", "distill", {}, "there is nothing that this teacher knows (teacher.learns=nothing)"),
        ("nothing", "train-teacher", {"begun": True}, "there is nothing that this teacher knows"),
        ("nothing", "distill", {"begun": True, "given": True}, "a checkpoint has learnt already"),
    ],
)
def test_labels_that_are_not_there_are_refused_in_a_line(learns, stage: str, more: dict, told: str) -> None:
    with pytest.raises(UserError) as refused:
        settled(learns, stage, own=False, **more)
    assert told in str(refused.value)


def test_weights_alone_teach_where_it_is_asked_for_and_without_labels_by_themselves() -> None:
    assert settled("nothing", "distill", own=False, begun=True) == "nothing"
    assert settled("auto", "pretrain", own=False, begun=True) == "nothing"
    assert settled("auto", "pretrain", own=False) == settled("auto", "distill", own=False, begun=True) == "pool"
    assert settled("auto", "pretrain", own=False, begun=True, given=True) == "pool"


def test_auto_leaves_a_checkpoint_and_a_peer_alone() -> None:
    assert settled("auto", "al-loop", own=False, given=True) == "bought"
    assert settled("auto", "distill", own=False, kind="peer") == "pool"


@pytest.mark.parametrize("model", [None, {"width": 32}, {"name": None, "width": 32}])
def test_a_model_without_a_name_is_no_teacher(model: object) -> None:
    """As with `teacher=none` beside an experiment that sets how wide its teacher is."""
    section = {"kind": "fixed", "model": model, "recipe": {"steps": 5, "batch": 8, "pool_batch": 8, "lr": 0.1}}
    assert plan_teacher(section, Shape(1, 8, 8, 10), lambda *_: pytest.fail("there is none to draw")) is None
