"""Who looks at the pool: a network, several as one, or one that remembers what it was asked.

Axis letters: N images, C classes, D features, K members.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Generator, Tensor, nn

from kdal_cli.devices.passes import images_a_pass
from kdal_cli.devices.team import Team
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Resident
from kdal_cli.inference.evidence import Scorer
from kdal_cli.inference.predict import BATCH, MANY, by_team, predict, predict_logits
from kdal_cli.inference.tables import BLOCK, Tables
from kdal_cli.network import Network, classifier


class Seer:
    """A model that looks at images by id: the `Scorer` that evidence is made of.

    looked: told, each time, who looks at how many images. team: the processes that look. tables: where features are
    held; mapped ones are made a block at a time.
    """

    def __init__(
        self,
        network: Network,
        images: Resident,
        looked: Callable[[Network, int], None] = lambda network, images: None,
        team: Team | None = None,
        tables: Tables | None = None,
    ) -> None:
        self.network, self.images, self.looked = network, images, looked
        self.team, self.tables = team or Team(), tables or Tables()

    def logits(self, ids: Tensor) -> Tensor:
        """(N, C)"""
        self.looked(self.network, len(ids))
        seen = by_team(self.team, predict_logits, self.network, self.images, ids, len(ids) >= MANY)
        return self.tables.placed(_joined(seen))

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (N, C), features (N, D))."""
        self.looked(self.network, len(ids))
        batch = images_a_pass(self.network, self.images, BATCH)
        blocks = ids.split(-(-BLOCK // batch) * batch) if self.tables.folder is not None else (ids,)
        logits: list[Tensor] = []

        def features() -> Iterator[Tensor]:
            for block in blocks:  # of whole batches, so that the numbers are those of one look
                seen = by_team(self.team, predict, self.network, self.images, block, len(ids) >= MANY)
                logits.append(self.tables.placed(_joined([part.logits for part in seen])))
                yield _joined([part.features for part in seen])

        table = self.tables.filled(len(ids), features())
        return _joined(logits), table

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
        return last(features.to(one.features)).float().to(features.device)


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

    images: how many the data set has. tables: where its features are held.
    """

    def __init__(self, scorer: Scorer, images: int, tables: Tables | None = None) -> None:
        self.scorer = scorer
        self.asked = torch.zeros(images, dtype=torch.bool)
        self._logits, self._features = _Shelf(images, Tables()), _Shelf(images, tables or Tables())

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

    def __init__(self, images: int, tables: Tables) -> None:
        self.held, self.tables = torch.zeros(images, dtype=torch.bool), tables
        self.table = torch.empty(0)

    def missing(self, ids: Tensor) -> Tensor:
        ids = ids.cpu()
        return ids[~self.held[ids]]

    def keep(self, ids: Tensor, rows: Tensor) -> None:
        if self.table.dim() < 2:
            self.table = self.tables.zeros(len(self.held), rows)
        self.table[ids.to(rows.device)] = rows
        self.held[ids] = True

    def rows(self, ids: Tensor) -> Tensor:
        return self.tables.filled(len(ids), (self.table[some] for some in ids.to(self.table.device).split(BLOCK)))


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
