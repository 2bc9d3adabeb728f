"""A model over many images: the same answers whatever the batch, and draws that differ by their masks alone.

A committee answers the mean of its members; a memory asks about no image twice.
"""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Generator, Tensor, nn

from kdal_cli.dataset import ImageData
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Augment, Resident
from kdal_cli.inference.predict import BATCH, predict, predict_logits
from kdal_cli.inference.scorers import Committee, Remembering, Seer
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.models.wrn import wrn
from kdal_cli.network import Network
from kdal_cli.training.answers import LiveTeacher
from kdal_cli.types import Batch

EVERY = torch.arange(96)


@pytest.fixture
def cnn(images: ImageData) -> Network:
    """With batch-norm and dropout, so that a wrong mode shows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network(small_cnn(images.shape, width=4, dropout=0.5), images.mean, images.std)


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("batch", [1, 7, 95, 96, 1000])
def test_the_answers_do_not_depend_on_the_batch(batch: int, cnn: Network, resident: Resident) -> None:
    one, other = predict(cnn, resident, EVERY), predict(cnn, resident, EVERY, batch=batch)
    torch.testing.assert_close(other.logits, one.logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(other.features, one.features, rtol=0, atol=1e-6)


def test_answers_are_float32_in_the_order_of_the_ids_and_carry_no_gradient(cnn: Network, resident: Resident) -> None:
    ids = torch.tensor([5, 90, 5, 0])
    answers = predict(cnn, resident, ids)
    assert (answers.logits.dtype, answers.features.dtype) == (torch.float32, torch.float32)
    assert (answers.logits.shape, answers.features.shape) == ((4, 3), (4, 16))
    assert not answers.logits.requires_grad
    torch.testing.assert_close(answers.logits, predict(cnn, resident, EVERY).logits[ids], rtol=0, atol=1e-6)
    assert torch.equal(answers.logits[0], answers.logits[2])


def test_no_images_have_answers_of_the_right_width(cnn: Network, resident: Resident) -> None:
    answers = predict(cnn, resident, EVERY[:0])
    assert (answers.logits.shape, answers.features.shape) == ((0, 3), (0, 16))


@pytest.mark.parametrize("training", [True, False])
def test_it_looks_in_eval_and_puts_the_mode_back(training: bool, cnn: Network, resident: Resident) -> None:
    cnn.train(training)
    before = bits(cnn)
    one, two = predict(cnn, resident, EVERY), predict(cnn, resident, EVERY)
    assert torch.equal(one.logits, two.logits)  # dropout was off
    assert all(torch.equal(tensor, before[name]) for name, tensor in bits(cnn).items())  # batch-norm too
    assert all(module.training == training for module in cnn.modules())


def test_the_mode_comes_back_after_an_error_too(cnn: Network, resident: Resident) -> None:
    cnn.train()
    with pytest.raises(IndexError):
        predict(cnn, resident, torch.tensor([96]))
    assert cnn.training


def test_it_looks_at_the_images_themselves_and_not_at_a_view(cnn: Network, images: ImageData) -> None:
    plain, augmented = (Resident(images.train.pixels, augment) for augment in (Augment(), Augment(pad=2, flip=True)))
    assert torch.equal(predict(cnn, plain, EVERY).logits, predict(cnn, augmented, EVERY).logits)


# Draws.


def test_draws_differ_from_each_other_and_from_the_answer_without_dropout(cnn, resident) -> None:
    draws = [*Seer(cnn, resident).draws(EVERY, 4, rng()), predict(cnn, resident, EVERY).logits]
    assert not any(torch.equal(one, two) for one, two in itertools.combinations(draws, 2))


def test_the_same_seed_gives_the_same_draws_and_another_one_others(cnn, resident) -> None:
    looker = Seer(cnn, resident)
    one, two, three = (torch.stack(list(looker.draws(EVERY, 3, rng(seed)))) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_a_draw_has_one_mask_for_all_images_and_so_depends_on_no_batch_and_no_order(cnn, resident) -> None:
    looker = Seer(cnn, resident)
    (whole,) = looker.draws(EVERY, 1, rng())
    (backwards,) = looker.draws(EVERY.flip(0), 1, rng())
    (few,) = looker.draws(EVERY[10:13], 1, rng())
    torch.testing.assert_close(backwards.flip(0), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(few, whole[10:13], rtol=0, atol=1e-6)


def test_nor_on_how_many_images_there_are(cnn, images: ImageData) -> None:
    """Of 384 images, more than a pass takes, each of 96 comes four times and looks the same every time."""
    four_times = Resident(images.train.pixels.repeat(4, 1, 1, 1), Augment())
    assert len(four_times) > BATCH
    (draw,) = Seer(cnn, four_times).draws(torch.arange(384), 1, rng())
    torch.testing.assert_close(draw, draw[:96].repeat(4, 1), rtol=0, atol=1e-6)


def test_their_mean_is_the_answer_without_dropout(cnn, resident) -> None:
    """The classifier is linear in the features that are dropped, kept ones being scaled by 1 / (1 − p)."""
    draws = torch.stack(list(Seer(cnn, resident).draws(EVERY[:3], 800, rng())))
    answer = predict(cnn, resident, EVERY[:3]).logits
    error = draws.std(0) / 800**0.5
    assert ((draws.mean(0) - answer).abs() < 5 * error).all()


def test_draws_leave_the_network_as_it_was_even_when_broken_off(cnn, resident) -> None:
    cnn.train()
    before, looker = bits(cnn), Seer(cnn, resident)
    plain = predict(cnn, resident, EVERY).logits
    draws = looker.draws(EVERY, 5, rng())
    next(draws)
    draws.close()
    assert torch.equal(predict(cnn, resident, EVERY).logits, plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in bits(cnn).items())
    assert cnn.training


def test_dropout_inside_convolutions_is_drawn_too(images: ImageData, resident: Resident) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Network(wrn(images.shape, depth=10, width=1, dropout=0.3), images.mean, images.std)
    one, two = Seer(net, resident).draws(EVERY[:4], 2, rng())
    assert not torch.equal(one, two)


def test_a_model_without_dropout_is_refused_with_what_has_draws(make_network, resident: Resident) -> None:
    with pytest.raises(
        UserError, match=r"no dropout, so that all its draws are the same: a student .* or scorer=seeds"
    ):
        next(Seer(make_network(), resident).draws(EVERY, 2, rng()))


# The logits alone, and the classifier alone.


def test_the_logits_alone_are_those_that_come_with_features(cnn: Network, resident: Resident) -> None:
    looker = Seer(cnn, resident)
    logits, features = looker.look(EVERY)
    assert torch.equal(looker.logits(EVERY), logits)
    assert torch.equal(predict_logits(cnn, resident, EVERY, batch=96), logits)
    assert torch.equal(predict(cnn, resident, EVERY).features, features)
    assert looker.logits(EVERY[:0]).shape == (0, 3)


def test_the_classifier_answers_to_features_what_the_model_answers_to_their_images(cnn: Network, resident) -> None:
    looker = Seer(cnn.train(), resident)
    logits, features = looker.look(EVERY)
    torch.testing.assert_close(looker.classify(features), logits, rtol=0, atol=1e-5)
    mixed = (features[:48] + features[48:]) / 2
    torch.testing.assert_close(looker.classify(mixed), (logits[:48] + logits[48:]) / 2, rtol=0, atol=1e-5)
    assert looker.classify(features.bfloat16()).dtype == torch.float32
    assert looker.classify(features[:0]).shape == (0, 3)
    assert cnn.training
    torch.testing.assert_close(looker.logits(EVERY), logits)  # what it answered to is not taken for an image's features


class Scaled(nn.Module):
    """Its logits are not those of its last linear layer alone."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.fc, self.factor = nn.Linear(36, 3), factor

    def forward(self, pixels: Tensor) -> Tensor:
        return self.factor * self.fc(pixels.flatten(1))


def test_a_model_that_does_more_after_its_last_linear_layer_is_refused(images: ImageData, resident: Resident) -> None:
    plain, scaled = (Seer(Network(Scaled(f), images.mean, images.std), resident) for f in (1.0, 1.5))
    torch.testing.assert_close(plain.classify(plain.look(EVERY)[1]), plain.logits(EVERY))
    with pytest.raises(
        UserError, match=r"^Scaled does not end in the linear layer that makes its logits: a sampler that"
    ):
        scaled.classify(torch.zeros(2, 36))


# A committee.


class Known:
    """A scorer that knows its answers, and remembers what it was asked."""

    def __init__(self, answers: Tensor) -> None:
        self.answers = answers
        self.asked: list[tuple[str, list[int]]] = []

    def logits(self, ids: Tensor) -> Tensor:
        self.asked.append(("logits", ids.tolist()))
        return self.answers[ids]

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append(("both", ids.tolist()))
        return self.answers[ids], -self.answers[ids]

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        return (self.answers[ids] + n for n in range(count))

    def classify(self, features: Tensor) -> Tensor:
        return features + 1


def test_the_logits_of_a_committee_are_those_of_the_mean_of_its_probabilities(make_network, resident) -> None:
    members = [Seer(make_network(seed), resident) for seed in range(3)]
    committee = Committee(members)
    mean = torch.stack([member.logits(EVERY).softmax(1) for member in members]).mean(0)
    torch.testing.assert_close(committee.logits(EVERY).softmax(1), mean)
    torch.testing.assert_close(committee.logits(EVERY).exp(), mean)
    logits, features = committee.look(EVERY)
    assert torch.equal(logits, committee.logits(EVERY))
    assert torch.equal(features, members[-1].look(EVERY)[1])
    assert torch.equal(committee.classify(features), members[-1].classify(features))


def test_a_sure_member_is_not_lost_to_rounding() -> None:
    """One is sure of the first class by 200, one of the second by 300; softmax knows neither's doubts."""
    first, second = Known(torch.tensor([[0.0, -200.0, -1000.0]])), Known(torch.tensor([[-300.0, 0.0, -1000.0]]))
    logits = Committee([first, second]).logits(torch.tensor([0]))
    torch.testing.assert_close(logits, torch.tensor([[-0.6931472, -0.6931472, -1000.0]]))


def test_the_draws_of_a_committee_are_its_members_however_many_are_asked_for(make_network, resident) -> None:
    members = [Seer(make_network(seed), resident) for seed in range(3)]
    for count in (1, 10):
        draws = list(Committee(members).draws(EVERY, count, rng()))
        assert len(draws) == 3
        assert all(torch.equal(draw, member.logits(EVERY)) for draw, member in zip(draws, members, strict=True))


def test_a_committee_of_one_is_that_one(make_network, resident) -> None:
    alone = Seer(make_network(), resident)
    torch.testing.assert_close(Committee([alone]).logits(EVERY), alone.logits(EVERY).log_softmax(1))


# A memory.


def remembering() -> tuple[Remembering, Known]:
    known = Known(torch.randn(10, 3, generator=rng()))
    return Remembering(known, 10), known


def test_it_is_asked_about_no_image_twice() -> None:
    memory, known = remembering()
    ids = torch.tensor([7, 2, 5])
    assert torch.equal(memory.logits(ids), known.answers[ids])
    more = torch.tensor([5, 1, 7, 0])
    assert torch.equal(memory.logits(more), known.answers[more])
    assert torch.equal(memory.logits(ids), known.answers[ids])
    assert known.asked == [("logits", [7, 2, 5]), ("logits", [1, 0])]
    assert memory.asked.nonzero().flatten().tolist() == [0, 1, 2, 5, 7]


def test_a_pass_for_features_is_one_for_logits_too_and_one_for_logits_is_none_for_features() -> None:
    memory, known = remembering()
    memory.logits(torch.tensor([1, 2]))
    logits, features = memory.look(torch.tensor([2, 3]))
    assert torch.equal(logits, known.answers[[2, 3]])
    assert torch.equal(features, -known.answers[[2, 3]])
    assert torch.equal(memory.logits(torch.tensor([3, 1])), known.answers[[3, 1]])
    assert torch.equal(memory.look(torch.tensor([3]))[1], -known.answers[[3]])
    assert known.asked == [("logits", [1, 2]), ("both", [2, 3])]
    assert memory.asked.nonzero().flatten().tolist() == [1, 2, 3]


def test_what_it_answers_is_not_what_it_keeps() -> None:
    memory, known = remembering()
    memory.logits(torch.tensor([4])).zero_()
    assert torch.equal(memory.logits(torch.tensor([4])), known.answers[[4]])


def test_no_images_have_answers_of_the_right_width_and_count_as_none() -> None:
    memory, known = remembering()
    none = torch.zeros(0, dtype=torch.int64)
    assert memory.logits(none).shape == (0, 3)
    assert [part.shape for part in memory.look(none)] == [(0, 3), (0, 3)]
    assert not memory.asked.any()
    assert torch.equal(memory.look(torch.tensor([6]))[1], -known.answers[[6]])


def test_draws_are_answers_too_and_the_classifier_looks_at_no_image() -> None:
    memory, known = remembering()
    assert torch.equal(memory.classify(torch.zeros(2, 3)), torch.ones(2, 3))
    assert not memory.asked.any()
    draws = list(memory.draws(torch.tensor([9, 3]), 2, rng()))
    assert torch.equal(draws[1], known.answers[[9, 3]] + 1)
    assert memory.asked.nonzero().flatten().tolist() == [3, 9]


def test_of_a_model_it_remembers_bit_for_bit_what_the_model_answered(cnn: Network, resident: Resident) -> None:
    memory, plain = Remembering(Seer(cnn, resident), 96), Seer(cnn, resident)
    logits, features = plain.look(EVERY)
    memory.look(EVERY)
    some = torch.tensor([50, 3])
    assert torch.equal(memory.logits(some), logits[some])
    assert torch.equal(memory.look(some)[1], features[some])


# The teacher.


def test_a_live_teacher_answers_to_the_pixels_of_the_batch_and_is_frozen(cnn, resident, engine) -> None:
    teacher = LiveTeacher(cnn.train(), engine, "fp32")
    pixels = resident.at(EVERY[:6], torch.arange(6))
    batch = Batch(EVERY[:6], torch.arange(6), pixels, labels=torch.zeros(0))
    one, two = teacher(batch), teacher(batch)
    assert torch.equal(one.logits, two.logits)
    assert torch.equal(one.logits, cnn(pixels).logits)
    assert not one.logits.requires_grad
    assert not cnn.training


def test_a_live_teacher_answers_in_the_precision_named(cnn, resident, engine) -> None:
    batch = Batch(EVERY[:6], EVERY[:6], resident.whole(EVERY[:6]), labels=torch.zeros(0))
    assert LiveTeacher(cnn, engine, "bf16")(batch).logits.dtype == torch.bfloat16
