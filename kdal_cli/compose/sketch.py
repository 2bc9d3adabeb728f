"""A network without its numbers: built in milliseconds and next to no memory, to see names, shapes and size.

Everything that `torch.empty` makes, as the parameters of every layer are, lies on the meta device; what fills them is
left out. torch's own way, a meta device for everything, imports seven seconds of compiler for the first `normal_`.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError, printable
from kdal_cli.records.checkpoint import Checkpoint
from kdal_cli.records.shapes import PRUNED
from kdal_cli.streams import undisturbed

SPARE_NUMBERS, SPARE_TENSORS = 2**24, 1000
"""An architecture may make so much more than its weights: torchvision's are built for 1,000 classes first."""

LARGER = 100
"""How many times as large a network may have been before it was pruned: nine channels of ten are gone."""

ANY = Shape(3, 224, 224, 1000)
"""Images that every architecture takes."""

OTHER = Shape(1, 96, 96, 10)
"""Images that most take as well: what has one shape for both hangs on the arguments alone."""

FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}


def sketched(make: Callable[[], Any], what: str, saved: Checkpoint | None = None) -> nn.Module | None:
    """The network that `make` makes, as a sketch, or None when it makes no network.

    what: the network in words. saved: weights that it is for; one that grows far beyond them is stopped on the way.
    Raises UserError when it cannot be built.
    """
    try:
        with undisturbed(), warnings.catch_warnings(), _Sketching(saved):
            warnings.simplefilter("ignore")  # pretrained weights that are copied into a sketch go nowhere, and say so
            body = make()
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{what} cannot be built: {printable(reason, 200)}", cure="choose other arguments") from error
    return body if isinstance(body, nn.Module) else None


def refuse_misfit(make: Callable[[Shape], Any], name: str, saved: Checkpoint, shape: Shape | None) -> None:
    """Raise UserError unless weights are those of an architecture, `name` in words, before it is built.

    shape: of the images, for weights that do not say for which they are; None when that is not known yet, and names
    alone are compared.
    """
    known, name = saved.card.inner if saved.card else shape, printable(name, 100)
    body = sketched(partial(make, known or ANY), name, saved if saved.card else None)
    if body is not None:
        saved.refuse_other(body, name, shapes=known is not None)


class _Sketching(TorchFunctionMode):
    """Counts what is made, before it is."""

    def __init__(self, saved: Checkpoint | None) -> None:
        super().__init__()
        self.saved, self.numbers, self.tensors = saved, 0, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES:
            blank = func(*args, **{**kwargs, "device": "meta"})
            self._count(blank)
            if func is torch.empty:
                return blank
        name, changed = getattr(func, "__name__", ""), next(iter((*args, *kwargs.values())), None)
        in_place = name.endswith("_") and not name.endswith("__")
        if in_place and isinstance(changed, Tensor) and changed.is_meta:
            return changed
        return func(*args, **kwargs)

    def _count(self, made: Tensor) -> None:
        self.numbers += made.numel()
        self.tensors += 1
        if self.saved is None:
            return
        pruned = self.saved.card is not None and self.saved.card.model.get(PRUNED)
        numbers = self.saved.numbers * (LARGER if pruned else 1)
        most = numbers + SPARE_NUMBERS, 2 * len(self.saved.weights) + SPARE_TENSORS
        if self.numbers > most[0] or self.tensors > most[1]:
            what = f"checkpoint holds {self.saved.numbers:,} numbers, and says that it is a far larger network"
            raise UserError(what, where=self.saved.path, cure="use one that kdal wrote")
