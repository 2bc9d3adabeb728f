"""Contrastive representation distillation against loops by hand and against torchdistill's copy of the authors' code.

And what a memory has to keep: whose row is whose, through duplicates, eval mode and a resumed training.

N images remembered, B batch, K negatives, d dimensions. The first network is the student.
"""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.losses.crd import Crd, crd_loss, rows_by_class
from kdal_cli.types import Batch, Examples, Output

SPARSE = Examples(torch.tensor([70, 3, 41, 8, 99, 12, 55, 20]), torch.tensor([1, 0, 1, 2, 0]))
"""Five labelled images, of classes 1, 0, 1, 2, 0, and three without label."""

CLASS_OF = {70: 1, 3: 0, 41: 1, 8: 2, 99: 0, 12: "a", 55: "b", 20: "c"}


def features(seed: int, batch: int, width: int) -> Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def answers(seed: int, batch: int, widths: tuple[int, int] = (5, 7)) -> tuple[Output, Output]:
    logits = torch.zeros(batch, 3, dtype=torch.float64)
    one, two = (Output(logits, features(2 * seed + i, batch, width)) for i, width in enumerate(widths))
    return one, two


def batch_of(*ids: int) -> Batch:
    n = len(ids)
    return Batch(torch.tensor(ids), torch.zeros(n), torch.zeros(n, 1, 1, 1), torch.zeros(0, dtype=torch.int64))


def term_of(examples: Examples = SPARSE, seed: int = 0, **settings: float) -> Crd:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Crd(*answers(0, 2), examples, **{"dimensions": 4, "negatives": 6, **settings}).double()


def called(term: Crd, seed: int, ids: list[int]) -> tuple[Tensor, Tensor]:
    """(value (B,), the rows that were drawn (B, K)) of a call on random features, its draws seeded."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawn = term.draw(row_of(term, ids))
        torch.manual_seed(seed)
        return term(*answers(seed, len(ids)), batch_of(*ids)), drawn


def row_of(term: Crd, ids: list[int]) -> Tensor:
    return term.rows[torch.searchsorted(term.known, torch.tensor(ids))]


def embedded(term: Crd, seed: int, count: int) -> list[NDArray[np.float64]]:
    """Linear and scaled to length 1, by hand: of the student, of the teacher."""
    found = []
    for layer, output in zip(term.embeds, answers(seed, count), strict=True):
        x = output.features.numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        found.append(np.array([row / math.sqrt(sum(value**2 for value in row)) for row in x]))
    return found


def by_hand(term: Crd, seed: int, rows: list[int], drawn: Tensor, z: list[float] | None, eps: float = 0.0):
    """(values (B,), Z of both directions, the memory afterwards), one product at a time."""
    n, k = term.images, drawn.shape[1]
    embeds, memory = embedded(term, seed, len(rows)), term.memory.numpy().copy()
    weights = [
        [[math.exp(float(embeds[i][b] @ memory[i][m]) / term.tau) for m in [row, *drawn[b].tolist()]]
         for b, row in enumerate(rows)]
        for i in (0, 1)
    ]  # fmt: skip
    z = z or [n * sum(map(sum, both)) / (len(rows) * (k + 1)) for both in weights]
    values = []
    for b in range(len(rows)):
        value = 0.0
        for i in (0, 1):
            own, *others = (w / z[i] for w in weights[i][b])
            value -= math.log(own / (own + k / n + eps))
            value -= sum(math.log((k / n) / (other + k / n + eps)) for other in others)
        values.append(value)
    for i in (0, 1):
        for row in set(rows):
            seen = np.mean([embeds[1 - i][b] for b, r in enumerate(rows) if r == row], axis=0)
            moved = term.momentum * memory[i][row] + (1 - term.momentum) * seen
            memory[i][row] = moved / math.sqrt(sum(moved**2))
    return values, z, memory


# The value.


@pytest.mark.parametrize("settings", [{}, {"tau": 0.5, "momentum": 0.9}, {"momentum": 0.0}, {"momentum": 1.0}])
def test_three_batches_in_a_row_are_those_of_loops_by_hand(settings: dict[str, float]) -> None:
    term, z = term_of(**settings), None
    for seed, ids in enumerate([[3, 41, 12], [8, 3], [20, 99, 70, 55]], start=1):
        rows = row_of(term, ids).tolist()
        before = term_of(**settings)
        before.load_state_dict(term.state_dict())
        value, drawn = called(term, seed, ids)
        expected, z, memory = by_hand(before, seed, rows, drawn, z)
        torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(term.memory, torch.tensor(memory), rtol=1e-12, atol=1e-12)
        assert term.log_z.exp().flatten().tolist() == pytest.approx(z, rel=1e-12)


def test_it_is_the_authors_code_where_that_draws_the_same_and_adds_no_1e_7() -> None:
    peer = pytest.importorskip("torchdistill.losses.mid_level").CRDLoss
    settings = {"tau": 0.0625, "momentum": 0.5}  # torchdistill keeps them in float32
    term = term_of(Examples(torch.arange(9), torch.arange(9) % 3), **settings)
    theirs = peer("s", "e", "t", 4, 9, 6, 9, temperature=0.0625, momentum=0.5, eps=0.0).double()
    theirs.memory_v1, theirs.memory_v2 = term.memory[1].clone(), term.memory[0].clone()
    for seed, ids in enumerate([[4, 0, 8], [1, 4], [7, 2, 3, 5]], start=1):
        rows = row_of(term, ids)
        ours, taught = (torch.tensor(x) for x in embedded(term, seed, len(ids)))
        value, drawn = called(term, seed, ids)
        scores = theirs.contrast_memory(ours, taught, rows, torch.cat([rows[:, None], drawn], 1))
        expected = sum(theirs.compute_contrast_loss(score[:, :, 0]) for score in scores)
        torch.testing.assert_close(value.mean(), expected.squeeze(), rtol=1e-12, atol=0)
        torch.testing.assert_close(term.memory.flip(0), torch.stack([theirs.memory_v1, theirs.memory_v2]))


def test_without_the_1e_7_of_the_authors_code_the_value_is_less_by_at_most_2e_7_n_and_a_little() -> None:
    """By 0.01 for the 50,000 images of CIFAR-100: 2 (1 + K) logarithms of a number above K/N, moved by 1e-7."""
    term = term_of()
    _, drawn = called(term_of(), 1, [3, 41, 12])
    rows = row_of(term, [3, 41, 12]).tolist()
    exact, with_eps = (by_hand(term, 1, rows, drawn, None, eps)[0] for eps in (0.0, 1e-7))
    for one, two in zip(exact, with_eps, strict=True):
        assert 0 < two - one < 2e-7 * term.images * (1 + 6) / 6


def test_torchdistill_cannot_draw_by_itself() -> None:
    """It keeps the shares of its alias table as `probs` and draws from `prob`."""
    peer = pytest.importorskip("torchdistill.losses.mid_level").CRDLoss
    with pytest.raises(AttributeError, match="prob"):
        peer("s", "e", "t", 4, 9, 6, 9).draw(3)


def test_the_loss_of_scores_is_minus_the_log_likelihood_of_a_classifier_of_pairs() -> None:
    """At h = 1/2 for every pair it is log 2 for each of 1 + K; and it falls as the own score rises, others fall."""
    level = math.log(3 / 10)
    scores = torch.full((2, 4), level, dtype=torch.float64)
    value = crd_loss(scores, torch.zeros(1, 1, dtype=torch.float64), 10)
    torch.testing.assert_close(value, torch.full((2,), 4 * math.log(2), dtype=torch.float64))
    slope = torch.autograd.functional.jacobian(lambda s: crd_loss(s, torch.zeros(1, 1), 10).sum(), scores)
    torch.testing.assert_close(slope, torch.tensor([[-0.5, 0.5, 0.5, 0.5]] * 2, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_scores_of_ten_thousand_have_a_finite_loss_and_slope(scale: float) -> None:
    scores = torch.tensor([[scale, -scale, scale]], requires_grad=True)
    value = crd_loss(scores, torch.zeros(1, 1), 5)
    value.sum().backward()
    assert value.isfinite().all()
    assert scores.grad.isfinite().all()


def test_it_has_the_derivative_of_finite_differences_in_features_and_embeddings() -> None:
    term = term_of(tau=0.5).eval()
    one, two = answers(3, 3)
    weights = [layer.weight.detach().clone().requires_grad_() for layer in term.embeds]

    def value(ours: Tensor, first: Tensor, second: Tensor) -> Tensor:
        torch.manual_seed(4)  # the same negatives each time
        named = {"embeds.0.weight": first, "embeds.1.weight": second}
        outputs = (Output(one.logits, ours), two, batch_of(3, 41, 20))
        return torch.func.functional_call(term, named, outputs)

    term.log_z = torch.zeros(2, 1, 1, dtype=torch.float64)  # a constant, as after the first batch
    with torch.random.fork_rng():
        assert torch.autograd.gradcheck(value, (one.features.requires_grad_(), *weights))


def test_z_passes_no_gradient_on() -> None:
    """The slope of a first batch, which sets Z, is that of a batch that finds the same Z as a constant."""
    term, slopes = term_of(), []
    called(term, 5, [3, 41, 12])
    for log_z in (torch.full((2, 1, 1), -math.inf, dtype=torch.float64), term.log_z):
        other = term_of()
        other.log_z = log_z
        called(other, 5, [3, 41, 12])[0].sum().backward()
        slopes.append([parameter.grad for parameter in other.parameters()])
    for one, two in zip(*slopes, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


# The negatives.


def test_ids_of_a_class_are_neighbours_in_the_memory_and_every_id_has_a_row_of_its_own() -> None:
    known, rows, first, size = rows_by_class(SPARSE)
    assert known.tolist() == sorted(CLASS_OF)
    assert sorted(rows.tolist()) == list(range(8))
    for id_, row in zip(known.tolist(), rows.tolist(), strict=True):
        mates = sorted(rows[known == other].item() for other in CLASS_OF if CLASS_OF[other] == CLASS_OF[id_])
        assert mates == list(range(int(first[row]), int(first[row] + size[row])))


def test_negatives_are_uniform_over_the_images_of_other_classes() -> None:
    """A chi-squared of each image's 12,000 draws, at one in a million."""
    term = term_of()
    ids = list(CLASS_OF)
    id_of = dict(zip(row_of(term, ids).tolist(), ids, strict=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = torch.cat([term.draw(row_of(term, ids)) for _ in range(2000)], 1)  # (8, 12000)
    for image, row in zip(ids, drawn, strict=True):
        counts = {id_of[r]: int((row == r).sum()) for r in id_of}
        others = [other for other in ids if CLASS_OF[other] != CLASS_OF[image]]
        assert sum(counts[other] for other in others) == len(row)
        expected = len(row) / len(others)
        assert sum((counts[other] - expected) ** 2 / expected for other in others) < 40


def test_there_are_no_more_negatives_than_other_images() -> None:
    assert term_of(negatives=16384).draw(torch.arange(3)).shape == (3, 7)
    assert term_of(negatives=2).draw(torch.arange(3)).shape == (3, 2)


def test_an_id_that_the_examples_hold_twice_has_one_row() -> None:
    again = Examples(torch.tensor([5, 2, 9, 5, 9, 9]), torch.tensor([0, 1]))
    term = term_of(again)
    assert term.images == 3
    assert len(set(row_of(term, [5, 2, 9]).tolist())) == 3


@pytest.mark.parametrize("labels", [[4, 4, 4], [0, 0, 0]])
def test_images_of_one_class_are_refused_in_a_sentence(labels: list[int]) -> None:
    with pytest.raises(UserError, match="two classes"):
        term_of(Examples(torch.arange(3), torch.tensor(labels)))


def test_one_class_and_one_image_without_label_are_enough() -> None:
    term = term_of(Examples(torch.arange(3), torch.tensor([4, 4])))
    value, drawn = called(term, 1, [0, 1, 2])
    assert value.isfinite().all()
    assert (drawn[:2] == row_of(term, [2])).all()
    assert (drawn[2] != row_of(term, [2])).all()


# The memory.


def test_a_call_moves_the_rows_of_its_batch_and_no_others_to_length_one() -> None:
    term = term_of()
    before = term.memory
    called(term, 1, [3, 41])
    moved = (term.memory != before).any(2)
    rows = row_of(term, [3, 41])
    assert moved[:, rows].all()
    assert moved.sum() == 4
    torch.testing.assert_close(term.memory[:, rows].norm(dim=2), torch.ones(2, 2, dtype=torch.float64))


def test_the_memory_is_without_gradient_and_a_backward_pass_may_come_after_it_moved() -> None:
    term = term_of()
    value, _ = called(term, 1, [3, 41, 12])
    value.sum().backward()
    assert not term.memory.requires_grad
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in term.parameters())


def test_an_image_that_is_in_the_batch_twice_is_remembered_by_the_mean_of_both_whatever_their_order() -> None:
    one, two = answers(6, 3)
    back = torch.tensor([2, 1, 0])
    terms = term_of(), term_of()
    with torch.random.fork_rng():
        terms[0](one, two, batch_of(3, 41, 3))
        terms[1](one.each(lambda x: x[back]), two.each(lambda x: x[back]), batch_of(3, 41, 3))
    torch.testing.assert_close(terms[0].memory, terms[1].memory, rtol=1e-14, atol=1e-14)
    _, _, memory = by_hand(
        term_of(), 6, row_of(terms[0], [3, 41, 3]).tolist(), torch.zeros(3, 1, dtype=torch.int64), None
    )
    torch.testing.assert_close(terms[0].memory, torch.tensor(memory), rtol=1e-12, atol=1e-12)


def test_in_eval_mode_nothing_changes() -> None:
    term = term_of().eval()
    before = {name: tensor.clone() for name, tensor in term.state_dict().items()}
    value, _ = called(term, 1, [3, 41])
    assert value.isfinite().all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in term.state_dict().items())


def test_z_is_of_the_first_batch_and_stays() -> None:
    term = term_of()
    called(term, 1, [3, 41])
    first = term.log_z
    called(term, 2, [8, 12, 20])
    assert first.isfinite().all()
    assert torch.equal(term.log_z, first)


def test_a_training_that_goes_on_from_a_state_dict_has_the_same_bits() -> None:
    whole, part = term_of(), term_of()
    for seed, ids in enumerate([[3, 41], [8, 3]]):
        called(whole, seed, ids)
        called(part, seed, ids)
    resumed = term_of(seed=9)  # other weights and another memory, until they are loaded
    resumed.load_state_dict(part.state_dict())
    for seed, ids in enumerate([[99, 12, 3], [70, 20]], start=2):
        assert torch.equal(called(whole, seed, ids)[0], called(resumed, seed, ids)[0])
    assert torch.equal(whole.memory, resumed.memory)


def test_training_tells_images_apart() -> None:
    term, outputs, batch = term_of(), answers(8, 8), batch_of(*CLASS_OF)
    optimizer, values = torch.optim.SGD(term.parameters(), lr=0.1), []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(60):
            optimizer.zero_grad()
            value = term(*outputs, batch).mean()
            value.backward()
            optimizer.step()
            values.append(value.item())
    assert sum(values[-5:]) < 0.7 * sum(values[:5])
