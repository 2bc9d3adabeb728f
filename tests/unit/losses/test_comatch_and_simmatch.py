"""CoMatch and SimMatch: closed forms, and step by step against the authors' training loops, written out anew.

z logits, p answers, C classes; x labelled images, u those without a label.
"""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.losses._semi import Window, balanced, soft_ce
from kdal_cli.losses.comatch import Comatch, graph_loss, smoothed
from kdal_cli.losses.simmatch import Simmatch, aggregated, instance_loss, unfolded
from kdal_cli.types import Batch, Examples, Output

CLASSES, FEATURES, LABELLED, POOL, STEPS = 4, 5, 3, 6, 6
EXAMPLES = Examples(torch.tensor([20, 4, 11, 8, 15, 30, 31, 32]), torch.tensor([0, 1, 2, 3, 0]))
NONE = Examples(torch.arange(6), torch.zeros(0, dtype=torch.int64))


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steps() -> Iterator[tuple[Batch, Output, Output, Output]]:
    """(batch, the answers to it, to a strong view of its last `POOL` images, to a second one)."""
    for step in range(STEPS):
        rows = torch.randperm(5, generator=torch.Generator().manual_seed(step))[:LABELLED]
        ids = torch.cat([EXAMPLES.ids[rows], torch.full((POOL,), 30)])
        batch = Batch(ids, ids, ids, EXAMPLES.labels[rows])
        sizes = (LABELLED + POOL, POOL, POOL)
        outputs = (
            Output(2 * drawn(n, CLASSES, seed=10 * step + i), drawn(n, FEATURES, seed=10 * step + i + 5))
            for i, n in enumerate(sizes)
        )
        yield batch, *outputs


def lengthless(x: Tensor) -> Tensor:
    return x / x.pow(2).sum(1, keepdim=True).sqrt()


def embedded(term: nn.Module, features: Tensor, slope: float) -> Tensor:
    first, _, second = term.embedding.layers  # type: ignore[union-attr, misc]
    return lengthless(second(F.leaky_relu(first(features), slope)))  # type: ignore[operator]


# What both share.


def test_the_window_is_the_mean_of_the_last_ones_alone() -> None:
    window, shares = Window(2, 2), [torch.tensor([1 - x, x]) for x in (0.0, 0.5, 0.9)]
    assert [round(float(window(share)[1]), 6) for share in shares] == [0.0, 0.25, 0.7]
    assert float(window.eval()(torch.tensor([1.0, 0.0]))[1]) == pytest.approx(0.45)
    assert float(window(torch.tensor([1.0, 0.0]))[1]) == pytest.approx(0.45), "it stands still outside training"


def test_answers_are_divided_by_their_mean_and_a_class_that_nobody_names_stays_nothing() -> None:
    turned = balanced(torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([0.6, 0.2, 0.0]))
    torch.testing.assert_close(turned, torch.tensor([[0.25, 0.75, 0.0]]))


def test_a_soft_label_counts_where_it_is_sure() -> None:
    logits, probs = torch.tensor([[math.log(3), 0.0]] * 2), torch.tensor([[0.5, 0.5]] * 2)
    found = soft_ce(logits, probs, torch.tensor([True, False]))
    assert found.tolist() == pytest.approx([-0.5 * math.log(3 / 16), 0.0])


# CoMatch.


def test_an_answer_is_smoothed_by_what_looks_alike() -> None:
    near, answers = torch.tensor([[math.log(3) * 0.2, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = smoothed(torch.tensor([[0.2, 0.8]]), near, answers, 0.9, 0.2)
    assert found.tolist() == [pytest.approx([0.9 * 0.2 + 0.1 * 0.75, 0.9 * 0.8 + 0.1 * 0.25])]


def test_the_graph_joins_an_image_with_itself_and_with_those_of_like_answers() -> None:
    probs = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5]])
    one = torch.eye(3)
    found = (one / 0.2).softmax(1)  # e⁵ to itself, 1 to each other one
    near, far = math.log(float(found[0, 0]) + 1e-7), math.log(float(found[0, 1]) + 1e-7)
    apart = graph_loss(probs, one, one, 0.2, 0.8)  # 1 and 2 agree by 0.9
    assert apart.tolist() == pytest.approx([-(near + 0.9 * far) / 1.9, -(near + 0.9 * far) / 1.9, -near], rel=1e-4)


def test_comatch_is_the_authors_training_step_by_step() -> None:
    """Their memory has a pointer and starts to be read when it is full; here after three batches of nine."""
    size, threshold = 3 * (LABELLED + POOL), 0.5
    settings = {"memory": size, "threshold": threshold, "least": 0.3, "dimensions": 7, "contrast": 0.7}
    term = Comatch(next(steps())[1], None, EXAMPLES, **settings).double()  # type: ignore[arg-type]
    queue_feats, queue_probs, pointer, means = torch.zeros(size, 7).double(), torch.zeros(size, CLASSES).double(), 0, []
    counted = 0
    for step, (batch, weak, strong, second) in enumerate(steps()):
        value = term(weak, None, batch, strong, second)
        with torch.no_grad():
            feats = embedded(term, weak.features, 0.1)
            feats_x, feats_u = feats[:LABELLED], feats[LABELLED:]
            probs = torch.softmax(weak.logits[LABELLED:], dim=1)
            means = [*means, probs.mean(0)][-32:]
            probs = probs / torch.stack(means).mean(0)
            probs = original = probs / probs.sum(1, keepdim=True)
            if step >= 3:
                alike = torch.exp(feats_u @ queue_feats.t() / 0.2)
                probs = 0.9 * probs + 0.1 * (alike / alike.sum(1, keepdim=True)) @ queue_probs
            mask = probs.amax(1).ge(threshold).double()
            onehot = torch.zeros(LABELLED, CLASSES).double().scatter(1, batch.labels.view(-1, 1), 1)
            here = slice(pointer, pointer + LABELLED + POOL)
            queue_feats[here], queue_probs[here] = torch.cat([feats_u, feats_x]), torch.cat([original, onehot])
            pointer = (pointer + LABELLED + POOL) % size
        one, two = embedded(term, strong.features, 0.1), embedded(term, second.features, 0.1)
        similar = torch.exp(one @ two.t() / 0.2)
        graph = (probs @ probs.t()).fill_diagonal_(1)
        graph = graph * (graph >= 0.3)
        graph = graph / graph.sum(1, keepdim=True)
        contrast = -(torch.log(similar / similar.sum(1, keepdim=True) + 1e-7) * graph).sum(1).mean()
        classes = (-torch.sum(F.log_softmax(strong.logits, dim=1) * probs, dim=1) * mask).mean()
        assert value.item() == pytest.approx((classes + 0.7 * contrast).item(), abs=1e-9)
        counted += int(mask.sum())
    assert 0 < counted < STEPS * POOL, "some are sure and some are not"


# SimMatch.


def test_likeness_is_unfolded_by_the_class_and_aggregated_to_it() -> None:
    near, probs, labels = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.25, 0.75]]), torch.tensor([0, 1, 1])
    torch.testing.assert_close(unfolded(near, probs, labels), torch.tensor([[0.125, 0.225, 0.15]]) / 0.5)
    torch.testing.assert_close(aggregated(near, labels, 2), torch.tensor([[0.5, 0.5]]))


def test_simmatch_is_the_authors_training_step_by_step() -> None:
    """Their memory is filled by an epoch before it is read; here what was not seen yet is left out of it."""
    threshold, momentum = 0.5, 0.7
    settings = {"threshold": threshold, "dimensions": 7, "instances": 0.6, "momentum": momentum}
    term = Simmatch(next(steps())[1], None, EXAMPLES, **settings).double()  # type: ignore[arg-type]
    bank: dict[int, Tensor] = {}
    queue: list[Tensor] = []
    for batch, weak, strong, _ in steps():
        value = term(weak, None, batch, strong)
        with torch.no_grad():
            feats = embedded(term, weak.features, 0.0)
            probs = torch.softmax(weak.logits[LABELLED:], dim=1)
            queue = [*queue, probs.mean(0)][-256:]
            probs = probs / torch.stack(queue).mean(0)
            probs = original = probs / probs.sum(1, keepdim=True)
        apart = torch.zeros(()).double()
        if bank:
            keys, labels = torch.stack(list(bank.values())).t(), torch.tensor([label_of(id) for id in bank])
            with torch.no_grad():
                teacher = torch.softmax(feats[LABELLED:] @ keys / 0.1, dim=1)
                matched = teacher * original.gather(1, labels.expand(POOL, -1))
                matched = matched / matched.sum(1, keepdim=True)
                classes = torch.zeros(POOL, CLASSES).double().scatter_add(1, labels.expand(POOL, -1), teacher)
                probs = original * 0.9 + classes * (1 - 0.9)
            student = torch.softmax(embedded(term, strong.features, 0.0) @ keys / 0.1, dim=1)
            apart = torch.sum(-matched * torch.log(student), dim=1).mean()
        for id, feature in zip(batch.ids[:LABELLED].tolist(), feats[:LABELLED], strict=True):
            bank[id] = momentum * bank[id] + (1 - momentum) * feature if id in bank else feature
        mask = probs.amax(1).ge(threshold).double()
        loss = (torch.sum(-F.log_softmax(strong.logits, dim=1) * probs, dim=1) * mask).mean()
        assert value.item() == pytest.approx((loss + 0.6 * apart).item(), abs=1e-9)
    assert len(bank) == 5, "every labelled image was seen"


def label_of(id: int) -> int:
    return int(EXAMPLES.labels[EXAMPLES.labelled_ids.tolist().index(id)])


def test_what_is_left_out_of_the_memory_passes_no_gradient_and_no_number_that_is_none() -> None:
    logits = torch.tensor([[1.0, -torch.inf, 0.0]], requires_grad=True)
    value = instance_loss(logits, torch.tensor([[0.5, 0.0, 0.5]]))
    value.sum().backward()
    assert value.item() == pytest.approx(0.5 * (2 * math.log(1 + math.e) - 1), abs=1e-6)
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", [Comatch, Simmatch])
def test_neither_asks_for_a_label_nor_lets_the_weak_view_learn(kind: type[nn.Module]) -> None:
    _, weak, strong, second = next(steps())
    weak = weak[LABELLED:].each(lambda x: x.detach().clone().requires_grad_())
    strong, second = (view.each(lambda x: x.detach().clone().requires_grad_()) for view in (strong, second))
    term = kind(weak, None, NONE, threshold=0.0).double()
    batch = Batch(*(torch.arange(POOL),) * 3, torch.zeros(0, dtype=torch.int64))
    value = term(weak, None, batch, strong, second) if kind is Comatch else term(weak, None, batch, strong)
    value.backward()
    assert (weak.logits.grad, weak.features.grad) == (None, None)
    assert strong.logits.grad is not None
    assert strong.logits.grad.abs().sum() > 0
    assert term.learned()["mask"] == pytest.approx(1.0)  # type: ignore[operator]
