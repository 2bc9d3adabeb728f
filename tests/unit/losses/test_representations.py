"""NT-Xent, BYOL and Barlow Twins between student and teacher: loops by hand, limits, and what leaves them unchanged.

B batch, D features, d dimensions of an embedding.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from kdal_cli.losses.barlow_twins import BarlowTwins, barlow_twins_loss, standardised
from kdal_cli.losses.byol import Byol, byol_loss
from kdal_cli.losses.nt_xent import NtXent, nt_xent_loss
from kdal_cli.types import Batch, Examples, Output

EXAMPLES = Examples(torch.arange(4), torch.arange(0))
BATCH = Batch(torch.arange(4), torch.zeros(4), torch.zeros(4, 1, 1, 1), torch.zeros(0, dtype=torch.int64))
TERMS = {"nt_xent": NtXent, "byol": Byol, "barlow_twins": BarlowTwins}
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt_xent": lambda s, t: nt_xent_loss(s, t, 0.5),
    "byol": byol_loss,
    "barlow_twins": lambda s, t: barlow_twins_loss(s, t, 0.05),
}
every = pytest.mark.parametrize("name", LOSSES)


def rows(seed: int, batch: int = 4, width: int = 3) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(seed: int, width: int = 3) -> Tensor:
    return torch.linalg.qr(rows(seed, width, width))[0]


def outputs(seed: int = 0) -> tuple[Output, Output]:
    one, two = rows(seed, 4, 5), rows(seed + 1, 4, 3)
    return Output(torch.zeros(4, 2), one), Output(torch.zeros(4, 2), two)


def term_of(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = {"hidden": 8} if name == "byol" else {}
        return TERMS[name](*outputs(), EXAMPLES, **settings).double()


def cosine(one: list[float], two: list[float]) -> float:
    dot = math.fsum(a * b for a, b in zip(one, two, strict=True))
    return dot / math.sqrt(math.fsum(a * a for a in one) * math.fsum(b * b for b in two))


# NT-Xent.


@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
def test_nt_xent_is_the_mean_of_both_directions_by_hand(tau: float) -> None:
    student, teacher = rows(0), rows(1)
    both = student.tolist() + teacher.tolist()

    def from_(anchor: int, partner: int) -> float:
        powers = {x: math.exp(cosine(both[anchor], both[x]) / tau) for x in range(8) if x != anchor}
        return -math.log(powers[partner] / math.fsum(powers.values()))

    expected = torch.tensor([(from_(b, b + 4) + from_(b + 4, b)) / 2 for b in range(4)], dtype=torch.float64)
    torch.testing.assert_close(nt_xent_loss(student, teacher, tau), expected, rtol=1e-12, atol=1e-12)


def test_nt_xent_of_embeddings_that_are_all_the_same_is_the_log_of_the_others() -> None:
    same = rows(2, 1).expand(4, 3)
    torch.testing.assert_close(nt_xent_loss(same, same, 0.1), torch.full((4,), math.log(7), dtype=torch.float64))


def test_nt_xent_of_one_image_tells_it_from_nothing() -> None:
    torch.testing.assert_close(nt_xent_loss(rows(3, 1), rows(4, 1), 0.1), torch.zeros(1, dtype=torch.float64))


def test_nt_xent_vanishes_as_tau_does_where_each_is_nearest_to_its_partner() -> None:
    axes = torch.eye(4, dtype=torch.float64)
    assert nt_xent_loss(axes, axes + 0.1 * axes.roll(1, 0), 0.02).max() < 1e-12


def test_nt_xent_is_unchanged_by_a_rotation_of_both_and_a_scale_of_each() -> None:
    student, teacher, turn = rows(5), rows(6), rotation(7)
    value = nt_xent_loss(student, teacher, 0.3)
    torch.testing.assert_close(nt_xent_loss(2 * student @ turn, 0.1 * teacher @ turn, 0.3), value)
    assert not torch.allclose(nt_xent_loss(student @ turn, teacher, 0.3), value)


def test_nt_xent_is_the_same_whichever_of_the_two_is_the_student() -> None:
    student, teacher = rows(8), rows(9)
    torch.testing.assert_close(nt_xent_loss(student, teacher, 0.3), nt_xent_loss(teacher, student, 0.3))


# BYOL.


def test_byol_is_two_minus_twice_the_cosine() -> None:
    predicted, teacher = rows(10), rows(11)
    pairs = zip(predicted.tolist(), teacher.tolist(), strict=True)
    expected = torch.tensor([2 - 2 * cosine(one, two) for one, two in pairs], dtype=torch.float64)
    torch.testing.assert_close(byol_loss(predicted, teacher), expected, rtol=1e-12, atol=1e-12)


def test_byol_is_0_in_the_same_direction_2_at_a_right_angle_and_4_in_the_opposite_one() -> None:
    axis = torch.tensor([[3.0, 4.0]] * 3)
    others = torch.tensor([[6.0, 8.0], [-4.0, 3.0], [-0.3, -0.4]])
    torch.testing.assert_close(byol_loss(axis, others), torch.tensor([0.0, 2.0, 4.0]))


def test_byol_is_unchanged_when_either_side_is_scaled_and_both_are_rotated() -> None:
    predicted, teacher, turn = rows(12), rows(13), rotation(14)
    torch.testing.assert_close(byol_loss(5 * predicted @ turn, 0.2 * teacher @ turn), byol_loss(predicted, teacher))


def test_byol_pulls_at_right_angles_to_the_prediction() -> None:
    predicted = rows(15).requires_grad_()
    byol_loss(predicted, rows(16)).sum().backward()
    along = (predicted.grad * predicted.detach()).sum(1)
    torch.testing.assert_close(along, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-14)
    assert predicted.grad.abs().sum() > 0


@pytest.mark.parametrize("zero", ["student", "teacher"])
def test_byol_of_features_that_are_all_zero_is_finite(zero: str) -> None:
    one, two = rows(17).requires_grad_(), rows(18)
    value = byol_loss(0 * one if zero == "student" else one, 0 * two if zero == "teacher" else two)
    value.sum().backward()
    torch.testing.assert_close(value, torch.ones(4, dtype=torch.float64))
    assert one.grad.isfinite().all()


def test_the_predictor_of_byol_learns_a_direction_that_is_a_function_of_the_students_features() -> None:
    term, (student, _) = term_of("byol"), outputs(20)
    teacher = Output(torch.zeros(4, 2), 7 * student.features[:, :3])
    optimizer = torch.optim.SGD(term.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        value = term(student, teacher, BATCH).mean()
        value.backward()
        optimizer.step()
    assert value < 0.01


# Barlow Twins.


def correlation(one: list[float], two: list[float]) -> float:
    mean_one, mean_two = math.fsum(one) / len(one), math.fsum(two) / len(two)
    return cosine([a - mean_one for a in one], [b - mean_two for b in two])


@pytest.mark.parametrize("off_diagonal", [0.0, 0.005, 1.0])
def test_barlow_twins_is_the_sum_over_all_correlations_by_hand(off_diagonal: float) -> None:
    student, teacher = rows(21, 6), rows(22, 6)
    expected = 0.0
    for i, one in enumerate(student.T.tolist()):
        for j, two in enumerate(teacher.T.tolist()):
            c = correlation(one, two)
            expected += (1 - c) ** 2 if i == j else off_diagonal * c**2
    assert barlow_twins_loss(student, teacher, off_diagonal).item() == pytest.approx(expected, rel=1e-12)


def test_barlow_twins_is_zero_for_equal_features_that_do_not_correlate() -> None:
    hadamard = torch.tensor([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float64)
    assert barlow_twins_loss(hadamard, hadamard, 1.0).item() == 0
    assert barlow_twins_loss(hadamard, -hadamard, 1.0).item() == pytest.approx(12)  # (1 + 1)² three times
    assert barlow_twins_loss(hadamard, hadamard.roll(1, 1), 1.0).item() == pytest.approx(3 + 3)


def test_barlow_twins_is_unchanged_under_a_positive_affine_map_of_any_feature() -> None:
    student, teacher = rows(23, 6), rows(24, 6)
    scale, shift = torch.tensor([0.01, 3.0, 500.0]), torch.tensor([5.0, -2.0, 0.0])
    value = barlow_twins_loss(student, teacher, 0.05)
    torch.testing.assert_close(barlow_twins_loss(scale * student + shift, teacher, 0.05), value)
    torch.testing.assert_close(barlow_twins_loss(student, scale * teacher + shift, 0.05), value)


def test_a_constant_feature_correlates_with_nothing_and_passes_no_gradient_on() -> None:
    student, teacher = rows(25, 6), rows(26, 6)
    student[:, 1] = 0.3
    teacher[:, 2] = -7.0
    student.requires_grad_()
    value = barlow_twins_loss(student, teacher, 1.0)
    value.backward()
    expected = 2.0  # of features 1 and 2
    for i, j in [(0, 0), (0, 1), (2, 0), (2, 1)]:
        c = correlation(student[:, i].tolist(), teacher[:, j].tolist())
        expected += (1 - c) ** 2 if i == j else c**2
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert student.grad.isfinite().all()
    assert (student.grad[:, 1] == 0).all()


@pytest.mark.parametrize("value", [0.1, 1e-6, 1234.567, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_does_not_make_a_constant_feature_vary(value: float, dtype: torch.dtype) -> None:
    """The mean of seven equal numbers is not always that number."""
    same = torch.full((7, 2), value, dtype=dtype, requires_grad=True)
    flat = standardised(same)
    flat.square().sum().backward()
    assert (flat == 0).all()
    assert (same.grad == 0).all()


def test_a_feature_that_varies_little_is_standardised_all_the_same() -> None:
    little = 1 + 1e-6 * rows(27, 6)
    expected = (little - little.mean(0)) / little.std(0, unbiased=False)
    torch.testing.assert_close(standardised(little), expected, rtol=1e-9, atol=0)


# All three.


@every
def test_each_has_the_derivative_of_finite_differences(name: str) -> None:
    teacher = rows(30)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, teacher), rows(31).requires_grad_())


@every
def test_each_term_is_its_loss_of_what_its_layers_make_of_the_features(name: str) -> None:
    term, (student, teacher) = term_of(name), outputs()
    expected = {
        "nt_xent": lambda: nt_xent_loss(term.student(student.features), term.teacher(teacher.features), 0.1),
        "byol": lambda: byol_loss(term.predictor(student.features), teacher.features),
        "barlow_twins": lambda: barlow_twins_loss(term.projector(student.features), teacher.features, 0.005),
    }[name]()
    value = term(student, teacher, BATCH)
    assert torch.equal(value, expected)
    assert value.shape == (() if name == "barlow_twins" else (4,))


@every
def test_everything_that_a_term_learns_with_receives_a_gradient(name: str) -> None:
    term, (student, teacher) = term_of(name), outputs()
    term(student, teacher, BATCH).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in term.parameters())
    assert all(p.grad.abs().sum() > 0 for p in term.parameters() if p.dim() == 2)


@every
@pytest.mark.parametrize("scale", [1e-8, 1e4])
def test_features_of_any_size_and_images_that_are_all_the_same_give_finite_numbers(name: str, scale: float) -> None:
    for student in (scale * rows(32).float(), torch.full((4, 3), scale)):
        student.requires_grad_()
        value = LOSSES[name](student, scale * rows(33).float())
        value.sum().backward()
        assert value.isfinite().all()
        assert student.grad.isfinite().all()
