"""A model over many images: no augmentation, batch-norm in eval, float32, one pass for logits and features.

Axis letters: N images, C classes, D features, B batch.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from kdal_cli.devices.passes import images_a_pass
from kdal_cli.devices.team import Team
from kdal_cli.images.augment import Resident
from kdal_cli.inference.folding import folded
from kdal_cli.network import Network
from kdal_cli.types import Output

BATCH = 250
"""Images a pass, at most."""

MANY, FEW = 5000, 8
"""Images, from which on it pays to fold batch-norm first, and those that the folded network is tried on."""

T = TypeVar("T")


@torch.inference_mode()
def predict(
    network: Network, images: Resident, ids: Tensor, batch: int | None = None, *, fold: bool | None = None
) -> Output:
    """Logits (N, C) and features (N, D) of `ids` (N,), float32, on the model's device; its mode is restored.

    batch: images a pass; None takes as many as is usual of this size. fold: whether to fold batch-norm first; None does
    so for many images.
    """
    answers = _answers(network, images, ids, batch, fold)
    logits, features = _one_below_the_other(((answer.logits, answer.features) for answer in answers), len(ids))
    return Output(logits, features)


@torch.inference_mode()
def predict_logits(
    network: Network, images: Resident, ids: Tensor, batch: int | None = None, *, fold: bool | None = None
) -> Tensor:
    """The logits (N, C) alone: of a large pool, features are most of the memory."""
    (logits,) = _one_below_the_other(((a.logits,) for a in _answers(network, images, ids, batch, fold)), len(ids))
    return logits


def _one_below_the_other(parts: Iterable[tuple[Tensor, ...]], rows: int) -> list[Tensor]:
    """Tables from parts of them, (n, W) each -> (rows, W).

    They are written in place. Small parts that were kept until the end, between large things that are not, would leave
    holes in the heap that nothing fits into: as much memory as all images take as floating-point numbers.
    """
    tables: list[Tensor] = []
    start = 0
    for part in parts:
        tables = tables or [some.new_empty(rows, *some.shape[1:]) for some in part]
        for table, some in zip(tables, part, strict=True):
            table[start : start + len(some)] = some
        start += len(part[0])
    return tables


def _answers(network: Network, images: Resident, ids: Tensor, batch: int | None, fold: bool | None) -> Iterator[Output]:
    """Outputs without the maps that a loss may have asked for; one of no image where there are no ids."""
    if len(ids) and (recalled := network.recall(images, ids)) is not None:
        yield recalled.float()
        return
    was_training = network.training
    network.eval()
    try:
        fold = len(ids) >= MANY if fold is None else fold and len(ids) > 0
        looking = folded(network, images.whole(ids[:FEW])) if fold else network
        for pixels, count in _ahead(images, ids, batch or images_a_pass(network, images, BATCH)):
            output = looking(pixels).float()[:count]
            yield Output(output.logits, output.features)
    finally:
        network.train(was_training)


def _ahead(images: Resident, ids: Tensor, batch: int) -> Iterator[tuple[Tensor, int]]:
    """(pixels, how many images they are), a batch at a time, the next one being read while this one is looked at.

    So a memory-mapped data set that is larger than memory streams, and two batches of it are held.
    """
    if not len(ids):
        yield images.whole(ids.new_zeros(1)), 0
        return
    with ThreadPoolExecutor(1) as reader:
        parts = ids.split(batch)
        coming = reader.submit(images.whole, parts[0])
        for part, following in zip(parts, (*parts[1:], None), strict=True):
            pixels = coming.result()
            if following is not None:
                coming = reader.submit(images.whole, following)
            yield pixels, len(part)


def by_team(team: Team, look: Callable[..., T], network: Network, images: Resident, ids: Tensor, fold: bool) -> list[T]:
    """What each process of a team answers to `look(network, images, …)` about its part of `ids`, in order.

    The parts are of whole batches, those that one process alone would see, so that the numbers are the same.
    """
    if team.size == 1 or len(ids) <= images_a_pass(network, images, BATCH):
        return [look(network, images, ids, fold=fold)]
    with team.helping(_look_at_part, team, look, network, images, ids, fold) as answers:
        mine = _look_at_part(team, look, network, images, ids, fold)
    return [mine, *answers]


def _look_at_part(team: Team, look: Callable[..., T], network: Network, images: Resident, ids: Tensor, fold: bool) -> T:
    batch = images_a_pass(network, images, BATCH)
    batches = -(-len(ids) // batch)
    low, high = (batches * end // team.size * batch for end in (team.rank, team.rank + 1))
    return look(network, images, ids[low:high], fold=fold)
