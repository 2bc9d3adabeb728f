"""Points that are read from tables in an order, against the same points copied."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from kdal_cli.samplers._kmeans import cluster, nearest_to_centres
from kdal_cli.samplers._rows import Rows


def table(seed: int, n: int, width: int = 3) -> Tensor:
    return torch.randn(n, width, generator=Generator().manual_seed(seed))


@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    unit=st.booleans(),
    seed=st.integers(0, 99),
    half=st.booleans(),
)
def test_they_are_those_of_the_tables_below_one_another(sizes: list[int], unit: bool, seed: int, half: bool) -> None:
    tables = [table(seed + i, n).to(torch.float16 if half else torch.float32) for i, n in enumerate(sizes)]
    whole = torch.cat(tables).float()
    whole = F.normalize(whole, dim=1) if unit else whole
    order = torch.randperm(len(whole), generator=Generator().manual_seed(seed))[: max(0, len(whole) - 1)]
    rows = Rows(*tables, order=order, unit=unit)
    assert len(rows) == len(order)
    assert torch.equal(rows[torch.arange(len(order))], whole[order])
    assert torch.equal(torch.cat([*rows.split(2), whole[:0]]), whole[order])
    assert torch.equal(Rows(*tables, unit=unit)[torch.arange(len(whole)).flip(0)], whole.flip(0))


@pytest.mark.parametrize("sample", [10_000, 20])
def test_clusters_are_those_of_a_copy(sample: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdal_cli.samplers._kmeans.SAMPLE", sample)
    monkeypatch.setattr("kdal_cli.samplers._kmeans.SAMPLE_A_CLUSTER", 2)
    monkeypatch.setattr("kdal_cli.samplers._kmeans.CHUNK", 7)
    points, order = table(0, 60), torch.randperm(60, generator=Generator().manual_seed(1))
    results = []
    for some in (points[order], Rows(points[:50], points[50:], order=order)):
        assignment, centres = cluster(some, 6, Generator().manual_seed(2))
        results.append((assignment, centres, nearest_to_centres(some, centres, assignment)))
    for copied, read in zip(*results, strict=True):
        assert torch.equal(copied, read)
