"""k-center greedy among predictions. N images, M labelled, C classes, p = softmax of the logits."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.samplers.coreset import coreset
from kdal_cli.samplers.pcoreset import pcoreset


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def answers(seed: int, n: int, classes: int = 3) -> Tensor:
    return 3 * torch.randn(n, classes, generator=rng(seed))


def labelled(pool: Evidence, count: int) -> Evidence:
    """The same with the last images labelled."""
    return replace(pool, ids=pool.ids[:-count], labelled_ids=pool.ids[-count:], labels=torch.zeros(count))


def test_each_is_the_farthest_prediction_from_those_of_the_labelled_and_the_chosen(make_pool) -> None:
    logits = answers(0, 40)
    query = pcoreset(labelled(make_pool(logits), 8), 12, rng())
    probs = logits.double().softmax(1).tolist()
    centres, left = probs[32:], list(range(32))
    for row, score in zip(query.rows.tolist(), query.scores.tolist(), strict=True):
        apart = {i: min(math.dist(probs[i], c) for c in centres) for i in left}
        assert row == max(apart, key=lambda i: apart[i])
        assert score == pytest.approx(apart[row] ** 2, rel=1e-5)
        centres.append(probs[row])
        left.remove(row)


def test_it_looks_at_predictions_and_at_no_features(make_pool) -> None:
    pool = labelled(make_pool(answers(1, 20), torch.full((20, 4), torch.nan)), 5)
    assert len(pcoreset(pool, 7, rng()).rows) == 7


def test_it_is_the_coreset_in_the_space_of_probabilities(make_pool) -> None:
    pool = labelled(make_pool(answers(2, 60)), 10)
    ours, theirs = pcoreset(pool, 20, rng(3)), coreset(pool, 20, rng(3), space="probabilities")
    assert ours.rows.tolist() == theirs.rows.tolist()


def test_a_constant_added_to_the_logits_of_an_image_changes_nothing(make_pool) -> None:
    logits = answers(4, 30).double()
    moved = logits + torch.linspace(-50, 50, 30)[:, None]
    one, two = (pcoreset(labelled(make_pool(each), 5), 15, rng()) for each in (logits, moved))
    assert one.rows.tolist() == two.rows.tolist()


def test_of_the_sure_one_of_each_class_comes_first_and_no_two_corners_are_farther_apart_than_two(make_pool) -> None:
    """Corners of the simplex lie √2 from each other, and their copies at 0."""
    classes = torch.arange(30) % 5
    query = pcoreset(make_pool(1e4 * torch.eye(5)[classes]), 12, rng())
    assert sorted(classes[query.rows[:5]].tolist()) == [0, 1, 2, 3, 4]
    assert query.scores.tolist() == [math.inf] + [2.0] * 4 + [0.0] * 7
