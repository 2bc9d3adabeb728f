"""k-means against scikit-learn and naive loops, its start against the probabilities it should have.

N points, D features, K clusters.
"""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Generator, Tensor

from kdal_cli.samplers import _kmeans as module
from kdal_cli.samplers._kmeans import (
    apart,
    cluster,
    in_turns,
    lloyd,
    members,
    move,
    nearest,
    nearest_to_centres,
    spread,
)


def rng(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def points(seed: int, n: int, width: int = 3) -> Tensor:
    return torch.randn(n, width, generator=rng(seed))


def blobs(seed: int, *sizes: int) -> tuple[Tensor, list[int]]:
    """Points around corners ten apart, and the blob of each."""
    belongs = [blob for blob, size in enumerate(sizes) for _ in range(size)]
    return points(seed, len(belongs)) + 10 * torch.eye(3).repeat(2, 1)[belongs] * (
        1 + torch.tensor(belongs)[:, None]
    ), belongs


def inertia(points: Tensor, centres: Tensor) -> float:
    return sum(min(math.dist(p, c) for c in centres.tolist()) ** 2 for p in points.tolist())


def partition(assignment: Tensor) -> set[frozenset[int]]:
    return {frozenset(rows.tolist()) for rows in members(assignment, int(assignment.max()) + 1)}


@pytest.mark.parametrize("chunk", [1, 3, 4096])
def test_the_nearest_centre_is_the_least_far_of_all(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    x, centres = points(0, 11), points(1, 4)
    distances = [[math.dist(p, c) ** 2 for c in centres.tolist()] for p in x.tolist()]
    assert nearest(x, centres).tolist() == [row.index(min(row)) for row in distances]
    squared = apart(x, centres, nearest(x, centres))
    assert squared.tolist() == pytest.approx([min(row) for row in distances], rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_from_the_same_start_it_ends_where_scikit_learn_does(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = points(seed, 400, 5)
    start = x[:12]
    theirs = KMeans(12, init=start.numpy(), n_init=1, tol=0, algorithm="lloyd").fit(x.numpy())
    soon = inertia(x, lloyd(x, start, 100))
    monkeypatch.setattr(module, "SETTLED", 0)
    ours = lloyd(x, start, 300)
    torch.testing.assert_close(ours, torch.from_numpy(theirs.cluster_centers_), rtol=1e-4, atol=1e-4)
    assert inertia(x, ours) == pytest.approx(theirs.inertia_, rel=1e-5)
    assert theirs.inertia_ * (1 - 1e-5) <= soon <= 1.02 * theirs.inertia_


@pytest.mark.parametrize("seed", range(5))
def test_its_inertia_is_that_of_scikit_learn_from_its_own_start(seed: int) -> None:
    x, _ = blobs(seed, 60, 50, 40, 30, 20, 10)
    _, centres = cluster(x, 6, rng(seed))
    theirs = [KMeans(6, n_init=1, random_state=state).fit(x.numpy()).inertia_ for state in range(5)]
    assert inertia(x, centres) <= 1.02 * max(theirs)


def test_a_centre_that_loses_all_of_its_points_goes() -> None:
    x = torch.tensor([[0.0], [1.0], [9.0]])
    assignment, centres = move(x, torch.tensor([[0.0], [50.0], [10.0], [-50.0]]))
    assert assignment.tolist() == [0, 0, 1]
    assert centres.tolist() == [[0.5], [9.0]]


def test_it_ends_after_so_many_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLED", 0)
    x = points(2, 200)
    worse, better = (inertia(x, lloyd(x, x[:9], iterations)) for iterations in (1, 100))
    assert worse > 1.01 * better
    assert torch.equal(lloyd(x, x[:9], 0), x[:9])


@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), different=st.integers(1, 12), k=st.integers(1, 15))
def test_there_are_as_many_clusters_as_asked_for_or_as_many_as_points_that_differ(
    seed: int, n: int, different: int, k: int
) -> None:
    copies = torch.arange(n) % different
    x = points(seed, different)[copies]
    assignment, centres = cluster(x, k, rng(seed))
    assert (assignment.dtype, centres.dtype) == (torch.int64, torch.float32)
    found = min(k, n, different)
    assert len(centres) <= found
    assert len(centres) == found or k < min(n, different)  # then a centre may lose all of its points on the way
    assert sorted(set(assignment.tolist())) == list(range(len(centres)))
    assert len({(int(copy), int(own)) for copy, own in zip(copies, assignment, strict=True)}) == min(n, different)
    for own, centre in enumerate(centres):
        torch.testing.assert_close(centre, x[assignment == own].mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_it_finds_what_is_apart_near_the_origin_and_far_from_it(offset: float) -> None:
    x, belongs = blobs(3, 40, 30, 20)
    found = [partition(cluster(x + offset, 3, rng(seed))[0]) for seed in range(10)]
    assert partition(torch.tensor(belongs)) in found
    if offset:
        assert found == [partition(cluster(x, 3, rng(seed))[0]) for seed in range(10)]


def test_centres_may_be_learnt_from_some_of_the_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 0)
    monkeypatch.setattr(module, "SAMPLE_A_CLUSTER", 20)
    learnt: list[int] = []
    monkeypatch.setattr(
        module, "lloyd", lambda x, start, iterations: learnt.append(len(x)) or lloyd(x, start, iterations)
    )
    x, belongs = blobs(4, 400, 300, 300)
    found = [cluster(x, 3, rng(seed)) for seed in range(5)]
    assert learnt == [60] * 5
    assert partition(torch.tensor(belongs)) in [partition(assignment) for assignment, _ in found]
    for assignment, centres in found:
        for own, centre in enumerate(centres):
            torch.testing.assert_close(centre, x[assignment == own].mean(0), rtol=1e-4, atol=1e-4)


def test_chunks_change_nothing_and_the_points_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x = points(5, 90)
    before, whole = x.clone(), cluster(x, 7, rng(0))
    monkeypatch.setattr(module, "CHUNK", 4)
    chunked = cluster(x, 7, rng(0))
    assert torch.equal(whole[0], chunked[0])
    torch.testing.assert_close(whole[1], chunked[1])
    assert torch.equal(x, before)


def probability(x: Tensor, rows: tuple[int, ...]) -> float:
    """Of this start, in this order, by the definition of k-means++."""
    share = 1 / len(x)
    for i, row in enumerate(rows[1:], start=1):
        squared = [min(math.dist(p, x[r].tolist()) ** 2 for r in rows[:i]) for p in x.tolist()]
        share *= squared[row] / sum(squared)
    return share


@pytest.mark.parametrize("tries", [1, 64])
def test_starts_come_as_often_as_k_means_plus_plus_says(tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though all but the first are proposed from distances that are out of date."""
    monkeypatch.setattr(module, "TRIES", tries)
    x, generator = torch.tensor([[0.0], [1.0], [3.0], [3.5], [3.5]]), rng(6)
    counts = Counter(tuple(spread(x, 3, generator).tolist()) for _ in range(800))
    for rows in itertools.permutations(range(5), 3):
        expected = 800 * probability(x, rows)
        assert abs(counts[rows] - expected) <= 5 * math.sqrt(expected), rows


def test_a_start_has_no_more_rows_than_points_differ() -> None:
    x = points(7, 6)[torch.arange(60) % 6]
    rows = spread(x, 9, rng(0))
    assert sorted(rows.remainder(6).tolist()) == list(range(6))
    assert len(spread(torch.zeros(8, 2), 5, rng(0))) == 1


def test_the_nearest_to_a_centre_is_of_its_cluster_and_the_first_of_equals() -> None:
    x = torch.tensor([[0.0], [4.0], [2.0], [9.0], [2.0], [10.0]])
    assignment, centres = torch.tensor([1, 1, 1, 0, 1, 0]), torch.tensor([[2.0], [2.5]])
    assert nearest_to_centres(x, centres, assignment).tolist() == [3, 2]
    x, own = points(8, 50), torch.arange(50) % 6
    centres = points(9, 6)
    expected = [min(range(c, 50, 6), key=lambda i: math.dist(x[i], centres[c])) for c in range(6)]
    assert nearest_to_centres(x, centres, own).tolist() == expected


def test_members_of_a_cluster_are_its_rows_in_order() -> None:
    assert [rows.tolist() for rows in members(torch.tensor([2, 0, 2, 0, 0]), 4)] == [[1, 3, 4], [], [0, 2], []]


def test_queues_take_turns_and_none_is_asked_before_its_own() -> None:
    asked: list[str] = []

    def queue(name: str, length: int):
        for i in range(length):
            asked.append(f"{name}{i}")
            yield f"{name}{i}"

    turns = in_turns([queue("a", 1), queue("b", 3), queue("c", 0), queue("d", 2)])
    assert asked == []
    assert [next(turns), next(turns)] == asked == ["a0", "b0"]
    assert list(turns) == ["d0", "b1", "d1", "b2"]
