"""MixUp and CutMix: which pixels of whom, how much of each label, the same wherever a chunk begins."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.images.augment import Augment, Resident
from kdal_cli.streams import Streams
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.training.feed import Feed
from kdal_cli.training.fit import fit
from kdal_cli.training.mixing import Mixer, Mixture
from kdal_cli.training.objective import Objective, Part
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Batch, Examples, Mixed, Output, Unwatched


def picture(value: int, size: int = 10) -> Tensor:
    return torch.full((2, 1, size, size), value, dtype=torch.uint8)


def test_mixup_is_the_weighted_mean_of_two_images() -> None:
    mixed, share = Mixture(0.75)(picture(200), picture(40))
    assert (mixed == 160).all()
    assert share == 0.75


@pytest.mark.parametrize(("centre", "box"), [((0.5, 0.5), (3, 7, 3, 7)), ((0.05, 0.95), (0, 2, 7, 10))])
def test_cutmix_puts_a_rectangle_of_the_other_which_ends_where_the_image_does(centre, box) -> None:
    """Of a share of .8 a side of √.2, that is 4 of 10 pixels."""
    mixed, share = Mixture(0.8, centre)(picture(200), picture(40))
    top, bottom, left, right = box
    assert (mixed[:, :, top:bottom, left:right] == 40).all()
    assert int((mixed[0] == 40).sum()) == (bottom - top) * (right - left)
    assert share == 1 - (bottom - top) * (right - left) / 100


def test_the_share_is_beta_distributed_and_of_both_kinds_each_does_half_of_the_steps() -> None:
    draws = [Mixer(0.4, 2.0, Streams(0)).at(step, 3, 2)[0] for step in range(2000)]
    cut, whole = (np.array([d.share for d in draws if (d.centre is not None) is kind]) for kind in (True, False))
    assert 0.45 < len(cut) / 2000 < 0.55
    for shares, alpha in ((cut, 2.0), (whole, 0.4)):
        assert abs(shares.mean() - 0.5) < 0.04
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.12)


def test_labelled_images_are_mixed_with_labelled_ones_and_the_pool_with_the_pool() -> None:
    for step in range(20):
        _, others = Mixer(1.0, 0.0, Streams(0)).at(step, 5, 3)
        assert sorted(others[:5].tolist()) == [0, 1, 2, 3, 4]
        assert sorted(others[5:].tolist()) == [5, 6, 7]


@pytest.fixture
def feed(images, resident) -> Feed:
    labelled, pool = torch.arange(1, 41, 2), torch.arange(0, 96, 2)
    examples = Examples(torch.cat([labelled, pool]), images.train.labels.all()[labelled])
    return Feed(resident, examples, 6, 4, Streams(3), mixer=Mixer(0.5, 0.5, Streams(3).under("mix")))


def test_a_batch_says_what_its_labelled_images_were_mixed_with(feed: Feed, images, resident) -> None:
    plan = feed.plan(0, 8)
    for row, batch in enumerate(feed.batches(plan)):
        others = plan.others[row]
        assert batch.mixed is not None
        assert torch.equal(batch.mixed.labels, images.train.labels.all()[batch.ids[others[:6]]])
        clean = resident.at(batch.ids, batch.views)
        expected, share = plan.mixtures[row](clean, clean[others])
        assert torch.equal(batch.pixels, expected)
        assert batch.mixed.share == share
        assert len(batch[slice(0, 2)].mixed.labels) == 2  # type: ignore[union-attr]


def test_the_same_step_mixes_alike_wherever_a_chunk_begins_and_in_however_many_pieces(feed: Feed) -> None:
    whole = list(feed.batches(feed.plan(0, 9)))
    for step, batch in enumerate(feed.batches(feed.plan(4, 9)), start=4):
        assert torch.equal(batch.pixels, whole[step].pixels)
    feed.pieces = 2
    pieces = list(feed.batches(feed.plan(0, 9)))
    for step, batch in enumerate(whole):
        first, second = pieces[2 * step : 2 * step + 2]
        assert torch.equal(torch.cat([first.pixels[:3], second.pixels[:3]]), batch.pixels[:6])
        assert torch.equal(torch.cat([first.pixels[3:], second.pixels[3:]]), batch.pixels[6:])
        assert torch.equal(torch.cat([first.mixed.labels, second.mixed.labels]), batch.mixed.labels)  # type: ignore[union-attr]


def test_a_mixture_has_both_labels_each_as_much_as_its_image() -> None:
    logits, labels, other = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    ids = torch.arange(4)
    batch = Batch(ids, ids, torch.empty(0), labels, Mixed(other, 0.7))
    soft = 0.7 * F.one_hot(labels, 3) + 0.3 * F.one_hot(other, 3)
    got = Objective()(Output(logits, logits), None, batch, 0.0)["ce"]
    assert float(got) == pytest.approx(float(F.cross_entropy(logits, soft)), rel=1e-5)


def test_the_teacher_sees_the_very_mixtures_that_the_student_sees(images, engine, make_network) -> None:
    """A term that compares pixels with what the teacher was shown would find a difference."""
    student, teacher, seen = make_network(), make_network(1), []
    for network in (student, teacher):
        network.body.register_forward_pre_hook(lambda body, args: seen.append(args[0].detach().clone()))

    def gap(ours: Output, theirs: Output, batch: Batch) -> Tensor:
        return (ours.logits - theirs.logits).square().mean(1)

    plain = Resident(images.train.pixels, Augment())
    examples = Examples(torch.arange(60), images.train.labels.all()[:30])
    recipe = Recipe(steps=1, batch=8, pool_batch=4, checks=1, mixup=1.0, precision="fp32")
    objective, live = Objective(0.1, {"gap": Part(gap, 1.0)}), LiveTeacher(teacher, engine, "fp32")
    fit(student, plain, examples, objective, recipe, engine, Streams(0), Unwatched(), teacher=live)
    shown = [pixels for pixels in seen if len(pixels) == 12][:2]
    assert torch.equal(*shown)
    unmixed = Feed(plain, examples, 8, 4, Streams(0))
    (batch,) = unmixed.batches(unmixed.plan(0, 1))
    assert not torch.equal(shown[0], (batch.pixels.float() - student.mean) / student.std)
