"""Factor transfer against a computation by hand and torchdistill's, and its two stages: who learns in which.

B batch, c channels, m channels of a factor, h w places.
"""

import math
from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.losses.ft import Ft, ft_loss
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(2), torch.arange(0))
BATCH = Batch(torch.arange(2), torch.zeros(2), torch.zeros(2, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def maps(seed: int, channels: int = 2, side: int = 2) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shown(**maps: Tensor) -> Output:
    return Output(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 2), maps)


def term_of(student: Output, teacher: Output, *layers: str, **settings: float) -> Ft:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Ft(student, teacher, EXAMPLES, layers=layers or ["a"], **settings).double()  # type: ignore[arg-type]


def coded(coder: nn.Module, x: Tensor) -> Tensor:
    """Through its convolutions, with max(y, y/10) after each."""
    for conv in (module for module in coder.modules() if isinstance(module, nn.Conv2d)):
        y = F.conv2d(x, conv.weight, conv.bias, padding=1)
        x = torch.maximum(y, y / 10)
    return x


def learners(term: Ft) -> set[str]:
    """The parts of the term that received a gradient."""
    return {name.split(".")[0] for name, p in term.named_parameters() if p.grad is not None}


def forget(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def test_the_distance_is_the_mean_absolute_difference_of_the_factors_as_unit_vectors() -> None:
    student, teacher = maps(0, 3), maps(1, 3)
    expected = []
    for s, t in zip(student.flatten(1).tolist(), teacher.flatten(1).tolist(), strict=True):
        ours, theirs = math.hypot(*s), math.hypot(*t)
        expected.append(math.fsum(abs(x / ours - y / theirs) for x, y in zip(s, t, strict=True)) / 12)
    assert ft_loss(student, teacher).tolist() == pytest.approx(expected, rel=1e-12)


def test_one_place_and_two_channels_by_hand() -> None:
    """(3, 4)/5 and (−5, 12)/13: the mean of 3/5 + 5/13 and 12/13 − 4/5."""
    student, teacher = torch.tensor([3.0, 4.0])[None, :, None, None], torch.tensor([-5.0, 12.0])[None, :, None, None]
    assert ft_loss(student, teacher).item() == pytest.approx((3 / 5 + 5 / 13 + 12 / 13 - 4 / 5) / 2, rel=1e-6)


def test_torchdistill_has_the_same_mean() -> None:
    peer = pytest.importorskip("torchdistill.losses.mid_level").FTLoss(1, "mean", "p", "t")
    student, teacher = maps(2, 3), maps(3, 3)
    value = peer({"t": {"output": student}}, {"p": {"output": teacher}})
    torch.testing.assert_close(ft_loss(student, teacher).mean(), value, rtol=1e-12, atol=0)


def test_the_factor_is_signed_and_its_channels_are_told_apart_as_they_are_not_in_the_crd_benchmark() -> None:
    """There a factor is the mean over channels of its squares: −f, and f with its channels swapped, would equal f."""
    factor = maps(4, 3)
    for other in (-factor, factor.flip(1)):
        benchmark = [F.normalize(x.square().mean(1).flatten(1)) for x in (factor, other)]
        assert (benchmark[0] - benchmark[1]).abs().max() < 1e-15
        assert (ft_loss(other, factor) > 0.05).all()


def test_scaling_either_factor_changes_nothing() -> None:
    student, teacher = maps(5), maps(6)
    torch.testing.assert_close(ft_loss(9 * student, 0.01 * teacher), ft_loss(student, teacher))


def test_a_larger_factor_is_averaged_to_the_smaller() -> None:
    large, small = maps(7, side=4), maps(8)
    pooled = large.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    torch.testing.assert_close(ft_loss(large, small), ft_loss(pooled, small))
    torch.testing.assert_close(ft_loss(small, large), ft_loss(small, pooled))


def test_a_factor_that_is_all_zero_leaves_the_value_finite_and_passes_no_gradient() -> None:
    student = torch.zeros(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    ft_loss(student, maps(9)).sum().backward()
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_in_the_main_stage_the_translated_map_is_compared_with_the_encoded_one() -> None:
    student, teacher = maps(10, 3), maps(11, 4)
    term = term_of(shown(a=student), shown(a=teacher))
    expected = ft_loss(coded(term.translators[0], student), coded(term.encoders[0], teacher))
    torch.testing.assert_close(term(shown(a=student), shown(a=teacher), BATCH), expected)


def test_in_the_first_stage_the_teachers_maps_are_reconstructed() -> None:
    student, teacher = maps(12, 3), maps(13, 4)
    term = term_of(shown(a=student), shown(a=teacher), first_weight=0.25)
    again = coded(term.decoders[0], coded(term.encoders[0], teacher))
    expected = 0.25 * (again - teacher).square().sum((1, 2, 3)) / 16
    torch.testing.assert_close(term.first_stage(shown(a=student), shown(a=teacher), BATCH), expected)


def test_the_paraphraser_learns_in_the_first_stage_alone_and_the_translator_with_the_student_after_it() -> None:
    student, teacher = maps(14).requires_grad_(), maps(15)
    term = term_of(shown(a=student), shown(a=teacher))
    term.first_stage(shown(a=student), shown(a=teacher), BATCH).mean().backward()
    assert (learners(term), student.grad) == ({"encoders", "decoders"}, None)
    forget(term.parameters())
    term(shown(a=student), shown(a=teacher), BATCH).mean().backward()
    assert learners(term) == {"translators"}
    assert student.grad.abs().sum() > 0


def test_an_optimizer_of_all_leaves_the_paraphraser_as_it_is_in_the_main_stage_weight_decay_or_not() -> None:
    student, teacher = maps(16), maps(17)
    term = term_of(shown(a=student), shown(a=teacher))
    before = {name: p.detach().clone() for name, p in term.named_parameters()}
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        optimizer = kind(term.parameters(), lr=0.1, weight_decay=0.1)
        optimizer.zero_grad()
        term(shown(a=student), shown(a=teacher), BATCH).mean().backward()
        optimizer.step()
    changed = {name.split(".")[0] for name, p in term.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"translators"}


def test_the_first_stage_makes_a_paraphraser_that_reconstructs() -> None:
    teacher = shown(a=maps(18, channels=4, side=4).relu())
    term = term_of(teacher, teacher, first_weight=1.0)
    optimizer = torch.optim.Adam(term.parameters(), lr=0.01)
    values = []
    for _ in range(200):
        optimizer.zero_grad()
        values.append(term.first_stage(teacher, teacher, BATCH).mean())
        values[-1].backward()
        optimizer.step()
    assert values[-1] < 0.3 * values[0]


@pytest.mark.parametrize(("rate", "channels"), [(0.5, 3), (0.8, 5), (2.0, 12), (0.01, 1)])
def test_a_factor_has_the_rate_of_the_teachers_channels_and_at_least_one(rate: float, channels: int) -> None:
    student, teacher = shown(a=maps(19, 2)), shown(a=maps(20, 6))
    term = term_of(student, teacher, rate=rate)
    assert term.encoders[0](teacher.maps["a"]).shape[1] == channels
    assert term.translators[0](student.maps["a"]).shape[1] == channels


def test_layers_add_up_in_both_stages() -> None:
    names = ("a", "b")
    student, teacher = shown(a=maps(21), b=maps(22, 3)), shown(a=maps(23, 4), b=maps(24))
    term = term_of(student, teacher, *names)
    total, first = torch.zeros(2).double(), torch.zeros(2).double()
    for i, name in enumerate(names):
        one = term_of(student, teacher, name)
        for part in ("encoders", "decoders", "translators"):
            getattr(one, part)[0].load_state_dict(getattr(term, part)[i].state_dict())
        total, first = total + one(student, teacher, BATCH), first + one.first_stage(student, teacher, BATCH)
    torch.testing.assert_close(term(student, teacher, BATCH), total)
    torch.testing.assert_close(term.first_stage(student, teacher, BATCH), first)


def test_the_derivative_is_that_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda s: ft_loss(s, maps(26)), maps(25).requires_grad_())
