"""The images of a training, addressed by step: fair, endless, and the same however they are drawn."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdal_cli.dataset import ImageData
from kdal_cli.images.augment import Resident
from kdal_cli.streams import Streams
from kdal_cli.training.feed import Feed, Order
from kdal_cli.types import Examples


@given(size=st.integers(1, 40), batch=st.integers(1, 50), cut=st.integers(0, 12))
@settings(deadline=None, max_examples=80)
def test_batches_have_one_shape_and_do_not_depend_on_how_they_are_drawn(size: int, batch: int, cut: int) -> None:
    order = Order(size, 18, Streams(0))
    rows, views = order.draw(0, 12, batch)
    assert rows.shape == views.shape == (12, batch)
    parts = [order.draw(start, stop, batch) for start, stop in ((0, cut), (cut, 12)) if start < stop]
    assert torch.equal(torch.cat([part[0] for part in parts]), rows)
    assert torch.equal(torch.cat([part[1] for part in parts]), views)
    alone = [order.draw(step, step + 1, batch)[0] for step in range(12)]
    assert torch.equal(torch.cat(alone), rows)


@given(size=st.integers(1, 40), batch=st.integers(1, 15))
@settings(deadline=None, max_examples=50)
def test_every_epoch_is_a_permutation(size: int, batch: int) -> None:
    rows, views = Order(size, 5, Streams(1)).draw(0, -(-3 * size // batch), batch)
    for epoch in range(3):
        visited = rows.flatten()[epoch * size : (epoch + 1) * size]
        assert sorted(visited.tolist()) == list(range(size))
    assert 0 <= int(views.min()) <= int(views.max()) < 5


def test_epochs_are_shuffled_anew_and_every_view_comes() -> None:
    rows, views = Order(50, 18, Streams(2)).draw(0, 10, 50)
    assert len({tuple(epoch) for epoch in rows.tolist()}) == 10
    assert set(views.flatten().tolist()) == set(range(18))
    of_one_image = views[rows == 7]
    assert len(set(of_one_image.tolist())) > 3


@pytest.fixture
def feed(images: ImageData, resident: Resident) -> Feed:
    """20 labelled images of odd ids, the pool of even ones."""
    labelled = torch.arange(1, 41, 2)
    pool = torch.arange(0, 96, 2)
    return Feed(resident, Examples(torch.cat([labelled, pool]), images.train.labels.all()[labelled]), 6, 5, Streams(3))


def test_a_batch_is_labelled_images_with_their_labels_and_then_pool_images_without(
    feed: Feed, images, resident
) -> None:
    for batch in feed.batches(feed.plan(0, 20)):
        assert (len(batch.ids), len(batch.labels)) == (11, 6)
        assert torch.equal(batch.labels, images.train.labels.all()[batch.ids[:6]])
        assert (batch.ids[:6] % 2 == 1).all()
        assert (batch.ids[6:] % 2 == 0).all()
        assert torch.equal(batch.pixels, resident.at(batch.ids, batch.views))


def test_a_step_has_the_same_batch_wherever_a_chunk_begins(feed: Feed) -> None:
    whole = list(feed.batches(feed.plan(0, 15)))
    for step, batch in enumerate(feed.batches(feed.plan(4, 9)), start=4):
        assert torch.equal(batch.ids, whole[step].ids)
        assert torch.equal(batch.views, whole[step].views)


def test_the_labelled_stream_does_not_depend_on_the_pool(images, resident, feed: Feed) -> None:
    """So that a student with a teacher and one without see the same labelled images in the same views."""
    alone = Feed(resident, Examples(feed.examples.labelled_ids, feed.examples.labels), 6, 0, Streams(3))
    for one, two in zip(feed.batches(feed.plan(0, 10)), alone.batches(alone.plan(0, 10)), strict=True):
        assert torch.equal(one.ids[:6], two.ids)
        assert torch.equal(one.views[:6], two.views)


def test_labelled_and_pool_images_are_shuffled_each_in_their_own_way(images, resident) -> None:
    ids = torch.arange(20)
    feed = Feed(resident, Examples(torch.cat([ids, ids + 40]), images.train.labels.all()[:20]), 20, 20, Streams(3))
    (batch,) = feed.batches(feed.plan(0, 1))
    assert batch.ids[:20].tolist() != (batch.ids[20:] - 40).tolist()
    assert batch.views[:20].tolist() != batch.views[20:].tolist()


@given(
    labelled=st.integers(1, 30),
    pool=st.integers(0, 30),
    batch=st.integers(1, 20),
    pool_batch=st.integers(0, 20),
    steps=st.integers(0, 12),
)
@settings(max_examples=60)
def test_the_images_of_a_training_are_those_of_all_its_batches(
    resident, labelled: int, pool: int, batch: int, pool_batch: int, steps: int
) -> None:
    """Less than an epoch, several, or none; an image of the pool may come twice in it."""
    pool_ids = torch.cat([torch.arange(40, 40 + pool), torch.arange(40, 40 + pool // 2)])
    examples = Examples(torch.cat([torch.arange(labelled), pool_ids]), torch.zeros(labelled, dtype=torch.int64))
    feed = Feed(resident, examples, batch, pool_batch if pool else 0, Streams(4))
    seen = [data.ids for data in feed.batches(feed.plan(0, steps))] if steps else []
    assert feed.ids(steps).tolist() == sorted(set(torch.cat([torch.empty(0), *seen]).int().tolist()))


@pytest.mark.parametrize("on", ["pool", "both"])
def test_other_views_are_of_the_same_images_and_do_not_depend_on_how_steps_are_drawn(on, images, resident) -> None:
    examples = Examples(torch.arange(60), images.train.labels.all()[:20])
    feed = Feed(resident, examples, 6, 5, Streams(3), more={"strong": on, "again": on})
    plain = Feed(resident, examples, 6, 5, Streams(3))
    whole, first = list(feed.batches(feed.plan(0, 20))), 6 if on == "pool" else 0
    for step, (batch, alone, without) in enumerate(
        zip(whole, feed.batches(feed.plan(0, 20)), plain.batches(plain.plan(0, 20)), strict=True)
    ):
        (again,) = feed.batches(feed.plan(step, step + 1))
        assert torch.equal(batch.pixels, without.pixels)  # what was drawn before stays as it is
        assert torch.equal(batch.strong, alone.strong)
        assert torch.equal(batch.strong, again.strong)
        assert torch.equal(batch.again, again.again)
        assert len(batch.strong) == len(batch.again) == 11 - first
    numbers = feed.plan(0, 20).numbers
    assert torch.equal(whole[3].strong, resident.strong(whole[3].ids[first:], numbers[3, first:]))
    assert len(numbers.unique()) == numbers.numel()  # each visit in a view of its own


def test_in_pieces_images_keep_their_other_views(images, resident) -> None:
    examples = Examples(torch.arange(60), images.train.labels.all()[:20])
    whole, cut = (Feed(resident, examples, 6, 4, Streams(3), more={"strong": "pool"}) for _ in range(2))
    cut.pieces = 2
    (one,), parts = whole.batches(whole.plan(0, 1)), list(cut.batches(cut.plan(0, 1)))
    assert torch.equal(torch.cat([part.strong for part in parts]), one.strong)
    assert [len(part.strong) for part in parts] == [2, 2]


def test_where_nobody_asks_there_are_no_other_views(feed: Feed) -> None:
    (batch,) = feed.batches(feed.plan(0, 1))
    assert batch.strong is batch.again is feed.plan(0, 1).numbers is None


# Balanced batches.


@given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=5), batch=st.integers(1, 20))
@settings(deadline=None, max_examples=50)
def test_balanced_every_so_many_visits_as_there_are_classes_are_one_of_each(counts: list[int], batch: int) -> None:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    groups = [(labels == label).nonzero().flatten() for label in range(len(counts))]
    rows, _ = Order(len(labels), 3, Streams(0), groups).draw(0, 12, batch)
    turns = labels[rows.flatten()][: 12 * batch // len(counts) * len(counts)].view(-1, len(counts))
    assert (turns.sort(1).values == torch.arange(len(counts))).all()


def test_balanced_all_images_come_in_time_and_few_of_a_class_come_again() -> None:
    """Of a class with two images both come in every epoch; of one with 28 another half each time."""
    groups = [torch.arange(28), torch.tensor([28, 29])]
    rows, _ = Order(30, 1, Streams(0), groups).draw(0, 8, 30)
    visits = torch.bincount(rows.flatten(), minlength=30)
    assert visits[28:].sum() == visits[:28].sum() == 120
    assert (visits[28:] >= 56).all()
    assert (visits[:28] > 0).all()


def test_a_balanced_feed_knows_the_images_of_a_training(images, resident) -> None:
    labels = torch.tensor([0] * 9 + [1] * 2)
    feed = Feed(resident, Examples(torch.arange(11), labels), 4, 0, Streams(1), balanced=True)
    seen = torch.cat([batch.ids for batch in feed.batches(feed.plan(0, 2))])
    assert feed.ids(2).tolist() == sorted(set(seen.tolist()))
    assert feed.ids(0).tolist() == []


FIRST = {"strong": "pool"}


def test_a_second_strong_view_is_another_one_and_leaves_the_first_as_it_was(images, resident) -> None:
    examples = Examples(torch.arange(60), images.train.labels.all()[:20])
    alone, both = (
        Feed(resident, examples, 6, 5, Streams(3), more=more) for more in (FIRST, FIRST | {"second": "pool"})
    )
    for one, two in zip(alone.batches(alone.plan(0, 3)), both.batches(both.plan(0, 3)), strict=True):
        assert torch.equal(one.strong, two.strong)
        assert two.second.shape == two.strong.shape
        assert not torch.equal(two.second, two.strong)
        assert torch.equal(two[6:].second, two.second), "of the images of the pool"
