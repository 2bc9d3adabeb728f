"""A new image or this one again: what is least sure comes first, and an image is not asked about without end."""

from dataclasses import replace

import torch
from torch import Generator

from kdal_cli.inference.evidence import Evidence
from kdal_cli.samplers.activelab import activelab


class Clusters:
    """A scorer whose features are two clusters, ids 0 to 49 and 50 to 99, and a doubtful image between them, 100."""

    def __init__(self) -> None:
        noise = 0.1 * torch.randn(101, 2, generator=Generator().manual_seed(0))
        self.features = noise + torch.tensor([[-1.0, 0.0]] * 50 + [[1.0, 0.0]] * 50 + [[0.0, 0.0]])

    def logits(self, ids):
        return self.features[ids]

    def look(self, ids):
        return self.features[ids], self.features[ids]


def evidence(answers: list[list[int]] | None, labelled: list[int], pool: list[int]) -> Evidence:
    ids = torch.tensor(labelled)
    shown = (lambda: torch.tensor(answers)) if answers is not None else None
    return Evidence(torch.tensor(pool), ids, (ids >= 50).long(), 2, Clusters(), answers=shown)


LABELLED = [*range(20), *range(50, 70)]
AGREED = [[int(id >= 50)] * 2 for id in LABELLED]


def chosen(pool: Evidence, k: int, **settings) -> list[int]:
    return pool.asked(activelab(pool, k, Generator().manual_seed(1), **settings)).tolist()


def test_a_label_that_all_contradict_is_asked_about_again_before_an_easy_image() -> None:
    disputed = [*AGREED[:3], [0, 1], *AGREED[4:]]
    pool = evidence(disputed, LABELLED, [30, 31, 80, 81, 100])
    query = activelab(pool, 2, Generator().manual_seed(1))
    assert query.again is not None
    assert set(pool.asked(query).tolist()) == {3, 100}
    assert query.again.tolist() == [id == 3 for id in pool.asked(query).tolist()]
    assert (query.scores.diff() <= 0).all()


def test_where_nobody_can_be_asked_again_only_new_images_are_chosen() -> None:
    for pool in (
        evidence(None, LABELLED, [30, 80, 100]),
        evidence(AGREED, LABELLED, [30, 80, 100]).take(torch.arange(3)),
    ):
        query = activelab(pool, 2, Generator().manual_seed(1))
        assert query.again is None
        assert int(query.rows[0]) == 2


def test_an_image_is_asked_about_so_often_at_most() -> None:
    disputed = [*AGREED[:3], [0, 1], *AGREED[4:]]
    pool = evidence(disputed, LABELLED, [30, 31, 80, 81])
    assert 3 in chosen(pool, 3)
    assert set(chosen(pool, 44, most=2)) == {30, 31, 80, 81}
    assert len(set(chosen(pool, 44, most=3))) == 44


def test_the_order_of_labelled_images_and_pool_changes_nothing_but_the_folds() -> None:
    pool = evidence(AGREED, LABELLED, [30, 31, 80, 81, 100])
    moved = replace(pool, ids=pool.ids.flip(0))
    assert chosen(pool, 7) == chosen(moved, 7)
