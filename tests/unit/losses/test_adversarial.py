"""Attacks on linear students, whose worst case is known; the loss there by hand; what an attack must not touch.

A linear student answers z = W x / 255 + b. B batch, C classes, P pixels of an image.
"""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.dataset import Shape
from kdal_cli.losses.adversarial import adversarial, ascended, fgsm, pgd
from kdal_cli.losses.kd import kd_loss
from kdal_cli.models.resnet import resnet
from kdal_cli.network import Network
from kdal_cli.types import Batch, Output

SIDE = 2
P = SIDE * SIDE


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(seed: int, n: int = 5, low: float = 60, high: float = 200) -> Tensor:
    """(n, 1, SIDE, SIDE), far from black and white unless asked otherwise."""
    uniform = torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return low + (high - low) * uniform


def linear(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Output]:
    """weight (C, P), bias (C,)."""

    def model(pixels: Tensor) -> Output:
        logits = F.linear(pixels.flatten(1) / 255, weight, bias)
        return Output(logits, logits, model=model)

    return model


def batch_of(pixels: Tensor, labels: list[int]) -> Batch:
    n = len(pixels)
    return Batch(torch.arange(n), torch.zeros(n), pixels, torch.tensor(labels, dtype=torch.int64))


def answer(logits: Tensor) -> Output:
    return Output(logits, logits)


def cross_entropy(logits: list[float], label: int) -> float:
    highest = max(logits)
    return highest + math.log(math.fsum(math.exp(z - highest) for z in logits)) - logits[label]


# The worst case.


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 8.0, 20.0])
def test_against_logistic_regression_fgsm_costs_epsilon_times_the_length_of_its_weights(epsilon: float) -> None:
    """Goodfellow et al., section 5: the loss at the worst x' is softplus(ε ‖w‖₁ − margin), w = w_other − w_y."""
    weight, bias, pixels, classes = drawn(0, 2, P), drawn(1, 2), images(2), torch.tensor([0, 1, 1, 0, 1])
    model = linear(weight, bias)
    loss = F.cross_entropy(model(fgsm(model, pixels, classes, epsilon)).logits, classes, reduction="none")
    for value, logits, y in zip(loss.tolist(), model(pixels).logits.tolist(), classes.tolist(), strict=True):
        length = math.fsum(abs(a - b) for a, b in weight.T.tolist()) / 255
        assert value == pytest.approx(math.log1p(math.exp(epsilon * length - (logits[y] - logits[1 - y]))), rel=1e-12)


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_no_corner_of_the_box_is_worse_for_logistic_regression_also_near_black_and_white(attack: str) -> None:
    weight, epsilon = drawn(3, 2, P), 8.0
    pixels = torch.tensor([[0.0, 3.0, 255.0, 250.0], [128.0, 5.0, 254.0, 0.0]], dtype=torch.float64).view(2, 1, 2, 2)
    classes, model = torch.tensor([0, 1]), linear(weight)
    torch.manual_seed(0)
    found = fgsm(model, pixels, classes, epsilon) if attack == "fgsm" else pgd(model, pixels, classes, epsilon, 10, 2.0)
    for image, label, x in zip(pixels.flatten(1).tolist(), classes.tolist(), found, strict=True):
        sides = [(max(p - epsilon, 0.0), min(p + epsilon, 255.0)) for p in image]
        losses = [
            cross_entropy([math.fsum(w * p / 255 for w, p in zip(row, corner, strict=True)) for row in weight.tolist()],
                          label)
            for corner in product(*sides)
        ]  # fmt: skip
        assert cross_entropy(model(x[None]).logits[0].tolist(), label) == pytest.approx(max(losses), rel=1e-12)


def test_a_step_goes_along_the_sign_of_the_gradient_worked_out_by_hand() -> None:
    """∂CE/∂x = Wᵀ (softmax(z) − e_y) / 255, for three classes and two steps of which the second meets the box."""
    weight, pixels, classes = drawn(4, 3, P), images(5, n=3), torch.tensor([2, 0, 1])
    x = pixels
    for _ in range(2):
        errors = torch.softmax(F.linear(x.flatten(1) / 255, weight), 1) - F.one_hot(classes, 3)
        moved = x + 5.0 * (errors @ weight).sign().view_as(x)
        x = torch.minimum(torch.maximum(moved, pixels - 8.0), pixels + 8.0)
    found = ascended(linear(weight), pixels, classes, pixels, 8.0, 2, 5.0)
    torch.testing.assert_close(found, x, rtol=0, atol=0)
    assert (found - pixels).abs().max() == 8.0


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_it_stays_in_the_box_and_within_black_and_white(attack: str) -> None:
    pixels, classes, epsilon = images(6, n=40, low=0, high=255).round(), torch.arange(40) % 3, 25.0
    seen, answers = [], linear(drawn(7, 3, P))

    def model(x: Tensor) -> Output:
        seen.append(x.detach().clone())
        return answers(x)

    torch.manual_seed(0)
    found = fgsm(model, pixels, classes, epsilon) if attack == "fgsm" else pgd(model, pixels, classes, epsilon, 4, 50.0)
    for x in (*seen, found):  # all that the student was asked about, a random start included
        assert (x - pixels).abs().max() <= epsilon
        assert x.min() >= 0
        assert x.max() <= 255
    assert (found - pixels).abs().max() == epsilon
    assert not found.requires_grad


def test_pgd_starts_anywhere_in_the_box_as_the_seed_has_it_and_fgsm_at_the_image() -> None:
    """A student that is the same everywhere has no slope, so that an attack stays where it starts."""
    pixels, flat = torch.full((2000, 1, 1, 1), 100.0), linear(torch.zeros(2, 1))
    classes = torch.zeros(2000, dtype=torch.int64)
    torch.manual_seed(1)
    starts = pgd(flat, pixels, classes, 8.0, 3, 2.0) - pixels
    torch.manual_seed(1)
    assert torch.equal(pgd(flat, pixels, classes, 8.0, 3, 2.0) - pixels, starts)
    assert starts.abs().max() <= 8
    assert starts.mean().abs() < 0.5
    assert starts.var().item() == pytest.approx(16**2 / 12, rel=0.05)  # of the even distribution over 16 values
    assert torch.equal(fgsm(flat, pixels, classes, 8.0), pixels)


def test_more_steps_find_worse_images() -> None:
    pixels, classes = images(8), torch.tensor([0, 1, 2, 0, 1])
    hidden, out = drawn(9, 16, P), drawn(10, 3, 16)

    def model(x: Tensor) -> Output:
        logits = torch.tanh(10 * (x.flatten(1) / 255 - 0.5) @ hidden.T) @ out.T
        return Output(logits, logits, model=model)

    losses = [
        F.cross_entropy(model(ascended(model, pixels, classes, pixels, 30.0, steps, 3.0)).logits, classes).item()
        for steps in (1, 4, 20)
    ]
    assert F.cross_entropy(model(pixels).logits, classes).item() < losses[0] < losses[1] < losses[2]


# The loss there.


def test_against_the_teacher_it_is_t_squared_kl_from_the_teachers_clean_answer_to_the_attacked_student() -> None:
    weight, pixels, teacher = drawn(11, 3, P), images(12), 3 * drawn(13, 5, 3)
    model = linear(weight)
    batch = batch_of(pixels, [0, 1])
    classes = torch.cat([batch.labels, teacher[2:].argmax(1)])
    value = adversarial(model(pixels), answer(teacher), batch, attack="fgsm", epsilon=8 / 255, temperature=4.0)
    attacked = model(fgsm(model, pixels, classes, 8.0)).logits
    for got, theirs, ours in zip(value.tolist(), teacher.tolist(), attacked.tolist(), strict=True):
        q_t, q_s = ([math.exp(z / 4 - max(zs) / 4) for z in zs] for zs in (theirs, ours))
        q_t, q_s = ([p / math.fsum(q) for p in q] for q in (q_t, q_s))
        assert got == pytest.approx(16 * math.fsum(t * math.log(t / s) for t, s in zip(q_t, q_s, strict=True)))


def test_against_labels_it_is_the_cross_entropy_of_the_label_or_of_the_teachers_first_choice() -> None:
    weight, pixels, teacher = drawn(14, 3, P), images(15), 3 * drawn(16, 5, 3)
    model = linear(weight)
    value = adversarial(model(pixels), answer(teacher), batch_of(pixels, [2, 0]), against="labels", attack="fgsm")
    classes = [2, 0, *teacher[2:].argmax(1).tolist()]
    attacked = model(fgsm(model, pixels, torch.tensor(classes), 8.0)).logits
    by_hand = [cross_entropy(z, y) for z, y in zip(attacked.tolist(), classes, strict=True)]
    assert value.tolist() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_with_an_epsilon_of_zero_it_is_plain_distillation(attack) -> None:
    model, pixels, teacher = linear(drawn(17, 3, P)), images(18), drawn(19, 5, 3)
    batch = batch_of(pixels, [])
    value = adversarial(model(pixels), answer(teacher), batch, attack=attack, epsilon=0.0, temperature=4.0)
    torch.testing.assert_close(value, kd_loss(model(pixels).logits, teacher, 4.0))


def test_epsilon_and_the_step_are_shares_of_the_range_of_a_pixel_of_eight_bits() -> None:
    seen: list[Tensor] = []

    def model(pixels: Tensor) -> Output:
        seen.append(pixels.detach().clone())
        logits = pixels.flatten(1)[:, :3] * torch.tensor([0.01, -0.02, 0.03])
        return Output(logits, logits, model=model)

    def moves(attack, **settings: float) -> list[Tensor]:
        """From the image, of every pixels that the student is asked about."""
        seen.clear()
        outputs = model(pixels), answer(torch.zeros(200, 3))
        adversarial(*outputs, batch_of(pixels, [0, 1] * 100), attack=attack, epsilon=8 / 255, **settings)
        return [asked - pixels for asked in seen]

    pixels = torch.full((200, 1, 2, 2), 100, dtype=torch.uint8)
    assert sorted(moves("fgsm")[-1].unique().tolist()) == [-8, 0, 8]  # the fourth pixel is not looked at
    _, start, first, last = moves("pgd", steps=2, step_size=2 / 255)
    assert 7.9 < start.abs().max() <= 8
    assert last.abs().max() == 8
    inside = first.abs() < 8
    assert sorted((first - start)[inside].round(decimals=3).unique().tolist()) == [-2, 0, 2]
    assert pixels.unique().tolist() == [100]


def test_the_derivative_by_the_students_weights_agrees_with_finite_differences() -> None:
    """At a fixed image x': where an attack goes does not change with a weight that changes by very little."""
    pixels, teacher = images(20, n=3), drawn(21, 3, 3)

    def value(weight: Tensor, against) -> Tensor:
        torch.manual_seed(0)
        model = linear(weight)
        return adversarial(model(pixels), answer(teacher), batch_of(pixels, [1]), against=against, steps=3)

    for against in ("teacher", "labels"):
        assert torch.autograd.gradcheck(lambda w, a=against: value(w, a), drawn(22, 3, P).requires_grad_())


# What it must not touch.


def student() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Network(resnet(Shape(1, 8, 8, 3), depth=8, widths=(8, 8, 8, 8)), (0.5,), (0.25,)).train()


def norms(network: Network) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def test_batch_norm_counts_the_batch_and_the_attacked_batch_but_no_step_of_the_attack() -> None:
    """In training mode the authors' ten steps would make it twelve."""
    network, pixels = student(), torch.rand(4, 1, 8, 8) * 255
    adversarial(network(pixels), answer(torch.zeros(4, 3)), batch_of(pixels, [0, 1, 2, 0]), steps=10)
    assert {int(norm.num_batches_tracked) for norm in norms(network)} == {2}


def test_every_module_is_in_its_own_mode_again_also_after_an_error() -> None:
    network, pixels = student(), torch.rand(4, 1, 8, 8) * 255
    frozen = norms(network)[0].eval()
    batch = batch_of(pixels, [0, 1, 2, 0])
    adversarial(network(pixels), answer(torch.zeros(4, 3)), batch, steps=2)
    with pytest.raises(IndexError):  # no such class
        adversarial(network(pixels), answer(torch.zeros(4, 3)), batch_of(pixels, [0, 1, 2, 9]), steps=2)
    assert [module for module in network.modules() if not module.training] == [frozen]


def test_no_parameter_has_a_gradient_before_the_loss_is_differentiated() -> None:
    network, pixels = student(), torch.rand(4, 1, 8, 8) * 255
    value = adversarial(network(pixels), answer(torch.zeros(4, 3)), batch_of(pixels, [0, 1, 2, 0]), steps=2)
    assert all(parameter.grad is None for parameter in network.parameters())
    value.mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_student_that_cannot_be_asked_again_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="give its Output the `model`"):
        adversarial(answer(torch.zeros(2, 3)), answer(torch.zeros(2, 3)), batch_of(images(23, n=2), [0, 1]))
