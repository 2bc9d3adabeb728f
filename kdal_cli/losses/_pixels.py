"""Asking the student about other pixels than it was trained on at this step, for terms that perturb its input."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from kdal_cli.types import Output

Model = Callable[[Tensor], Output]
"""Pixels (B, c, H, W) from 0 to 255 -> Output."""


def asked(output: Output) -> Model:
    """Who gave this answer. Raises ValueError for an answer that does not say."""
    if output.model is None:
        raise ValueError("a term that perturbs pixels has to ask the student again: give its Output the `model`")
    return output.model


@contextmanager
def at_rest(model: Model) -> Iterator[None]:
    """Every module of `model` in eval mode, and back in its own mode after.

    So batch-norm uses its running statistics and leaves them alone, dropout drops nothing, and what the model says of
    an image depends on no other image of the batch.
    """
    awake = [module for module in model.modules() if module.training] if isinstance(model, nn.Module) else []
    for module in awake:
        module.training = False
    try:
        yield
    finally:
        for module in awake:
            module.training = True


def as_float(pixels: Tensor) -> Tensor:
    """uint8 in float32, so that it may have a gradient; float32 and float64 as they are."""
    return pixels if pixels.is_floating_point() else pixels.float()
