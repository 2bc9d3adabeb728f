"""The closed form against gradients by automatic differentiation, one label after the other.

N images, C classes, D features.
"""

import math
from decimal import Decimal, localcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.samplers.expected_gradient_length import expected_gradient_length, expected_gradient_length_score


def by_differentiation(weight: Tensor, bias: Tensor, features: Tensor) -> Tensor:
    """(N,): each gradient with respect to the weights of a linear layer (C, D), in float64."""
    lengths = []
    for z in features.double():
        layer = weight.double().requires_grad_()
        logits = layer @ z + bias.double()
        losses = [F.cross_entropy(logits, torch.tensor(label)) for label in range(len(weight))]
        gradients = [torch.autograd.grad(loss, layer, retain_graph=True)[0] for loss in losses]
        norms = torch.stack([gradient.norm() for gradient in gradients])  # (C,)
        lengths.append((logits.detach().softmax(0) * norms).sum())
    return torch.stack(lengths)


@given(n=st.integers(1, 6), classes=st.integers(2, 6), width=st.integers(1, 7), seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_it_is_the_mean_length_of_the_gradient_of_a_linear_layer(n: int, classes: int, width: int, seed: int) -> None:
    rng = Generator().manual_seed(seed)
    weight, bias = torch.randn(classes, width, generator=rng), torch.randn(classes, generator=rng)
    features = 2 * torch.randn(n, width, generator=rng)
    logits = features.double() @ weight.double().T + bias.double()
    score = expected_gradient_length_score(logits, features)
    torch.testing.assert_close(score, by_differentiation(weight, bias, features), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_of_even_odds_it_is_the_distance_from_the_middle_of_a_simplex_to_its_corner(classes: int) -> None:
    score = expected_gradient_length_score(torch.zeros(1, classes), torch.tensor([[3.0, 4.0]]))
    assert score.item() == pytest.approx(5 * math.sqrt(1 - 1 / classes), rel=1e-12)


def test_of_two_classes_it_is_the_variance_of_the_label_times_a_constant() -> None:
    """Σ p ‖p − e‖ = 2√2 p (1 − p)."""
    gaps = torch.linspace(-5, 5, 11, dtype=torch.float64)
    p = gaps.sigmoid()
    score = expected_gradient_length_score(torch.stack([gaps, 0 * gaps], 1), torch.ones(11, 1))
    torch.testing.assert_close(score, 2 * math.sqrt(2) * p * (1 - p))


@pytest.mark.parametrize("gap", [1.0, 20.0, 50.0, 300.0])
def test_sure_images_still_have_an_order(gap: float) -> None:
    """Three classes, two of them e^−gap times as likely as the first, with 300 digits."""
    with localcontext(prec=300):
        small = Decimal(-gap).exp()
        first, other = 1 / (1 + 2 * small), small / (1 + 2 * small)
        to_first = (2 * other**2 + (2 * other) ** 2).sqrt()
        to_other = (first**2 + other**2 + (1 - other) ** 2).sqrt()
        expected = float(first * to_first + 2 * other * to_other)
    score = expected_gradient_length_score(torch.tensor([[0.0, -gap, -gap]]), torch.ones(1, 1))
    assert score.item() == pytest.approx(expected, rel=1e-12)


def test_it_grows_with_the_features_and_ends_where_they_do() -> None:
    logits = torch.randn(1, 4, generator=Generator().manual_seed(0)).expand(3, 4)
    score = expected_gradient_length_score(logits, torch.tensor([[1.0, 2.0], [3.0, 6.0], [0.0, 0.0]]))
    assert score.tolist() == pytest.approx([float(score[0]), 3 * float(score[0]), 0], rel=1e-12)


def test_the_sampler_takes_the_highest_scores_after_one_pass(make_pool, rng: Generator) -> None:
    some = Generator().manual_seed(1)
    logits, features = torch.randn(30, 5, generator=some), torch.randn(30, 3, generator=some)
    pool = make_pool(logits, features)
    pool.scorer.logits = pytest.fail  # the features bring the logits along
    query = expected_gradient_length(pool, 6, rng)
    expected = expected_gradient_length_score(logits, features)
    assert query.rows.tolist() == expected.argsort(descending=True)[:6].tolist()
    assert torch.equal(query.scores, expected[query.rows])
