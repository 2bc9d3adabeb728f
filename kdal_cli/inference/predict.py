"""A model over many images: no augmentation, batch-norm in eval, float32, one pass for logits and features.

Axis letters: N images, C classes, D features, B batch.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

from kdal_cli.devices.team import Team
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Resident
from kdal_cli.inference.evidence import Scorer
from kdal_cli.inference.folding import folded
from kdal_cli.network import Network, classifier
from kdal_cli.types import Output

BATCH = 250
"""Images a pass."""

MANY, FEW = 5000, 8
"""Images, from which on it pays to fold batch-norm first, and those that the folded network is tried on."""

T = TypeVar("T")


@torch.inference_mode()
def predict(network: Network, images: Resident, ids: Tensor, batch: int = BATCH, *, fold: bool | None = None) -> Output:
    """Logits (N, C) and features (N, D) of `ids` (N,), float32, on the model's device; its mode is restored.

    fold: whether to fold batch-norm first; None does so for many images.
    """
    answers = _answers(network, images, ids, batch, fold)
    logits, features = _one_below_the_other(((answer.logits, answer.features) for answer in answers), len(ids))
    return Output(logits, features)


@torch.inference_mode()
def predict_logits(
    network: Network, images: Resident, ids: Tensor, batch: int = BATCH, *, fold: bool | None = None
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


def _answers(network: Network, images: Resident, ids: Tensor, batch: int, fold: bool | None) -> Iterator[Output]:
    """Outputs without the maps that a loss may have asked for; one of no image where there are no ids."""
    was_training = network.training
    network.eval()
    try:
        fold = len(ids) >= MANY if fold is None else fold and len(ids) > 0
        looking = folded(network, images.whole(ids[:FEW])) if fold else network
        for pixels, count in _ahead(images, ids, batch):
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


def by_team(team: Team, look: Callable[..., T], network: Network, images: Resident, ids: Tensor) -> list[T]:
    """What each process of a team answers to `look(network, images, …)` about its part of `ids`, in order.

    The parts are of whole batches, those that one process alone would see, so that the numbers are the same.
    """
    if team.size == 1 or len(ids) <= BATCH:
        return [look(network, images, ids)]
    with team.helping(_look_at_part, team, look, network, images, ids) as answers:
        mine = _look_at_part(team, look, network, images, ids)
    return [mine, *answers]


def _look_at_part(team: Team, look: Callable[..., T], network: Network, images: Resident, ids: Tensor) -> T:
    batches = -(-len(ids) // BATCH)
    low, high = (batches * end // team.size * BATCH for end in (team.rank, team.rank + 1))
    return look(network, images, ids[low:high], fold=len(ids) >= MANY)


class Seer:
    """A model that looks at images by id: the `Scorer` that evidence is made of.

    looked: told, each time, who looks at how many images. team: the processes that look.
    """

    def __init__(
        self,
        network: Network,
        images: Resident,
        looked: Callable[[Network, int], None] = lambda network, images: None,
        team: Team | None = None,
    ) -> None:
        self.network, self.images, self.looked, self.team = network, images, looked, team or Team()

    def logits(self, ids: Tensor) -> Tensor:
        """(N, C)"""
        self.looked(self.network, len(ids))
        return _joined(by_team(self.team, predict_logits, self.network, self.images, ids))

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (N, C), features (N, D))."""
        self.looked(self.network, len(ids))
        seen = by_team(self.team, predict, self.network, self.images, ids)
        return _joined([part.logits for part in seen]), _joined([part.features for part in seen])

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        """`count` logits (N, C) under dropout. A draw's mask is one for all images, so it depends on no batch size.

        Raises UserError when the model has no dropout: its draws would be one and the same.
        """
        layers = [m for m in self.network.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
        if not layers:
            raise UserError(
                f"{type(self.network.body).__name__} has no dropout, so that all its draws are the same",
                cure="a student with dropout, such as student=small_cnn student.dropout=0.2; or scorer=seeds",
            )
        for _ in range(count):
            hooks = [layer.register_forward_hook(OneMask(rng)) for layer in layers]
            try:
                logits = self.logits(ids)
            finally:
                for hook in hooks:
                    hook.remove()
            yield logits

    @torch.inference_mode()
    def classify(self, features: Tensor) -> Tensor:
        """(n, D) -> (n, C). Raises UserError where the logits are not those of a last linear layer on the features."""
        last = classifier(self.network.body)
        one = predict(self.network, self.images, torch.zeros(1, dtype=torch.int64))
        if one.features.shape[1] != last.in_features or not torch.allclose(
            last(one.features), one.logits, rtol=1e-3, atol=1e-4
        ):
            raise UserError(
                f"{type(self.network.body).__name__} does not end in the linear layer that makes its logits",
                cure="a sampler that does not mix features",
            )
        return last(features.to(one.features)).float()


class Committee:
    """Several scorers as one: the logits of the mean of their probabilities, the features of the last of them."""

    def __init__(self, members: Sequence[Scorer]) -> None:
        self.members = members

    def logits(self, ids: Tensor) -> Tensor:
        """(N, C), log probabilities."""
        return _mean([member.logits(ids) for member in self.members])

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (N, C), features (N, D) of the last member)."""
        *others, last = self.members
        logits, features = last.look(ids)
        return _mean([*(member.logits(ids) for member in others), logits]), features

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        """The logits (N, C) of each member; `count` does not matter."""
        return (member.logits(ids) for member in self.members)

    def classify(self, features: Tensor) -> Tensor:
        """The last member's, whose features are shown."""
        return self.members[-1].classify(features)


def _mean(logits: Sequence[Tensor]) -> Tensor:
    """log of the mean of softmax, K x (N, C) -> (N, C)."""
    return torch.stack([each.log_softmax(1) for each in logits]).logsumexp(0) - math.log(len(logits))


class Remembering:
    """A scorer that never changes, and that is asked about no image twice. asked: (images,) bool, about which it was.

    images: how many the data set has.
    """

    def __init__(self, scorer: Scorer, images: int) -> None:
        self.scorer = scorer
        self.asked = torch.zeros(images, dtype=torch.bool)
        self._logits, self._features = _Shelf(images), _Shelf(images)

    def logits(self, ids: Tensor) -> Tensor:
        """(N, C)"""
        new = self._logits.missing(ids)
        if len(new) or not len(ids):
            self.asked[new] = True
            self._logits.keep(new, self.scorer.logits(new))
        return self._logits.rows(ids)

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (N, C), features (N, D))."""
        new = self._features.missing(ids)
        if len(new) or not len(ids):
            self.asked[new] = True
            logits, features = self.scorer.look(new)
            self._logits.keep(new, logits)
            self._features.keep(new, features)
        return self._logits.rows(ids), self._features.rows(ids)

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        self.asked[ids.cpu()] = True
        return self.scorer.draws(ids, count, rng)

    def classify(self, features: Tensor) -> Tensor:
        return self.scorer.classify(features)


class _Shelf:
    """Rows by id, (images, width), made when their width is first known, on the device they come from."""

    def __init__(self, images: int) -> None:
        self.held = torch.zeros(images, dtype=torch.bool)
        self.table = torch.empty(0)

    def missing(self, ids: Tensor) -> Tensor:
        ids = ids.cpu()
        return ids[~self.held[ids]]

    def keep(self, ids: Tensor, rows: Tensor) -> None:
        if self.table.dim() < 2:
            self.table = rows.new_zeros(len(self.held), rows.shape[1])
        self.table[ids.to(rows.device)] = rows
        self.held[ids] = True

    def rows(self, ids: Tensor) -> Tensor:
        return self.table[ids.to(self.table.device)]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


class OneMask:
    """A hook that drops the same units of every image; in eval mode the layer itself passes everything.

    It draws when it is first called; one that is sent to another process draws the same there.
    """

    def __init__(self, rng: Generator) -> None:
        self.rng = rng
        self.kept: Tensor | None = None

    def __call__(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if self.kept is None:
            p = float(layer.p)  # type: ignore[arg-type]
            whole_maps = output.dim() == 4 and not isinstance(layer, nn.Dropout)
            shape = (*output.shape[1:2], 1, 1) if whole_maps else output.shape[1:]
            self.kept = (torch.rand(shape, generator=self.rng) >= p).to(output) / (1 - p)
        return output * self.kept

    def __deepcopy__(self, memo: object) -> "OneMask":
        """A copy of a network drops what the network itself drops."""
        return self
