"""Hints against a computation by hand: the regressor learns, the student learns through it, sizes may differ.

B batch, c channels, h w places of a map.
"""

import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from kdal_cli.compose.loss import plan_loss
from kdal_cli.dataset import Shape
from kdal_cli.losses.fitnet import Fitnet, fitnet_loss
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(2), torch.arange(0))
BATCH = Batch(torch.arange(2), torch.zeros(2), torch.zeros(2, 1, 1, 1), torch.zeros(0, dtype=torch.int64))
TWO_STAGES = Path(__file__).parents[3] / "conf" / "loss" / "fitnet_two_stage.yaml"


def maps(seed: int, channels: int = 2, side: int = 2) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shown(**maps: Tensor) -> Output:
    return Output(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 2), maps)


def term_of(student: Output, teacher: Output, *layers: str) -> Fitnet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Fitnet(student, teacher, EXAMPLES, layers=layers or ["a"]).double()


def by_hand(term: Fitnet, student: Tensor, teacher: Tensor) -> Tensor:
    """Every output channel: a weighted sum of the input's, over its deviation in the batch, positive part."""
    conv, norm, _ = term.regressors[0]
    sums = torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], student) + conv.bias[:, None, None]
    mean, variance = sums.mean((0, 2, 3), keepdim=True), sums.var((0, 2, 3), correction=0, keepdim=True)
    normal = (sums - mean) / (variance + norm.eps).sqrt()
    hints = normal * norm.weight[:, None, None] + norm.bias[:, None, None]
    return (hints * (hints > 0) - teacher).pow(2).sum((1, 2, 3)) / teacher[0].numel()


def test_the_distance_is_the_mean_square_of_each_image() -> None:
    ours, theirs = maps(0), maps(1)
    pairs = [zip(a, b, strict=True) for a, b in zip(ours.flatten(1).tolist(), theirs.flatten(1).tolist(), strict=True)]
    expected = [math.fsum((s - t) ** 2 for s, t in image) / 8 for image in pairs]
    assert fitnet_loss(ours, theirs).tolist() == pytest.approx(expected, rel=1e-12)


def test_the_regressor_is_a_convolution_of_one_place_a_batch_norm_and_the_positive_part() -> None:
    student, teacher = maps(2), maps(3, channels=5)
    term = term_of(shown(a=student), shown(a=teacher))
    term.regressors[0][1].weight.data, term.regressors[0][1].bias.data = torch.rand(2, 5).double()
    value = term(shown(a=student), shown(a=teacher), BATCH)
    torch.testing.assert_close(value, by_hand(term, student, teacher))


@pytest.mark.parametrize(("ours", "theirs"), [(4, 2), (2, 4), (6, 2), (3, 3)])
def test_the_larger_map_is_averaged_to_the_smaller_before_the_regressor(ours: int, theirs: int) -> None:
    student, teacher = maps(4, side=ours), maps(5, side=theirs)
    term = term_of(shown(a=student), shown(a=teacher))
    small = min(ours, theirs)
    sized = [
        x.unfold(2, x.shape[2] // small, x.shape[2] // small).unfold(3, x.shape[2] // small, x.shape[2] // small)
        for x in (student, teacher)
    ]
    expected = by_hand(term, *(x.mean((4, 5)) for x in sized))
    torch.testing.assert_close(term(shown(a=student), shown(a=teacher), BATCH), expected)


def test_several_hints_add_up() -> None:
    student, teacher = shown(a=maps(6), b=maps(7, 3)), shown(a=maps(8, 4), b=maps(9))
    both = term_of(student, teacher, "a", "b")
    parts = [term_of(student, teacher, name) for name in ("a", "b")]
    for part, regressor in zip(parts, both.regressors, strict=True):
        part.regressors[0].load_state_dict(regressor.state_dict())
    total = sum(part(student, teacher, BATCH) for part in parts)
    torch.testing.assert_close(both(student, teacher, BATCH), total)


def test_a_student_that_says_the_same_in_other_channels_meets_the_hint_by_the_regressor_alone() -> None:
    """The student's maps stay as they are; what learns is the mixture of its channels."""
    student = maps(10, channels=3, side=4)
    mixed = torch.einsum("oi,bihw->bohw", torch.tensor([[1.0, 2.0, 0.0], [0.0, -1.0, 1.0]]).double(), student)
    teacher = (mixed + 0.3).relu()
    term = term_of(shown(a=student), shown(a=teacher))
    optimizer = torch.optim.Adam(term.parameters(), lr=0.1)
    values = []
    for _ in range(100):
        optimizer.zero_grad()
        values.append(term(shown(a=student), shown(a=teacher), BATCH).mean())
        values[-1].backward()
        optimizer.step()
    assert values[-1] < 0.01 * values[0]


def test_in_two_stages_hints_come_alone_first_and_soft_labels_with_the_labels_after_them() -> None:
    section = OmegaConf.to_container(OmegaConf.load(TWO_STAGES))
    section.pop("defaults")  # type: ignore[union-attr, call-arg]
    plan = plan_loss(section, [], Shape(3, 8, 8, 5))  # type: ignore[arg-type]
    stages = {name: term.part.when for name, term in plan.terms.items()}
    assert (plan.first, stages) == (0.5, {"fitnet": "first", "kd": "main"})


def test_the_derivative_is_that_of_finite_differences() -> None:
    student, teacher = maps(11), shown(a=maps(12, channels=3))
    term = term_of(shown(a=student), teacher)
    weight = term.regressors[0][0].weight.detach().clone().requires_grad_()

    def value(student: Tensor, weight: Tensor) -> Tensor:
        call = torch.func.functional_call
        return call(term, {"regressors.0.0.weight": weight}, (shown(a=student), teacher, BATCH))

    assert torch.autograd.gradcheck(value, (student.requires_grad_(), weight))
