"""How steeply the student's loss rises with its input: a bound on the length of that gradient."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdal_cli.losses._pixels import Model, as_float, asked, at_rest
from kdal_cli.losses._targets import targets
from kdal_cli.types import Batch, Output
from kdal_cli.values import NonNegative


def slopes(model: Model, pixels: Tensor, classes: Tensor) -> Tensor:
    """‖∂CE(z(x), class)/∂x‖₂, nats over the range of a pixel, (B, c, H, W) and (B,) -> (B,), itself differentiable.

    x is on the scale from 0 to 1; `pixels` and `model` on that from 0 to 255. Where it is 0, so is its gradient.
    """
    x = pixels.detach().requires_grad_()
    loss = F.cross_entropy(model(x).logits, classes, reduction="sum")
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    square = (255 * slope).square().flatten(1).sum(1)  # (B, c, H, W) -> (B,)
    steep = square > 0
    # The root has no gradient at 0: it is taken of 1 there and masked after.
    return torch.where(steep, square, 1.0).sqrt() * steep


def gradient_norm_loss(model: Model, pixels: Tensor, classes: Tensor, bound: float) -> Tensor:
    """relu(‖∂CE(z(x), class)/∂x‖₂ − bound)², (B, c, H, W) and (B,) -> (B,). See `slopes`.

    With a bound of 0 it is the penalty of double backpropagation, Drucker and LeCun 1992, and of Ross and Doshi-Velez
    2018, arXiv:1711.09404. The latter's code takes ½ λ Σ_b ‖∂(mean CE)/∂x_b‖²: a `weight` of λ / 2B here.
    """
    return (slopes(model, pixels, classes) - bound).relu().square()


def gradient_norm(student: Output, teacher: Output | None, batch: Batch, *, bound: NonNegative = 0.0) -> Tensor:
    """A soft bound on the input gradient of cross-entropy, (B,). See `gradient_norm_loss`.

    The class of an image without label is the first choice of the teacher or, without one, of the student. The student
    is asked in eval mode: in training mode batch-norm would mix the gradients of a batch, and would count it twice.
    """
    model = asked(student)
    classes = targets(student.logits if teacher is None else teacher.logits, batch.labels)  # (B,)
    with at_rest(model):
        return gradient_norm_loss(model, as_float(batch.pixels), classes, bound)
