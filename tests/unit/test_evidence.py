"""What a sampler may look at: nothing is computed before it is asked for, nothing twice, and no NaN gets through."""

from collections.abc import Iterator

import pytest
import torch
from torch import Generator, Tensor

from kdal_cli.errors import MachineError, UserError
from kdal_cli.evidence import Evidence

N, M, C, D = 5, 3, 4, 2


class Counting:
    """A scorer of 100 known images that counts how often it looks."""

    def __init__(self) -> None:
        self.logits, self.features = torch.randn(100, C), torch.randn(100, D)
        self.looked: list[list[int]] = []
        self.drawn = 0

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        self.looked.append(ids.tolist())
        return self.logits[ids], self.features[ids]

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        for _ in range(count):
            self.drawn += 1
            yield self.logits[ids]


POOL, LABELLED = torch.tensor([40, 2, 77, 13, 99]), torch.tensor([5, 60, 7])


def evidence(labelled: Tensor = LABELLED, teacher: Counting | None = None) -> tuple[Evidence, Counting]:
    scorer = Counting()
    return Evidence(POOL, labelled, torch.zeros(len(labelled), dtype=torch.int64), C, scorer, teacher), scorer


def test_nothing_is_looked_at_until_it_is_asked_for() -> None:
    pool, scorer = evidence(teacher=(teacher := Counting()))
    assert (len(pool), pool.seen) == (N, None)
    assert (scorer.looked, teacher.looked) == ([], [])


def test_logits_and_features_come_from_one_look_however_often_they_are_read() -> None:
    pool, scorer = evidence()
    assert torch.equal(pool.features, scorer.features[POOL])
    assert torch.equal(pool.logits, scorer.logits[POOL])
    assert pool.logits is pool.logits is pool.seen
    assert scorer.looked == [POOL.tolist()]


def test_the_labelled_images_and_the_teacher_are_looked_at_by_those_who_ask_once() -> None:
    pool, scorer = evidence(teacher=(teacher := Counting()))
    assert torch.equal(pool.labelled_features, scorer.features[LABELLED])
    assert pool.labelled_features is pool.labelled_features
    assert torch.equal(pool.teacher_logits, teacher.logits[POOL])
    assert pool.teacher_logits is pool.teacher_logits
    assert (scorer.looked, teacher.looked) == ([LABELLED.tolist()], [POOL.tolist()])


def test_without_labels_the_labelled_features_are_empty_and_as_wide_as_the_others() -> None:
    pool, _ = evidence(labelled=LABELLED[:0])
    assert pool.labelled_features.shape == (0, D)


def test_a_sampler_that_asks_a_teacher_who_is_not_there_says_so() -> None:
    pool, _ = evidence()
    with pytest.raises(UserError, match=r"asks the teacher, and there is none \(teacher=none\): choose a teacher"):
        _ = pool.teacher_logits


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["logits", "features"])
def test_a_number_that_is_not_finite_is_refused_by_the_id_of_its_image(where: str, number: float) -> None:
    pool, scorer = evidence()
    getattr(scorer, where)[POOL[2], 1] = number
    getattr(scorer, where)[POOL[4], 0] = number
    with pytest.raises(MachineError, match="image 77 "):
        _ = pool.logits


def test_so_it_is_in_the_labelled_part_and_in_the_teachers_answers() -> None:
    pool, scorer = evidence(teacher=(teacher := Counting()))
    scorer.features[60] = teacher.logits[13] = torch.nan
    with pytest.raises(MachineError, match="image 60 "):
        _ = pool.labelled_features
    with pytest.raises(MachineError, match="image 13 "):
        _ = pool.teacher_logits


def test_so_it_is_in_a_draw() -> None:
    pool, scorer = evidence()
    scorer.logits[13, 2] = torch.nan
    with pytest.raises(MachineError, match="image 13 "):
        next(iter(pool.draws(3, torch.Generator())))


def test_draws_come_one_at_a_time() -> None:
    pool, scorer = evidence()
    draws = iter(pool.draws(10, torch.Generator()))
    assert next(draws).shape == (N, C)
    assert scorer.drawn == 1
    assert len(list(draws)) == 9
