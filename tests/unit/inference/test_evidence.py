"""What a sampler may look at: nothing is computed before it is asked for, nothing twice, and no NaN gets through."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from kdal_cli.errors import MachineError, UserError
from kdal_cli.inference.evidence import SPACES, Evidence, Meter

N, M, V, C, D = 5, 3, 2, 4, 2


class Counting:
    """A scorer of 100 known images that counts how often it looks, and whether at features too."""

    def __init__(self, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.answers, self.features = torch.randn(100, C, generator=rng), torch.randn(100, D, generator=rng)
        self.looked: list[list[int]] = []
        self.passes: list[str] = []
        self.drawn = 0

    def logits(self, ids: Tensor) -> Tensor:
        self.looked.append(ids.tolist())
        self.passes.append("logits")
        return self.answers[ids]

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        self.looked.append(ids.tolist())
        self.passes.append("both")
        return self.answers[ids], self.features[ids]

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        for _ in range(count):
            self.drawn += 1
            yield self.answers[ids]

    def classify(self, features: Tensor) -> Tensor:
        return features.repeat(1, 2)


POOL, LABELLED, HELD_OUT = torch.tensor([40, 2, 77, 13, 99]), torch.tensor([5, 60, 7]), torch.tensor([8, 1])
PIXELS = torch.randint(0, 256, (100, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def evidence(labelled: Tensor = LABELLED, teacher: Counting | None = None, **more) -> tuple[Evidence, Counting]:
    scorer = Counting()
    labels = torch.zeros(len(labelled), dtype=torch.int64)
    more = {"validation_ids": HELD_OUT, "images": PIXELS.__getitem__, "known": 100, **more}
    return Evidence(POOL, labelled, labels, C, scorer, teacher, **more), scorer


def test_nothing_is_looked_at_until_it_is_asked_for() -> None:
    pool, scorer = evidence(teacher=(teacher := Counting()))
    assert (len(pool), pool.seen) == (N, None)
    assert (scorer.looked, teacher.looked) == ([], [])


def test_logits_and_features_come_from_one_look_however_often_they_are_read() -> None:
    pool, scorer = evidence()
    assert torch.equal(pool.features, scorer.features[POOL])
    assert torch.equal(pool.logits, scorer.answers[POOL])
    assert pool.logits is pool.logits is pool.seen
    assert scorer.looked == [POOL.tolist()]


def test_the_labelled_images_and_the_teacher_are_looked_at_by_those_who_ask_once() -> None:
    pool, scorer = evidence(teacher=(teacher := Counting()))
    assert torch.equal(pool.labelled_features, scorer.features[LABELLED])
    assert pool.labelled_features is pool.labelled_features
    assert torch.equal(pool.teacher_logits, teacher.answers[POOL])
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
@pytest.mark.parametrize("where", ["answers", "features"])
def test_a_number_that_is_not_finite_is_refused_by_the_id_of_its_image(where: str, number: float) -> None:
    pool, scorer = evidence()
    getattr(scorer, where)[POOL[2], 1] = number
    getattr(scorer, where)[POOL[4], 0] = number
    with pytest.raises(MachineError, match="image 77 "):
        _ = pool.features


def test_so_it_is_in_the_labelled_part_and_in_the_teachers_answers() -> None:
    pool, scorer = evidence(teacher=(teacher := Counting()))
    scorer.features[60] = teacher.answers[13] = torch.nan
    with pytest.raises(MachineError, match="image 60 "):
        _ = pool.labelled_features
    with pytest.raises(MachineError, match="image 13 "):
        _ = pool.teacher_logits


def test_so_it_is_in_a_draw() -> None:
    pool, scorer = evidence()
    scorer.answers[13, 2] = torch.nan
    with pytest.raises(MachineError, match="image 13 "):
        next(iter(pool.draws(3, torch.Generator())))


def test_draws_come_one_at_a_time() -> None:
    pool, scorer = evidence()
    draws = iter(pool.draws(10, torch.Generator()))
    assert next(draws).shape == (N, C)
    assert scorer.drawn == 1
    assert len(list(draws)) == 9


def test_the_validation_images_are_looked_at_once_by_scorer_and_teacher() -> None:
    pool, scorer = evidence(teacher=(teacher := Counting(1)))
    assert torch.equal(pool.validation_features, scorer.features[HELD_OUT])
    assert torch.equal(pool.validation_logits, scorer.answers[HELD_OUT])
    assert torch.equal(pool.teacher_validation_logits, teacher.answers[HELD_OUT])
    assert torch.equal(pool.labelled_teacher_features, teacher.features[LABELLED])
    assert (scorer.looked, teacher.looked) == ([HELD_OUT.tolist()], [HELD_OUT.tolist(), LABELLED.tolist()])


# How many passes.

PAIRS = [
    ("features", "logits"),
    ("labelled_features", "labelled_logits"),
    ("validation_features", "validation_logits"),
    ("teacher_features", "teacher_logits"),
]


@pytest.mark.parametrize(("features", "logits"), PAIRS)
def test_features_first_is_one_pass_for_both(features: str, logits: str) -> None:
    pool, scorer = evidence(teacher=(teacher := Counting(1)))
    getattr(pool, features), getattr(pool, logits), getattr(pool, features)
    assert [*scorer.passes, *teacher.passes] == ["both"]


@pytest.mark.parametrize(("features", "logits"), PAIRS)
def test_logits_first_is_a_pass_without_features_and_features_are_another(features: str, logits: str) -> None:
    pool, scorer = evidence(teacher=(teacher := Counting(1)))
    getattr(pool, logits), getattr(pool, logits)
    assert [*scorer.passes, *teacher.passes] == ["logits"]
    getattr(pool, features), getattr(pool, logits)
    assert [*scorer.passes, *teacher.passes] == ["logits", "both"]


# A part of the pool.

ROWS = torch.tensor([3, 0, 4])
VIEWS = [
    ("logits", POOL),
    ("features", POOL),
    ("labelled_features", LABELLED),
    ("validation_logits", HELD_OUT),
    ("teacher_logits", POOL),
    ("teacher_features", POOL),
]


@pytest.mark.parametrize(("view", "ids"), VIEWS, ids=[view for view, _ in VIEWS])
@pytest.mark.parametrize("child_first", [True, False])
def test_a_part_of_the_pool_shares_with_the_whole_whoever_looks_first(view: str, ids: Tensor, child_first) -> None:
    pool, scorer = evidence(teacher=(teacher := Counting(1)))
    child = pool.take(ROWS)
    assert (len(child), child.ids.tolist()) == (3, POOL[ROWS].tolist())
    one, two = (child, pool) if child_first else (pool, child)
    _ = getattr(one, view), getattr(two, view)
    assert torch.equal(getattr(child, view), getattr(pool, view)[ROWS if ids is POOL else slice(None)])
    assert [*scorer.looked, *teacher.looked] == [ids.tolist()]


def test_a_part_of_a_part_is_a_part_of_the_whole() -> None:
    pool, scorer = evidence()
    inner = pool.take(ROWS).take(torch.tensor([2, 0]))
    assert inner.ids.tolist() == [99, 13]
    assert torch.equal(inner.features, scorer.features[inner.ids])
    assert torch.equal(inner.in_space("probabilities")[0], scorer.answers[inner.ids].softmax(1))
    assert scorer.looked == [POOL.tolist(), LABELLED.tolist()]


def test_of_a_part_only_its_own_images_are_drawn_and_remembered() -> None:
    pool, scorer = evidence(past=lambda rounds: iter([Counting(1)]))
    child = pool.take(ROWS)
    assert torch.equal(next(iter(child.draws(2, Generator()))), scorer.answers[child.ids])
    assert torch.equal(next(iter(child.history(1))), Counting(1).answers[child.ids])


def test_an_empty_part_is_empty() -> None:
    pool, _ = evidence()
    assert pool.take(ROWS[:0]).logits.shape == (0, C)


# Spaces.


def expected(space: str, scorer: Counting, teacher: Counting, ids: Tensor) -> Tensor:
    return {
        "features": scorer.features[ids],
        "teacher": teacher.features[ids],
        "probabilities": scorer.answers[ids].softmax(1),
        "pixels": PIXELS[ids].flatten(1) / 255,
    }[space]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("taken", [False, True])
def test_every_space_has_rows_of_the_pool_and_of_what_is_labelled(space: str, taken: bool) -> None:
    pool, scorer = evidence(teacher=(teacher := Counting(1)))
    pool = pool.take(ROWS) if taken else pool
    own, labelled = pool.in_space(space)
    assert own.dtype == labelled.dtype == torch.float32
    assert torch.equal(own, expected(space, scorer, teacher, pool.ids))
    assert torch.equal(labelled, expected(space, scorer, teacher, LABELLED))


def test_a_space_is_float32_whatever_the_model_answers_in() -> None:
    pool, scorer = evidence()
    scorer.answers, scorer.features = scorer.answers.bfloat16(), scorer.features.bfloat16()
    assert {rows.dtype for space in ("features", "probabilities") for rows in pool.in_space(space)} == {torch.float32}


def test_a_file_is_a_space(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(100, 7))
    np.save(tmp_path / "vectors.npy", table)
    pool, scorer = evidence()
    own, labelled = pool.in_space(str(tmp_path / "vectors.npy"))
    assert torch.equal(own, torch.tensor(table[POOL], dtype=torch.float32))
    assert torch.equal(labelled, torch.tensor(table[LABELLED], dtype=torch.float32))
    assert scorer.looked == []


def test_a_space_that_is_not_there_is_refused_with_those_that_are() -> None:
    pool, _ = evidence()
    with pytest.raises(UserError) as refused:
        pool.in_space("pixel")
    assert str(refused.value) == (
        "sampler.space=pixel: features, teacher, probabilities, pixels, "
        "a run of kdal pretrain, or a .npy or .safetensors with one row an image"
    )
    with pytest.raises(UserError, match="asks the teacher, and there is none"):
        pool.in_space("teacher")


# A teacher of other classes.


def test_of_a_teacher_of_other_classes_only_the_features_may_be_looked_at() -> None:
    pool, _ = evidence(teacher=(teacher := Counting(1)), other_classes="teacher.classes=other")
    assert torch.equal(pool.in_space("teacher")[0], teacher.features[POOL])
    for part in (pool, pool.take(ROWS)):
        for view in ("teacher_logits", "teacher_validation_logits"):
            with pytest.raises(UserError, match=r"compares classes, and teacher\.classes=other: a sampler that looks"):
                getattr(part, view)


# History, and the classifier alone.


def test_history_is_of_students_before_oldest_first_one_at_a_time_of_the_pool() -> None:
    past, asked = [Counting(seed) for seed in (1, 2, 3)], []

    def before(rounds: int) -> Iterator[Counting]:
        asked.append(rounds)
        yield from past[-rounds:]

    pool, scorer = evidence(past=before)
    history = pool.history(2)
    assert torch.equal(next(history), past[1].answers[POOL])
    assert past[2].looked == []
    assert torch.equal(next(history), past[2].answers[POOL])
    assert list(history) == []
    assert (asked, past[0].looked, scorer.looked) == ([2], [], [])


def test_there_is_no_history_where_none_is_known() -> None:
    assert list(evidence()[0].history(3)) == []


def test_a_number_that_is_not_finite_is_refused_in_the_history_too() -> None:
    older = Counting(1)
    older.answers[99] = torch.nan
    with pytest.raises(MachineError, match="image 99 "):
        next(evidence(past=lambda rounds: iter([older]))[0].history(1))


def test_the_classifier_answers_to_features_of_the_callers_making() -> None:
    made = torch.arange(6.0).view(3, 2)
    pool, _ = evidence()
    assert torch.equal(pool.classify(made), made.repeat(1, 2))
    assert torch.equal(pool.take(ROWS).classify(made), made.repeat(1, 2))


# What it costs.


def test_the_meter_counts_each_view_waits_for_the_device_and_reads_the_peak() -> None:
    events: list[str] = []
    meter = Meter(finish=lambda: (time.sleep(0.02), events.append("finish")), peak=lambda: float(len(events)))
    with meter.measure("one"):
        time.sleep(0.02)
    first = meter.views["one"]
    assert first[0] >= 0.04
    assert first[1] == 1.0  # read after the device was done
    with meter.measure("one"):
        pass
    with meter.measure("other"):
        pass
    assert meter.views["one"][0] >= first[0] + 0.02
    assert [peak for _, peak in meter.views.values()] == [2.0, 3.0]
    assert meter.seconds == pytest.approx(sum(seconds for seconds, _ in meter.views.values()))


def test_what_is_looked_at_is_measured_by_its_name_and_what_is_kept_costs_nothing() -> None:
    pool, _ = evidence(teacher=Counting(1), past=lambda rounds: iter([Counting(2)]))
    child = pool.take(ROWS)
    _ = pool.features, pool.labelled_logits, child.teacher_logits
    list(pool.history(1)), list(child.draws(2, Generator()))
    assert list(pool.meter.views) == ["scorer_pool", "scorer_labelled", "teacher_pool", "history", "draws"]
    before = dict(pool.meter.views)
    _ = pool.logits, child.features, pool.labelled_logits, pool.teacher_logits
    assert pool.meter.views == before
    assert child.meter is pool.meter
