"""The loss section to an objective: what it resolves to, and each way in which it can be wrong."""

import pytest
import torch
from torch import Tensor

from kdal_cli.compose.loss import plan_loss
from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.losses.vid import Vid
from kdal_cli.models.resnet import resnet
from kdal_cli.network import Network
from kdal_cli.training.objective import Objective
from kdal_cli.training.schedules import Schedule
from kdal_cli.types import Batch, Examples

SHAPE = Shape(3, 8, 8, 5)
EXAMPLES = Examples(torch.arange(5), torch.arange(3))
KD = {"name": "kd", "temperature": 2.0, "soft": True}


def network(width: int) -> Network:
    body = resnet(SHAPE, depth=8, widths=(8, 8, 8, width))
    return Network(body, (0.5,) * 3, (0.25,) * 3)


def batch(labels: int = 3) -> Batch:
    pixels = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(torch.arange(5), torch.zeros(5), pixels, torch.arange(labels))


def losses(objective: Objective, student: Network, teacher: Network, progress: float = 0.0) -> dict[str, Tensor]:
    with torch.no_grad():
        return objective(student(batch().pixels), teacher(batch().pixels), batch(), progress)


def test_a_loss_section_is_weights_and_terms_and_says_so() -> None:
    plan = plan_loss({"weighting": {"form": "convex", "alpha": 0.9}, "kd": KD}, [], SHAPE)
    assert (plan.hard, plan.soft) == pytest.approx((0.1, 0.9))
    assert plan.sentence == "w_hard 0.1, w_soft 0.9: 0.1 ce + 0.9 kd(temperature=2.0)"
    assert plan.needs_teacher


def test_w_soft_multiplies_the_terms_that_are_soft_and_no_others() -> None:
    section = {
        "weighting": {"form": "additive", "alpha": 0.25},
        "kd": {**KD, "weight": 2.0},
        "rkd": {"name": "rkd", "soft": False, "weight": 3.0},
    }
    terms = plan_loss(section, [], SHAPE).terms
    assert (terms["kd"].part.weight, terms["rkd"].part.weight) == (0.5, 3.0)


def test_on_holds_for_every_term_that_does_not_say_otherwise() -> None:
    section = {"on": "pool", "kd": KD, "other": {**KD, "on": "labelled"}}
    terms = plan_loss(section, [], SHAPE).terms
    assert (terms["kd"].part.on, terms["other"].part.on) == ("pool", "labelled")


def test_a_term_may_come_twice_under_names_of_its_own() -> None:
    section = {"cool": KD, "warm": {**KD, "temperature": 8.0}}
    objective = plan_loss(section, [], SHAPE)(network(16), network(24), EXAMPLES)
    values = losses(objective, network(16), network(24))
    assert list(values) == ["ce", "cool", "warm"]
    assert values["cool"] != values["warm"]


def test_a_temperature_may_be_scheduled_and_follows_the_progress() -> None:
    plan = {"schedule": "linear", "start": 8, "end": 2}
    objective = plan_loss({"kd": {**KD, "temperature": plan}}, [], SHAPE)(network(16), network(24), EXAMPLES)
    constant = [
        plan_loss({"kd": {**KD, "temperature": t}}, [], SHAPE)(network(16), network(24), EXAMPLES) for t in (8, 5, 2)
    ]
    student, teacher = network(16).eval(), network(24).eval()
    for progress, expected in zip((0.0, 0.5, 1.0), constant, strict=True):
        value = losses(objective, student, teacher, progress)["kd"]
        torch.testing.assert_close(value, losses(expected, student, teacher)["kd"])


def test_a_scheduled_weight_is_scaled_at_both_ends() -> None:
    plan = {"schedule": "linear", "start": 2, "end": 4}
    terms = plan_loss({"weighting": {"alpha": 0.5}, "kd": {**KD, "weight": plan}}, [], SHAPE).terms
    assert terms["kd"].part.weight == Schedule("linear", end=2.0, start=1.0)


@pytest.mark.parametrize("weight", [1.0, {"schedule": "linear", "start": 0.5, "end": 1}], ids=["fixed", "scheduled"])
def test_with_w_soft_zero_no_teacher_is_needed_however_the_weight_is_given(weight: object) -> None:
    plan = plan_loss({"weighting": {"form": "additive", "alpha": 0.0}, "kd": {**KD, "weight": weight}}, [], SHAPE)
    assert not plan.needs_teacher


def test_a_term_that_learns_is_made_for_the_widths_of_the_two_networks() -> None:
    student, teacher = network(16), network(24)
    section = {"vid": {"name": "vid", "layers": ["layer3"], "initial_variance": 2.0, "soft": False}}
    objective = plan_loss(section, [], SHAPE)(student, teacher, EXAMPLES)
    term = objective.parts["vid"].term
    assert isinstance(term, Vid)
    assert term.means[0][0].weight.shape[:2] == (24, 16)
    assert list(student(batch().pixels).maps) == list(teacher(batch().pixels).maps) == ["layer3"]
    assert {id(p) for p in term.parameters()} == {id(p) for p in objective.parameters()}


def test_making_it_leaves_both_networks_as_they_were() -> None:
    student, teacher = network(16).train(), network(24).eval()
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (student, teacher)]
    plan_loss({"vid": {"name": "vid", "layers": ["layer1"]}}, [], SHAPE)(student, teacher, EXAMPLES)
    assert (student.training, teacher.training) == (True, False)
    for net, old in zip((student, teacher), before, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in net.state_dict().items())


def test_the_teachers_layers_may_have_other_names() -> None:
    student, teacher = network(16), network(24)
    section = {"vid": {"name": "vid", "layers": ["layer1", "layer3"], "teacher_layers": ["layer2", "layer3"]}}
    plan_loss(section, [], SHAPE)(student, teacher, EXAMPLES)
    assert list(student(batch().pixels).maps) == ["layer1", "layer3"]
    assert list(teacher(batch().pixels).maps) == ["layer2", "layer3"]


def test_without_a_teacher_the_objective_is_the_labels_alone() -> None:
    objective = plan_loss({"weighting": {"alpha": 0.5}, "kd": KD}, [], SHAPE)(network(16), None, EXAMPLES)
    assert (objective.hard, objective.parts) == (1.0, {})


def test_who_counts_is_a_question_to_the_teacher_even_in_a_term_that_needs_none() -> None:
    term = {"name": "entropy_minimisation"}
    assert not plan_loss({"entropy": term}, [], SHAPE).needs_teacher
    assert plan_loss({"entropy": {**term, "min_confidence": 0.9}}, [], SHAPE).needs_teacher


def test_the_temperature_of_a_loss_is_the_one_its_terms_agree_on_written_or_not() -> None:
    assert plan_loss({"kd": {"name": "kd"}}, [], SHAPE).temperature == 4.0
    assert plan_loss({"kd": KD, "dkd": {"name": "dkd", "weight": 0}}, [], SHAPE).temperature == 2.0
    assert plan_loss({"kd": KD, "dkd": {"name": "dkd"}}, [], SHAPE).temperature is None


@pytest.mark.parametrize(("on", "images"), [("labelled", 3), ("pool", 2), ("both", 5)])
def test_a_memory_is_for_the_images_that_its_term_sees(on: str, images: int) -> None:
    objective = plan_loss({"crd": {"name": "crd", "on": on}}, [], SHAPE)(network(16), network(24), EXAMPLES)
    assert objective.parts["crd"].term.images == images  # type: ignore[attr-defined]


def test_a_term_that_learns_from_images_that_are_not_there_is_left_out() -> None:
    labelled = Examples(torch.arange(5), torch.arange(5))
    assert not plan_loss({"crd": {"name": "crd", "on": "pool"}}, [], SHAPE)(network(16), network(24), labelled).parts


def test_a_buffer_may_have_any_name_in_a_first_stage_too() -> None:
    section = {"first": 0.5, "crd": {"name": "crd", "when": "both"}}
    objective = plan_loss(section, [], SHAPE)(network(16), network(24), EXAMPLES)
    with torch.no_grad():
        answers = network(16)(batch().pixels), network(24)(batch().pixels)
    assert objective(*answers, batch(), 0.0, first=True)["crd"].isfinite()


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"kd": {"name": "dk"}}, "loss.kd.name=dk: "),
        ({"kd": 0.9}, "loss.kd=0.9: a term is a mapping of name, weight, on, soft, when, standardize, "),
        ({"kd": {"temperature": 4}}, "loss.kd={'temperature': 4}: a term is a mapping of name, "),
        ({"kd": {**KD, "temprature": 4}}, "loss.kd.temprature=4 (no such key): did you mean 'temperature'?"),
        ({"kd": {**KD, "temperature": 0}}, "loss.kd.temperature=0: accepted: a finite number above 0"),
        ({"kd": {**KD, "weight": -1}}, "loss.kd.weight=-1: accepted: a finite number at least 0"),
        ({"kd": {**KD, "on": "all"}}, "loss.kd.on=all: accepted: labelled, pool, both"),
        ({"kd": {**KD, "soft": "yes"}}, "loss.kd.soft=yes: accepted: true or false"),
        ({"weighting": {"alpha": 1.5}, "kd": KD}, "loss.weighting.alpha=1.5: a convex alpha is from 0 to 1"),
        ({"weighting": {"alhpa": 0.5}}, "loss.weighting.alhpa=0.5 (no such key): did you mean 'alpha'?"),
        ({"weighting": {"alpha": 1.0}, "kd": {**KD, "weight": 0}}, "every weight of the loss is zero (loss)"),
        (
            {"vid": {"name": "vid", "layers": "layer1"}},
            "loss.vid.layers=layer1: accepted: all, stages, middle, last or a list, each text",
        ),
        (
            {"kd": {**KD, "temperature": {"schedule": "linear", "start": -1, "end": 2}}},
            "loss.kd.temperature.start=-1: accepted: a finite number above 0",
        ),
        (
            {"kd": {**KD, "temperature": {"schedule": "linaer", "end": 2, "start": 1}}},
            "loss.kd.temperature.schedule=linaer: accepted: constant, linear, cosine",
        ),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_what_is_wrong_in_a_loss_section_is_named_by_its_key(section: dict, line: str) -> None:
    with pytest.raises(UserError) as refused:
        plan_loss(section, [], SHAPE)
    assert str(refused.value).startswith(line)


def test_an_argument_of_a_term_that_learns_cannot_be_scheduled_and_that_is_said_before_anything_is_bought() -> None:
    plan = {"schedule": "linear", "start": 1, "end": 5}
    with pytest.raises(UserError, match=r"^loss\.vid\.initial_variance"):
        plan_loss({"vid": {"name": "vid", "layers": ["layer1"], "initial_variance": plan}}, [], SHAPE)


def test_a_layer_that_is_not_there_is_refused_with_those_that_are() -> None:
    plan = plan_loss({"vid": {"name": "vid", "layers": ["layer9"]}}, [], SHAPE)
    with pytest.raises(UserError, match=r"no module 'layer9' .*layer1, layer2, layer3"):
        plan(network(16), network(24), EXAMPLES)


def test_classes_are_weighed_by_the_labels_of_the_training() -> None:
    section = {"class_weights": "balanced", "kd": KD}
    plan, examples = plan_loss(section, [], SHAPE), Examples(torch.arange(5), torch.tensor([0, 0, 0, 2]))
    weights = plan(network(16), network(24), examples).class_weights
    assert weights is not None
    assert weights.tolist() == pytest.approx([4 / 6, 1, 2, 1, 1])
    assert plan.sentence.endswith("; classes weighed: balanced")
    assert plan(network(16), network(24), Examples(torch.arange(5), torch.empty(0).long())).class_weights is None


def test_another_way_to_weigh_classes_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss\.class_weights=log: accepted: none, balanced, sqrt"):
        plan_loss({"class_weights": "log", "kd": KD}, [], SHAPE)
