"""The length of the input gradient against its formula for a linear student and against finite differences.

A linear student answers z = W x with x = pixels / 255. B batch, C classes, P pixels of an image.
"""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.losses.gradient_norm import gradient_norm, gradient_norm_loss, slopes
from kdal_cli.models.resnet import resnet
from kdal_cli.network import Network
from kdal_cli.types import Batch, Output

P = 4
Model = Callable[[Tensor], Output]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(seed: int, n: int = 5) -> Tensor:
    return 255 * torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(weight: Tensor) -> Model:
    """weight (C, P)."""

    def model(pixels: Tensor) -> Output:
        logits = F.linear(pixels.flatten(1) / 255, weight)
        return Output(logits, logits, model=model)

    return model


def curved(hidden: Tensor, weight: Tensor) -> Model:
    """One layer of tanh, hidden (H, P) and weight (C, H)."""

    def model(pixels: Tensor) -> Output:
        logits = torch.tanh(pixels.flatten(1) / 255 @ hidden.T) @ weight.T
        return Output(logits, logits, model=model)

    return model


def batch_of(pixels: Tensor, labels: list[int]) -> Batch:
    n = len(pixels)
    return Batch(torch.arange(n), torch.zeros(n), pixels, torch.tensor(labels, dtype=torch.int64))


def test_for_a_linear_student_it_is_the_length_of_the_weights_times_the_error() -> None:
    """∂CE/∂x = Wᵀ (softmax(z) − e_y), in nats over the range of a pixel."""
    weight, pixels, labels = drawn(0, 3, P), images(1), [0, 2, 1, 1, 0]
    found = slopes(linear(weight), pixels, torch.tensor(labels))
    for value, image, y in zip(found.tolist(), pixels.flatten(1).tolist(), labels, strict=True):
        logits = [math.fsum(w * p / 255 for w, p in zip(row, image, strict=True)) for row in weight.tolist()]
        powers = [math.exp(z) for z in logits]
        errors = [power / math.fsum(powers) - (c == y) for c, power in enumerate(powers)]
        gradient = [math.fsum(e * w for e, w in zip(errors, column, strict=True)) for column in weight.T.tolist()]
        assert value == pytest.approx(math.sqrt(math.fsum(g * g for g in gradient)), rel=1e-12)


def test_it_is_how_fast_cross_entropy_rises_in_the_steepest_direction() -> None:
    """The largest difference quotient over directions of the unit sphere comes near it from below and never above."""
    model, pixels, classes = curved(drawn(2, 8, P), drawn(3, 3, 8)), images(4, n=1), torch.tensor([1])
    directions = F.normalize(drawn(5, 20_000, P), dim=1).view(-1, 1, 2, 2)
    step = 1e-4

    def loss(at: Tensor) -> Tensor:
        return F.cross_entropy(model(at).logits, classes.expand(len(at)), reduction="none")

    rises = (loss(pixels + 255 * step * directions) - loss(pixels - 255 * step * directions)) / (2 * step)
    steepest = slopes(model, pixels, classes).item()
    assert 0.99 * steepest < rises.max().item() < steepest * (1 + 1e-6)


@pytest.mark.parametrize("bound", [0.0, 0.3, 1.0, 50.0])
def test_what_exceeds_the_bound_is_squared_and_what_does_not_is_nothing(bound: float) -> None:
    model, pixels, classes = linear(drawn(6, 3, P)), images(7), torch.tensor([0, 2, 1, 1, 0])
    lengths = slopes(model, pixels, classes).tolist()
    expected = [max(length - bound, 0.0) ** 2 for length in lengths]
    assert gradient_norm_loss(model, pixels, classes, bound).tolist() == pytest.approx(expected, rel=1e-12)


def test_below_the_bound_nothing_is_learnt_from_an_image() -> None:
    weight = drawn(8, 3, P).requires_grad_()
    pixels, classes = images(9), torch.tensor([0, 2, 1, 1, 0])
    lengths = slopes(linear(weight), pixels, classes).detach()
    bound = float(lengths.median())
    for image, length in enumerate(lengths.tolist()):
        own = slice(image, image + 1)
        value = gradient_norm_loss(linear(weight), pixels[own], classes[own], bound).sum()
        (gradient,) = torch.autograd.grad(value, weight)
        assert bool(gradient.abs().sum() > 0) == (length > bound)


@pytest.mark.parametrize("bound", [0.0, 0.5])
def test_its_derivative_is_that_of_finite_differences_through_both_backward_passes(bound: float) -> None:
    pixels, classes = images(10, n=3), torch.tensor([0, 2, 1])

    def value(hidden: Tensor, weight: Tensor) -> Tensor:
        return gradient_norm_loss(curved(hidden, weight), pixels, classes, bound)

    at = drawn(11, 5, P).requires_grad_(), drawn(12, 3, 5).requires_grad_()
    assert slopes(curved(*at), pixels, classes).min() > bound
    assert torch.autograd.gradcheck(value, at)


def test_the_penalty_of_ross_and_doshi_velezs_code_is_a_weight_of_lambda_over_twice_the_batch() -> None:
    """Theirs is ½ λ Σ_b ‖∂(mean CE)/∂x_b‖², x from 0 to 1: B times smaller for a batch B times larger."""
    weight, pixels, classes, strength = drawn(13, 3, P), images(14), torch.tensor([0, 2, 1, 1, 0]), 100.0
    x = (pixels / 255).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(F.linear(x.flatten(1), weight), classes), x)
    theirs = strength / 2 * gradient.square().sum()
    ours = strength / (2 * 5) * gradient_norm_loss(linear(weight), pixels, classes, 0.0).mean()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_where_there_is_no_slope_the_derivative_is_zero_and_finite(scale: float) -> None:
    """Of weights that are zero, or of an answer that is right and certain beyond the range of the numbers."""
    weight = (scale * torch.eye(3, P, dtype=torch.float64)).requires_grad_()
    pixels = torch.tensor([255.0, 0, 0, 0], dtype=torch.float64).view(1, 1, 2, 2)
    value = gradient_norm_loss(linear(weight), pixels, torch.tensor([0]), 0.0)
    (gradient,) = torch.autograd.grad(value.sum(), weight)
    assert value.item() == 0
    assert gradient.isfinite().all()
    assert gradient.abs().max() == 0


def test_an_image_without_label_counts_as_the_teachers_first_choice_or_else_the_students_own() -> None:
    model, pixels, teacher = linear(4 * drawn(15, 3, P)), images(16), drawn(17, 5, 3)
    student, batch = model(pixels), batch_of(pixels, [1, 2])
    own, theirs = student.logits[2:].argmax(1), teacher[2:].argmax(1)
    assert own.tolist() != theirs.tolist()
    expected = [gradient_norm_loss(model, pixels, torch.cat([batch.labels, rest]), 0.0) for rest in (own, theirs)]
    assert torch.equal(gradient_norm(student, None, batch), expected[0])
    assert torch.equal(gradient_norm(student, Output(teacher, teacher), batch), expected[1])


# What it must not touch.


def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Network(resnet(Shape(1, 8, 8, 3), depth=8, widths=(8, 8, 8, 8)), (0.5,), (0.25,)).train()


def bytes_of(seed: int, n: int = 4) -> Tensor:
    return torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_what_it_says_of_an_image_does_not_depend_on_the_others_of_its_batch() -> None:
    """In training mode batch-norm would make the gradient of an image a mixture of all."""
    net, pixels, labels = network(), bytes_of(0), [0, 1, 2, 0]
    whole = gradient_norm(net(pixels), None, batch_of(pixels, labels))
    alone = gradient_norm(net.eval()(pixels[:1]), None, batch_of(pixels[:1], labels[:1]))
    torch.testing.assert_close(whole[:1], alone, rtol=1e-4, atol=1e-6)


def test_batch_norm_counts_a_batch_once_and_every_module_is_in_its_own_mode_again() -> None:
    net, pixels = network(), bytes_of(1)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    norms[0].eval()
    gradient_norm(net(pixels), None, batch_of(pixels, [0, 1, 2, 0])).mean().backward()
    assert [int(norm.num_batches_tracked) for norm in norms] == [0] + [1] * (len(norms) - 1)
    assert [module for module in net.modules() if not module.training] == [norms[0]]


def test_the_pixels_it_is_given_neither_change_nor_want_a_gradient_afterwards() -> None:
    pixels = images(18)
    before = pixels.clone()
    model = linear(drawn(19, 3, P))
    gradient_norm(model(pixels), None, batch_of(pixels, [0, 1, 2, 0, 1]))
    assert torch.equal(pixels, before)
    assert not pixels.requires_grad
    assert pixels.grad is None


def test_training_by_it_makes_the_student_flatter() -> None:
    hidden, weight = (drawn(seed, *shape).requires_grad_() for seed, shape in ((20, (8, P)), (21, (3, 8))))
    pixels, classes = images(22, n=16), torch.arange(16) % 3
    optimizer = torch.optim.Adam([hidden, weight], lr=0.02)
    before = slopes(curved(hidden, weight), pixels, classes).mean().item()
    for _ in range(60):
        optimizer.zero_grad()
        gradient_norm_loss(curved(hidden, weight), pixels, classes, 0.5).mean().backward()
        optimizer.step()
    lengths = slopes(curved(hidden, weight), pixels, classes)
    assert before > 1
    assert lengths.max() < 0.7


def test_a_student_that_cannot_be_asked_again_is_refused_in_a_sentence() -> None:
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="give its Output the `model`"):
        gradient_norm(Output(logits, logits), None, batch_of(images(23, n=2), [0, 1]))
