"""Who sells labels: at their price, and with the noise asked for, the same errors for whoever asks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdal_cli.dataset import Labels
from kdal_cli.errors import UserError
from kdal_cli.labels.oracle import Occasion
from kdal_cli.labels.oracles.simulated import simulated

MANY = torch.arange(20_000) % 5


def test_without_noise_every_label_is_the_true_one_at_its_price() -> None:
    answer = simulated(Labels.complete(MANY), 5, price=0.25)(torch.tensor([9, 3, 3]))
    assert answer.labels.tolist() == [4, 3, 3]
    assert (answer.costs.tolist(), answer.costs.dtype, answer.owner) == ([0.25] * 3, torch.float64, "simulated")


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_as_many_labels_are_wrong_as_the_noise_says(noise: float) -> None:
    """Within five standard deviations of a binomial."""
    wrong = simulated(Labels.complete(MANY), 5, noise=noise)(torch.arange(20_000)).labels != MANY
    assert abs(int(wrong.sum()) - 20_000 * noise) < 5 * (20_000 * noise * (1 - noise)) ** 0.5


def test_a_wrong_label_is_any_of_the_other_classes_alike_and_never_the_true_one() -> None:
    truth = MANY
    believed = simulated(Labels.complete(truth), 5, noise=1.0)(torch.arange(20_000)).labels
    assert (believed != truth).all()
    for c in range(5):
        counts = believed[truth == c].bincount(minlength=5)  # 4,000 images, 1,000 of each other class
        assert counts[c] == 0
        assert ((counts[torch.arange(5) != c] - 1000).abs() < 5 * (4000 * 3 / 16) ** 0.5).all()


@given(st.integers(2, 9), st.integers(1, 60), st.floats(0, 1), st.integers(0, 2**32))
def test_labels_are_classes_that_there_are_and_the_same_for_whoever_asks(classes, n, noise, seed) -> None:
    labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))
    one, other = (
        simulated(Labels.complete(labels), classes, noise=noise),
        simulated(Labels.complete(labels), classes, noise=noise),
    )
    torch.manual_seed(seed)
    before = torch.get_rng_state()
    whole = one(torch.arange(n)).labels
    assert torch.equal(torch.get_rng_state(), before)
    assert ((whole >= 0) & (whole < classes)).all()
    backwards = torch.arange(n).flip(0)
    assert torch.equal(other(backwards).labels, whole[backwards])
    assert [int(other(torch.tensor([id])).labels) for id in range(n)] == whole.tolist()


def test_more_noise_keeps_the_errors_of_less() -> None:
    less, more = (simulated(Labels.complete(MANY), 5, noise=share)(torch.arange(20_000)).labels for share in (0.1, 0.3))
    wrong = less != MANY
    assert torch.equal(more[wrong], less[wrong])


def test_a_label_that_is_unknown_is_not_made_up() -> None:
    oracle = simulated(Labels(9, torch.tensor([2, 5]), torch.tensor([1, 0])), 2, noise=0.5)
    assert set(oracle(torch.tensor([5, 2])).labels.tolist()) <= {0, 1}
    with pytest.raises(LookupError):
        oracle(torch.tensor([5, 3]))


def test_neither_the_true_labels_nor_later_answers_change_with_an_answer() -> None:
    labels = MANY.clone()
    oracle = simulated(Labels.complete(labels), 5, noise=0.5)
    first = oracle(torch.arange(100)).labels
    kept = first.clone()
    first.zero_()
    assert torch.equal(oracle(torch.arange(100)).labels, kept)
    assert torch.equal(labels, MANY)


def test_annotators_of_a_list_err_apart_and_answer_in_turn() -> None:
    """Each as often as its noise says; who is asked again says the same again."""
    oracle = simulated(Labels.complete(MANY), 5, noise=[0.0, 0.3], price=0.5)
    ids = torch.arange(20_000)
    first = oracle(ids)
    whose = [owner == "simulated 2" for owner in first.owners]
    assert 0.47 < sum(whose) / 20_000 < 0.53
    assert not (first.labels != MANY)[~torch.tensor(whose)].any()
    assert 0.27 < float((first.labels != MANY)[torch.tensor(whose)].double().mean()) < 0.33
    second = oracle(ids, Occasion(1, again={id: (who,) for id, who in enumerate(first.owners)}))
    assert all(one != other for one, other in zip(first.owners, second.owners, strict=True))
    third = oracle(ids[:50], Occasion(2, again=dict.fromkeys(range(50), ("a", "b"))))
    assert (third.labels.tolist(), third.owners) == (first.labels[:50].tolist(), first.owners[:50])
    other = simulated(Labels.complete(MANY), 5, noise=[0.0, 0.3], seed=1)(ids)
    assert other.owners != first.owners


def test_a_list_of_no_annotators_is_refused() -> None:
    with pytest.raises(UserError, match="noise"):
        simulated(Labels.complete(MANY), 5, noise=[])
