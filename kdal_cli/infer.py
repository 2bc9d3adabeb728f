"""A model over many images: no augmentation, batch-norm in eval, float32, one pass for logits and features.

Axis letters: N images, C classes, D features, B batch.
"""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor, nn

from kdal_cli.data._augment import Resident
from kdal_cli.engine import Engine, Precision
from kdal_cli.errors import UserError
from kdal_cli.network import Network, freeze
from kdal_cli.types import Batch, Output

BATCH = 250
"""Images a pass: larger ones gain nothing and make a CPU fault its memory in again at every step."""

Teacher = Callable[[Batch], Output]


@torch.inference_mode()
def predict(network: Network, images: Resident, ids: Tensor, batch: int = BATCH) -> Output:
    """Logits (N, C) and features (N, D) of `ids` (N,), float32, on the model's device; its mode is restored."""
    was_training = network.training
    network.eval()
    try:
        outputs = [_seen(network, images, part) for part in ids.split(batch)]
    finally:
        network.train(was_training)
    if not outputs:
        outputs = [_seen(network, images, ids.new_zeros(1))[0:0]]
    return Output(torch.cat([o.logits for o in outputs]), torch.cat([o.features for o in outputs]))


def _seen(network: Network, images: Resident, ids: Tensor) -> Output:
    """Without the maps that a loss may have asked for: those of a whole pool would fill the memory."""
    output = network(images.whole(ids)).float()
    return Output(output.logits, output.features)


class Seer:
    """A model that looks at images by id: the `Scorer` that evidence is made of. `seconds` is what looking took."""

    def __init__(self, network: Network, images: Resident, engine: Engine) -> None:
        self.network, self.images, self.engine = network, images, engine
        self.seconds = 0.0

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (N, C), features (N, D))."""
        started = time.perf_counter()
        seen = predict(self.network, self.images, ids)
        self.engine.finish()
        self.seconds += time.perf_counter() - started
        return seen.logits, seen.features

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        """`count` logits (N, C) under dropout. A draw's mask is one for all images, so it depends on no batch size.

        Raises UserError when the model has no dropout: its draws would be one and the same.
        """
        layers = [m for m in self.network.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
        if not layers:
            raise UserError(
                f"{type(self.network.body).__name__} has no dropout, so that all its draws are the same",
                cure="choose a student with dropout, for example student=small_cnn student.dropout=0.2",
            )
        for _ in range(count):
            hooks = [layer.register_forward_hook(_one_mask(rng)) for layer in layers]
            try:
                yield self.look(ids)[0]
            finally:
                for hook in hooks:
                    hook.remove()


def _one_mask(rng: Generator) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """A hook that drops the same units of every image; in eval mode the layer itself passes everything."""
    kept: list[Tensor] = []

    def drop(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not kept:
            p = float(layer.p)  # type: ignore[arg-type]
            whole_maps = output.dim() == 4 and not isinstance(layer, nn.Dropout)
            shape = (*output.shape[1:2], 1, 1) if whole_maps else output.shape[1:]
            kept.append((torch.rand(shape, generator=rng) >= p).to(output) / (1 - p))
        return output * kept[0]

    return drop


class LiveTeacher:
    """The teacher's answer at each step. Frozen: eval mode, no gradient, never trained.

    It sees the very pixels that the student sees, or, with `clean`, the same images as they are.
    """

    def __init__(
        self, network: Network, engine: Engine, precision: Precision, *, clean: Resident | None = None
    ) -> None:
        self.network, self.engine, self.clean = freeze(network), engine, clean
        self.precision: Precision = precision

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Output:
        with self.engine.autocast(self.precision):
            return self.network(batch.pixels if self.clean is None else self.clean.whole(batch.ids))
