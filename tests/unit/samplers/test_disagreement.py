"""Divergences between teacher and student against NumPy, and what theory says of them at their ends.

N images, C classes, p_t and p_s the probabilities of teacher and student.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Generator, Tensor

from kdal_cli.errors import UserError
from kdal_cli.samplers.disagreement import disagreement, disagreement_score

MEASURES = ("kl", "js", "flip")
every_measure = pytest.mark.parametrize("measure", MEASURES)
pairs = st.tuples(st.integers(1, 5), st.integers(2, 6)).flatmap(
    lambda shape: arrays(np.float64, (2, *shape), elements=st.floats(-20, 20))
)


def probabilities(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(-1)


@given(pair=pairs, temperature=st.floats(0.5, 8))
def test_kl_and_js_are_those_of_their_definitions(pair: np.ndarray, temperature: float) -> None:
    p, q = probabilities(pair / temperature)
    teacher, student = torch.from_numpy(pair)
    expected = {"kl": kl(p, q), "js": (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2}
    for measure in ("kl", "js"):
        score = disagreement_score(teacher, student, measure, temperature)
        assert score.dtype == torch.float64
        np.testing.assert_allclose(score.numpy(), expected[measure], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("temperature", "nats"), [(1, 0.460541009), (2, 0.285527258), (4, 0.087389519)])
def test_kl_runs_from_the_teacher_to_the_student(temperature: float, nats: float) -> None:
    """The numbers were worked out by hand; the other direction gives others."""
    teacher, student = torch.tensor([[5.0, 1.0, 0.5, -2.0]]), torch.tensor([[2.0, 1.5, 0.0, -1.0]])
    assert disagreement_score(teacher, student, "kl", temperature).item() == pytest.approx(nats, abs=1e-9)
    assert disagreement_score(student, teacher, "kl", temperature).item() != pytest.approx(nats, rel=0.005)


@every_measure
def test_who_agrees_does_not_disagree_however_unsure(measure) -> None:
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(disagreement_score(logits, logits.clone(), measure), torch.zeros(9).double())


@given(pair=pairs)
def test_js_is_symmetric_and_bounded_by_the_logarithm_of_two(pair: np.ndarray) -> None:
    teacher, student = torch.from_numpy(pair)
    score = disagreement_score(teacher, student, "js")
    torch.testing.assert_close(score, disagreement_score(student, teacher, "js"), rtol=0, atol=1e-14)
    assert ((score >= 0) & (score <= math.log(2) + 1e-12)).all()


def test_sure_and_contrary_answers_are_log_two_apart_in_js_and_all_their_logits_in_kl() -> None:
    teacher, student = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])
    assert disagreement_score(teacher, student, "js").item() == pytest.approx(math.log(2), abs=1e-12)
    assert disagreement_score(teacher, student, "kl").item() == pytest.approx(1e4)
    assert disagreement_score(teacher, student, "flip").item() == 1


def test_a_flip_is_another_first_class_and_of_equal_ones_the_first_is_meant() -> None:
    teacher = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [5.0, 5.0, 0.0], [0.0, 5.0, 5.0]])
    student = torch.tensor([[9.0, 8.0, 7.0], [0.0, 2.0, 1.0], [7.0, 7.0, 7.0], [5.0, 5.0, 0.0]])
    assert disagreement_score(teacher, student, "flip").tolist() == [0, 1, 0, 1]


@every_measure
def test_a_temperature_divides_the_logits_of_both(measure) -> None:
    teacher, student = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(
        disagreement_score(teacher, student, measure, 4.0), disagreement_score(teacher / 4, student / 4, measure)
    )


@every_measure
def test_the_sampler_takes_the_highest_scores(measure, make_pool, rng: Generator) -> None:
    teacher, student = 3 * torch.randn(2, 40, 4, generator=torch.Generator().manual_seed(2))
    pool = replace(make_pool(student), teacher=make_pool(teacher).scorer)
    query = disagreement(pool, 7, rng, measure=measure, temperature=2.0)
    score = disagreement_score(teacher, student, measure, 2.0)
    assert query.scores.tolist() == score.sort(descending=True).values[:7].tolist()
    assert score[query.rows].tolist() == query.scores.tolist()


def test_the_teacher_is_asked_once_about_every_candidate_and_nothing_else(make_pool, rng: Generator) -> None:
    student, asked = make_pool(torch.randn(30, 4, generator=rng), ids=torch.arange(9, 29)), []
    teacher = make_pool(torch.randn(30, 4, generator=rng)).scorer
    answers = teacher.answers

    def asking(ids: Tensor) -> Tensor:
        asked.append(ids.tolist())
        return answers[ids]

    teacher.logits = asking
    disagreement(replace(student, teacher=teacher), 3, rng)
    assert asked == [list(range(9, 29))]


def test_without_a_teacher_it_says_so(make_pool, rng: Generator) -> None:
    with pytest.raises(UserError, match="teacher"):
        disagreement(make_pool(torch.zeros(5, 2)), 2, rng)
