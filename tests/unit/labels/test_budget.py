"""How many labels are bought, and when: never more than there are, and said in words."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdal_cli.errors import UserError
from kdal_cli.labels.budget import Budget

sizes = st.integers(1, 60)


def bought_one_by_one(budget: Budget, pool: int) -> list[int]:
    """The plan, walked through as a shopper would."""
    left, plan = pool, []
    for wanted in [budget.initial, *[budget.query] * budget.rounds]:
        got = min(wanted, left)
        left -= got
        if got:
            plan.append(got)
    return plan


@given(initial=sizes, query=sizes, rounds=st.integers(0, 12), pool=st.integers(1, 200))
@settings(deadline=None, max_examples=300)
def test_a_plan_buys_what_is_asked_for_until_the_pool_is_empty(
    initial: int, query: int, rounds: int, pool: int
) -> None:
    budget = Budget(initial, query, rounds)
    if initial > pool or (rounds and initial + query > pool):
        with pytest.raises(UserError):
            budget.plan(pool)
        return
    plan = budget.plan(pool)
    assert plan == bought_one_by_one(budget, pool)
    assert sum(plan) == min(pool, initial + rounds * query)


def test_the_last_query_takes_what_is_left() -> None:
    assert Budget(initial=10, query=20, rounds=5).plan(55) == [10, 20, 20, 5]


def test_no_rounds_is_the_seed_set_alone() -> None:
    assert Budget(initial=10, query=1000, rounds=0).plan(10) == [10]


@pytest.mark.parametrize(
    ("budget", "pool", "line"),
    [
        (
            Budget(2000, 1, 1),
            1277,
            "budget.initial=2000 is more than the 1,277 images of the pool: at most 1,277 labels can be bought",
        ),
        (
            Budget(100, 1200, 9),
            1277,
            "budget.query=1200 is more than the pool holds after the seed set: 1,277 images − 100 = 1,177: "
            "at most 1,177 labels can be bought in a round",
        ),
        (
            Budget(20, 1, 1),
            20,
            "budget.query=1 is more than the pool holds after the seed set: 20 images − 20 = 0: set budget.rounds=0",
        ),
    ],
)
def test_a_budget_that_does_not_fit_is_refused_with_the_arithmetic(budget: Budget, pool: int, line: str) -> None:
    with pytest.raises(UserError) as refused:
        budget.plan(pool)
    assert str(refused.value) == line


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(100, 100, 9), "100 to start + 9 rounds × 100 = 1,000 of 1,277 labels"),
        (Budget(100, 50, 1), "100 to start + 1 round × 50 = 150 of 1,277 labels"),
        (Budget(77, 1, 0), "77 to start = 77 of 1,277 labels"),
        (Budget(277, 300, 4), "277 to start + 3 rounds × 300 + a last round of 100 = 1,277 of 1,277 labels"),
        (
            Budget(277, 500, 5),
            "277 to start + 2 rounds × 500 = 1,277 of 1,277 labels "
            "(budget.rounds=5 asks for more than the pool holds: 2 will be run)",
        ),
    ],
)
def test_the_plan_is_said_in_words(budget: Budget, words: str) -> None:
    assert budget.sentence(1277) == words


@given(initial=sizes, query=sizes, rounds=st.integers(0, 12), pool=st.integers(120, 300))
@settings(deadline=None, max_examples=60)
def test_the_sentence_names_the_sum_of_the_plan(initial: int, query: int, rounds: int, pool: int) -> None:
    budget = Budget(initial, query, rounds)
    assert f"= {sum(budget.plan(pool)):,} of {pool:,} labels" in budget.sentence(pool)


@pytest.fixture
def five_seconds() -> Iterator[None]:
    """An alarm, because what these tests look for takes for ever."""

    def ring(number: int, frame: object) -> None:
        raise TimeoutError("the plan took more than five seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("five_seconds")
def test_rounds_without_end_cost_no_more_than_the_pool_has_images() -> None:
    assert Budget(initial=1, query=1, rounds=10**7).plan(4) == [1, 1, 1, 1]
    words = Budget(initial=1, query=3, rounds=10**12).sentence(8)
    assert words.startswith("1 to start + 2 rounds × 3 + a last round of 1 = 8 of 8 labels")
