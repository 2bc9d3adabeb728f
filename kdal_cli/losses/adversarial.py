"""The student where it is weakest: images changed a little, within a box, so that its own loss rises."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.losses._pixels import Model, as_float, asked, at_rest
from kdal_cli.losses._targets import targets
from kdal_cli.losses.kd import kd_loss
from kdal_cli.types import Batch, Output
from kdal_cli.values import Count, Positive, Share


def ascended(
    model: Model, pixels: Tensor, classes: Tensor, start: Tensor, epsilon: float, steps: int, step_size: float
) -> Tensor:
    """x ← clip(x + step_size · sign ∂CE(z(x), class)/∂x), `steps` times from `start`; all but `classes` (B, c, H, W).

    clip: to |x − pixels| ≤ epsilon, then to 0..255, and so is `start`. epsilon, step_size: on that scale too. No
    gradient leads back to the model. Signs do not see how large the gradient is, so its scale does not matter.
    """
    low, high = (pixels - epsilon).clamp(min=0), (pixels + epsilon).clamp(max=255)
    x = start.detach().clamp(low, high)
    for _ in range(steps):
        x.requires_grad_()
        loss = F.cross_entropy(model(x).logits, classes, reduction="sum")
        (slope,) = torch.autograd.grad(loss, x)
        x = (x.detach() + step_size * slope.sign()).clamp(low, high)
    return x


def fgsm(model: Model, pixels: Tensor, classes: Tensor, epsilon: float) -> Tensor:
    """One step of the whole ε from the image itself. Goodfellow et al. 2015, arXiv:1412.6572, section 4."""
    return ascended(model, pixels, classes, pixels, epsilon, 1, epsilon)


def pgd(model: Model, pixels: Tensor, classes: Tensor, epsilon: float, steps: int, step_size: float) -> Tensor:
    """Steps from a point drawn evenly from the box of ε. Madry et al. 2018, arXiv:1706.06083, section 2.1."""
    start = pixels + epsilon * (2 * torch.rand_like(pixels) - 1)
    return ascended(model, pixels, classes, start, epsilon, steps, step_size)


def adversarial(
    student: Output,
    teacher: Output,
    batch: Batch,
    *,
    against: Literal["labels", "teacher"] = "teacher",
    attack: Literal["fgsm", "pgd"] = "pgd",
    epsilon: Share = 8 / 255,
    steps: Count = 10,
    step_size: Share = 2 / 255,
    temperature: Positive = 30.0,
) -> Tensor:
    """The student's loss at x' = x + δ, |δ| ≤ ε, where δ is found by raising CE(z_s(x'), y), nats, (B,).

    y: the label, or the teacher's first choice where there is none. against: `labels`, CE(z_s(x'), y), which is
    adversarial training (arXiv:1412.6572, arXiv:1706.06083); `teacher`, T² · KL(softmax(z_t(x)/T) ‖ softmax(z_s(x')/T))
    with the teacher at the clean image, which is adversarially robust distillation, Goldblum et al. 2020,
    arXiv:1905.09747. epsilon, step_size: as shares of the range of a pixel. fgsm needs no steps and no step
    size; `temperature` is for the teacher alone.

    The attack asks the student in eval mode, and its running statistics are not touched; the loss at x' asks it in
    training mode as any other batch does. The authors' code attacks in training mode, so that batch-norm counts ten
    attacked batches for each that is learnt from; and its KL is the mean over classes too, C times too small.
    """
    model, pixels = asked(student), as_float(batch.pixels)
    classes = targets(teacher.logits, batch.labels)  # (B,)
    with at_rest(model):
        if attack == "fgsm":
            worst = fgsm(model, pixels, classes, 255 * epsilon)
        else:
            worst = pgd(model, pixels, classes, 255 * epsilon, steps, 255 * step_size)
    logits = model(worst).logits  # (B, C)
    if against == "labels":
        return F.cross_entropy(logits, classes, reduction="none")
    return kd_loss(logits, teacher.logits, temperature)
