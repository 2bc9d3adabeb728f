"""A model over many images: the same answers whatever the batch, and draws that differ by their masks alone."""

import itertools

import pytest
import torch
from torch import Generator, Tensor, nn

from kdal_cli.data._augment import Augment, Resident
from kdal_cli.engine import Engine
from kdal_cli.errors import UserError
from kdal_cli.infer import BATCH, LiveTeacher, Seer, predict
from kdal_cli.models.small_cnn import small_cnn
from kdal_cli.models.wrn import wrn
from kdal_cli.network import Network
from kdal_cli.types import Batch, ImageData

EVERY = torch.arange(96)


@pytest.fixture
def cnn(images: ImageData) -> Network:
    """With batch-norm and dropout, so that a wrong mode shows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network(small_cnn(images.shape, width=4, dropout=0.5), images.mean, images.std)


def seer(network: Network, resident: Resident, engine: Engine) -> Seer:
    return Seer(network, resident, engine)


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


def test_draws_differ_from_each_other_and_from_the_answer_without_dropout(cnn, resident, engine) -> None:
    draws = [*seer(cnn, resident, engine).draws(EVERY, 4, rng()), predict(cnn, resident, EVERY).logits]
    assert not any(torch.equal(one, two) for one, two in itertools.combinations(draws, 2))


def test_the_same_seed_gives_the_same_draws_and_another_one_others(cnn, resident, engine) -> None:
    looker = seer(cnn, resident, engine)
    one, two, three = (torch.stack(list(looker.draws(EVERY, 3, rng(seed)))) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_a_draw_has_one_mask_for_all_images_and_so_depends_on_no_batch_and_no_order(cnn, resident, engine) -> None:
    looker = seer(cnn, resident, engine)
    (whole,) = looker.draws(EVERY, 1, rng())
    (backwards,) = looker.draws(EVERY.flip(0), 1, rng())
    (few,) = looker.draws(EVERY[10:13], 1, rng())
    torch.testing.assert_close(backwards.flip(0), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(few, whole[10:13], rtol=0, atol=1e-6)


def test_nor_on_how_many_images_there_are(cnn, images: ImageData, engine: Engine) -> None:
    """Of 384 images, more than a pass takes, each of 96 comes four times and looks the same every time."""
    four_times = Resident(images.train.pixels.repeat(4, 1, 1, 1), Augment())
    assert len(four_times) > BATCH
    (draw,) = seer(cnn, four_times, engine).draws(torch.arange(384), 1, rng())
    torch.testing.assert_close(draw, draw[:96].repeat(4, 1), rtol=0, atol=1e-6)


def test_their_mean_is_the_answer_without_dropout(cnn, resident, engine) -> None:
    """The classifier is linear in the features that are dropped, kept ones being scaled by 1 / (1 − p)."""
    draws = torch.stack(list(seer(cnn, resident, engine).draws(EVERY[:3], 800, rng())))
    answer = predict(cnn, resident, EVERY[:3]).logits
    error = draws.std(0) / 800**0.5
    assert ((draws.mean(0) - answer).abs() < 5 * error).all()


def test_draws_leave_the_network_as_it_was_even_when_broken_off(cnn, resident, engine) -> None:
    cnn.train()
    before, looker = bits(cnn), seer(cnn, resident, engine)
    plain = predict(cnn, resident, EVERY).logits
    draws = looker.draws(EVERY, 5, rng())
    next(draws)
    draws.close()
    assert torch.equal(predict(cnn, resident, EVERY).logits, plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in bits(cnn).items())
    assert cnn.training


def test_dropout_inside_convolutions_is_drawn_too(images: ImageData, resident: Resident, engine: Engine) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Network(wrn(images.shape, depth=10, width=1, dropout=0.3), images.mean, images.std)
    one, two = seer(net, resident, engine).draws(EVERY[:4], 2, rng())
    assert not torch.equal(one, two)


def test_a_model_without_dropout_is_refused_with_one_that_has(make_network, resident: Resident, engine: Engine) -> None:
    with pytest.raises(UserError, match="no dropout, so that all its draws are the same: choose a student"):
        next(seer(make_network(), resident, engine).draws(EVERY, 2, rng()))


def test_looking_takes_time_and_the_time_is_kept(cnn, resident, engine) -> None:
    looker = seer(cnn, resident, engine)
    looker.look(EVERY)
    once = looker.seconds
    looker.look(EVERY)
    assert 0 < once < looker.seconds


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
