"""Activation boundaries against loops by hand and torchdistill's copy of the authors' code.

B batch, c channels, h w places of a map, μ the margin, s the student's and t the teacher's neuron.
"""

import math

import pytest
import torch
from torch import Tensor

from kdal_cli.losses.ab import Ab, ab_loss
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(2), torch.arange(0))
BATCH = Batch(torch.arange(2), torch.zeros(2), torch.zeros(2, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def maps(seed: int, channels: int = 2, side: int = 2) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shown(**maps: Tensor) -> Output:
    return Output(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 2), maps)


def term_of(student: Output, teacher: Output, *layers: str, margin: float = 1.0) -> Ab:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Ab(student, teacher, EXAMPLES, layers=layers or ["a"], margin=margin).double()


def neuron(s: float, t: float, margin: float) -> float:
    if t > 0:
        return (s - margin) ** 2 if s < margin else 0.0
    return (s + margin) ** 2 if s > -margin else 0.0


@pytest.mark.parametrize("margin", [0.3, 1.0, 2.5])
def test_a_neuron_costs_the_square_of_what_it_lacks_to_the_margin_on_the_teachers_side(margin: float) -> None:
    student, teacher = 2 * maps(0), maps(1)
    images = zip(student.flatten(1).tolist(), teacher.flatten(1).tolist(), strict=True)
    expected = [math.fsum(neuron(*pair, margin) for pair in zip(*image, strict=True)) for image in images]
    assert ab_loss(student, teacher, margin).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("s", "t", "expected"),
    [(1, 5, 0), (3, 0.1, 0), (0.5, 5, 0.25), (-2, 5, 9), (-1, 0, 0), (-3, -1, 0), (0, 0, 1), (2, -1, 9), (0, 1, 1)],
)
def test_neurons_by_hand(s: float, t: float, expected: float) -> None:
    assert ab_loss(torch.full((1, 1, 1, 1), s), torch.full((1, 1, 1, 1), t), 1.0).item() == expected


def test_torchdistill_agrees_image_by_image() -> None:
    peer = pytest.importorskip("torchdistill.losses.mid_level").AltActTransferLoss
    student, teacher = maps(2), maps(3)
    expected = [peer.compute_alt_act_transfer_loss(s, t, 0.7) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(ab_loss(student, teacher, 0.7), torch.stack(expected), rtol=1e-12, atol=0)


def test_nothing_of_the_teacher_counts_but_the_sign_so_that_its_maps_may_be_behind_their_relu() -> None:
    student, teacher = maps(4), maps(5)
    for alike in (teacher.relu(), 100 * teacher, teacher.sign()):
        assert torch.equal(ab_loss(student, alike, 1.0), ab_loss(student, teacher, 1.0))


def test_the_connector_is_a_mixture_of_channels_normalised_over_the_batch() -> None:
    student, teacher = maps(6, 3), maps(7, 4)
    term = term_of(shown(a=student), shown(a=teacher))
    conv, norm = term.connectors[0]
    mixed = torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], student)
    mean, variance = mixed.mean((0, 2, 3), keepdim=True), mixed.var((0, 2, 3), correction=0, keepdim=True)
    expected = 0.003 * ab_loss((mixed - mean) / (variance + norm.eps).sqrt(), teacher, 1.0)
    torch.testing.assert_close(term(shown(a=student), shown(a=teacher), BATCH), expected)


def test_each_layer_counts_half_of_the_one_above_and_the_last_as_one() -> None:
    names = ("a", "b", "c")
    student = shown(a=maps(8), b=maps(9, 3), c=maps(10, 4))
    teacher = shown(a=maps(11, 3), b=maps(12, 3), c=maps(13))
    term = term_of(student, teacher, *names)
    alone = []
    for name, connector in zip(names, term.connectors, strict=True):
        one = term_of(student, teacher, name)
        one.connectors[0].load_state_dict(connector.state_dict())
        alone.append(one(student, teacher, BATCH))
    torch.testing.assert_close(term(student, teacher, BATCH), alone[0] / 4 + alone[1] / 2 + alone[2])


def test_a_larger_map_of_the_student_is_averaged_to_the_teachers_size() -> None:
    student, teacher = maps(14, side=4), maps(15)
    term = term_of(shown(a=student), shown(a=teacher))
    pooled = student.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    expected = term(shown(a=pooled), shown(a=teacher), BATCH)
    torch.testing.assert_close(term(shown(a=student), shown(a=teacher), BATCH), expected)


def test_of_a_larger_map_of_the_teacher_a_place_is_active_where_any_of_its_places_is() -> None:
    student, teacher = maps(16, side=1), maps(17, side=2).relu()
    term = term_of(shown(a=student), shown(a=teacher))
    anywhere = (teacher > 0).any(3, keepdim=True).any(2, keepdim=True).double()
    expected = term(shown(a=student), shown(a=anywhere), BATCH)
    torch.testing.assert_close(term(shown(a=student), shown(a=teacher), BATCH), expected)


def test_maps_behind_a_relu_can_still_be_on_both_sides_of_the_teachers_boundary() -> None:
    """A student without negative numbers: the connector has them, and learns to separate what can be separated."""
    student = maps(18, channels=4, side=8).relu()
    teacher = student[:, :2] - student[:, 2:]
    term = term_of(shown(a=student), shown(a=teacher))
    optimizer = torch.optim.Adam(term.parameters(), lr=0.1)
    agreement = []
    for _ in range(100):
        optimizer.zero_grad()
        term(shown(a=student), shown(a=teacher), BATCH).mean().backward()
        optimizer.step()
        agreement.append(((term.connectors[0](student) > 0) == (teacher > 0)).double().mean())
    assert agreement[0] < 0.8
    assert agreement[-1] > 0.9


def test_the_derivative_is_that_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda s: ab_loss(s, maps(20), 1.0), maps(19).requires_grad_())
