"""ALFA-Mix against its closed form word by word, one anchor after another, with a gradient by autograd.

N images, M labelled, A anchors, C classes, D features.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import shuffled
from kdal_cli.samplers.alfa_mix import alfa_mix, anchors, ascent, flipping_epsilon, last_layer
from kdal_cli.samplers.dropquery import one_of_each_cluster
from kdal_cli.types import Query


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Linear:
    """A scorer that ends in a linear layer, weight (C, D) and bias (C,); it knows features by id."""

    def __init__(self, features: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.features, self.weight, self.bias = features, weight, bias

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.classify(self.features[ids]), self.features[ids]

    def classify(self, features: Tensor) -> Tensor:
        return F.linear(features.double(), self.weight, self.bias)


def problem(seed: int, n: int = 40, classes: int = 4, width: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, D), weight (C, D) and bias (C,)."""
    return normal(seed, n, width), normal(seed + 1, classes, width), normal(seed + 2, classes)


def choose(
    features: Tensor, weight: Tensor, bias: Tensor, k: int, labelled: int, epsilon: float, seed: int = 0
) -> Query:
    """From all but the last `labelled` of the features, whose labels go round the first classes."""
    n, ids = len(features) - labelled, torch.arange(len(features))
    scorer = Linear(features, weight, bias)
    pool = Evidence(ids[:n], ids[n:], torch.arange(labelled) % 3, len(weight), scorer)  # type: ignore[arg-type]
    return alfa_mix(pool, k, Generator().manual_seed(seed), epsilon=epsilon)


def flips(z: Tensor, weight: Tensor, bias: Tensor, centres: Tensor, epsilon: float) -> list[bool]:
    """Whether any of the mixtures (1 − α) z + α a has another label; α from the paper, divided feature by feature."""
    z = z.clone().requires_grad_()
    logits = F.linear(z, weight, bias)
    label = logits.argmax(1)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, label, reduction="sum"), z)
    flipped = torch.zeros(len(z), dtype=torch.bool)
    for a in centres:
        apart = a - z
        norms = apart.norm(dim=1, keepdim=True) / gradient.norm(dim=1, keepdim=True)
        alpha = epsilon / math.sqrt(z.shape[1]) * norms * gradient / apart
        alpha[apart == 0] = 3.0  # any number mixes the same
        flipped |= F.linear((1 - alpha) * z + alpha * a, weight, bias).argmax(1) != label
    return flipped.tolist()


@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 6),
    width=st.integers(1, 8),
    seen=st.integers(1, 5),
    rectified=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_a_label_flips_from_its_epsilon_on_and_for_none_smaller(
    seed: int, classes: int, width: int, seen: int, rectified: bool
) -> None:
    """rectified: many features are 0, of an image and an anchor alike."""
    z, weight, bias = problem(seed, 12, classes, width)
    centres = normal(seed + 3, seen, width)
    if rectified:
        z, centres = z.relu(), centres.relu()
    least = flipping_epsilon(z, weight, bias, centres)
    for epsilon in [0.01, 0.1, 0.3, 1.0, 3.0, 30.0]:
        assert (least < epsilon).tolist() == flips(z, weight, bias, centres, epsilon)
    for factor, flipped in [(1 - 1e-6, False), (1 + 1e-6, True)]:
        for i in least.isfinite().nonzero()[:, 0].tolist():
            assert flips(z[i : i + 1], weight, bias, centres, factor * float(least[i])) == [flipped]


def test_an_anchor_mixes_nothing_in_where_it_lies() -> None:
    """Not even for an image that lies between two classes, which loses its label by no step at all."""
    z, weight, bias = problem(0, 1)
    assert flipping_epsilon(z, weight, bias, z).tolist() == [math.inf]
    between = torch.zeros_like(z)
    assert flipping_epsilon(between, weight, 0 * bias, z).tolist() == [0]
    assert flipping_epsilon(between, weight, 0 * bias, between).tolist() == [math.inf]


def test_the_way_up_is_the_gradient_over_its_norm() -> None:
    z, weight, bias = problem(1, 20)
    z.requires_grad_()
    logits = F.linear(z, weight, bias)
    label = logits.argmax(1)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, label, reduction="sum"), z)
    torch.testing.assert_close(ascent(logits, label[:, None], weight), gradient / gradient.norm(dim=1, keepdim=True))


def test_a_saturated_softmax_has_a_way_up() -> None:
    """p − e_ŷ is all zeros there, and 0 ÷ 0 no direction; towards the second class is one."""
    z, weight, bias = problem(1, 20)
    logits = 1e4 * F.linear(z, weight, bias)
    label, second = logits.topk(2).indices.unbind(1)
    torch.testing.assert_close(ascent(logits, label[:, None], weight), F.normalize(weight[second] - weight[label]))


def test_the_last_layer_is_found_from_its_answers() -> None:
    z, weight, bias = problem(2)
    found = last_layer(Linear(z, weight, bias).classify, z)
    torch.testing.assert_close(found, (weight, bias))


def test_anchors_are_the_means_of_the_classes_and_of_all_labelled_images_for_a_class_without_labels() -> None:
    """As in the authors' code, which mixes with that mean once for each such class: the same, again and again."""
    features, labels = normal(0, 6, 3), torch.tensor([2, 0, 2, 2, 0, 1])
    means = torch.stack([features[labels == y].mean(0) for y in (0, 1, 2)])
    torch.testing.assert_close(anchors(features, labels, 3), means)
    torch.testing.assert_close(anchors(features, labels, 7), torch.cat([means, features.mean(0, keepdim=True)]))
    assert anchors(features[:0], labels[:0], 7).shape == (0, 3)


def growing(seed: int, bias_scale: float) -> tuple[tuple[Tensor, Tensor, Tensor], list[list[bool]]]:
    """A problem of 40 images and 9 labelled ones, and which labels flip at ε = 0.05, 0.1, ... 1.0."""
    features, weight, bias = problem(seed, 49)
    centres = anchors(features[40:], torch.arange(9) % 3, len(weight))
    bias = bias_scale * bias
    return (features, weight, bias), [flips(features[:40], weight, bias, centres, 0.05 * e) for e in range(1, 21)]


@pytest.mark.parametrize("k", [1, 3, 12, 25])
@pytest.mark.parametrize("exactly", [False, True])
@pytest.mark.parametrize("bias_scale", [1.0, 8.0])
def test_epsilon_grows_until_more_than_k_labels_flip_and_no_farther_than_1(
    k: int, exactly: bool, bias_scale: float
) -> None:
    """`exactly`: as many flip at some ε as are asked for, which is not enough."""
    (features, weight, bias), flipped = growing(0, bias_scale)
    k = next((sum(each) for each in flipped if sum(each) >= k), k) if exactly else k
    candidates = torch.tensor(next((each for each in flipped if sum(each) > k), flipped[-1]))
    centres = anchors(features[40:], torch.arange(9) % 3, len(weight))
    scores = -flipping_epsilon(features[:40], weight, bias, centres)
    uniforms = Generator().manual_seed(7)
    order = shuffled(torch.arange(40), uniforms)
    expected = order[one_of_each_cluster(features[order], scores[order], candidates[order], k, uniforms)]
    query = choose(features, weight, bias, k, labelled=9, epsilon=0.05, seed=7)
    assert query.rows.tolist() == expected.tolist()
    torch.testing.assert_close(query.scores, scores[query.rows])


def test_with_too_few_candidates_those_that_flip_next_follow() -> None:
    features, weight, bias = problem(3, 49)
    query = choose(features, weight, 4 * bias, 40, labelled=9, epsilon=1.0)
    candidates = int((query.scores > -1).sum())
    assert 5 < candidates < 35
    assert (query.scores[:candidates] > -1).all()
    later = query.scores[candidates:]
    assert (later[1:] <= later[:-1]).all()


def test_before_anything_is_labelled_the_query_is_random() -> None:
    features, weight, bias = problem(4)
    queries = [choose(features, weight, bias, 5, labelled=0, epsilon=0.2, seed=seed) for seed in range(20)]
    assert all((query.scores == -torch.inf).all() for query in queries)
    assert len({int(query.rows[0]) for query in queries}) > 10
