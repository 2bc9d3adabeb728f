"""A body that does not change is a table: its features of an image in a view are computed once, and kept.

The tables lie beside each other in `store`, found by a hash of the body, the images, the device and the torch, and are
shared by all runs: another seed, sampler or loss finds what the first one has computed.

Axis letters: N images, V views, B batch, D features, R rows.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kdal_cli.devices.passes import images_a_pass
from kdal_cli.errors import MachineError
from kdal_cli.images.augment import Resident
from kdal_cli.lab.lab import Lab
from kdal_cli.metrics.cost import evaluating
from kdal_cli.network import Network, classifier
from kdal_cli.records.files import folder_below, sha256
from kdal_cli.training.answers import WINDOW, Table
from kdal_cli.training.recipe import Recipe
from kdal_cli.training.tuning import is_still

FORMAT = 1
"""Raised when a table would be written in another way than before."""

PASS = 64
"""Images that a body looks at together, at most."""

LIMIT, HELD = 4 << 30, 1 << 28
"""Bytes that a table may grow to, and of one that is held in memory as well."""


def remember(lab: Lab, network: Network, recipe: Recipe) -> None:
    """Give a network a memory where a recipe leaves its body as it is, and its head is all that comes after."""
    network.memory = None
    if not is_still(network, recipe) or not _ends_in_its_head(lab, network):
        return
    network.memory = Remembered(lab, network)


class Remembered:
    """The features of the training and the test images of a bench, see `kdal_cli.network.Memory`."""

    def __init__(self, lab: Lab, network: Network) -> None:
        self.network = network
        self.width = classifier(network.body).in_features
        self.known: Mapping[int, str] = {id(lab.data.train.pixels): "train", id(lab.data.test.pixels): "test"}
        self.folder = lab.features / _hash(lab, network) if lab.features is not None else None
        self._shelves: dict[str, _Shelf] = {}

    def __call__(self, images: Resident, ids: Tensor, views: Tensor | None = None) -> Tensor | None:
        part, augment = self.known.get(id(images.pixels)), images.augment
        many = augment.count if views is not None else 1
        if part is None or 2 * len(images) * many * (self.width + 1) > LIMIT:
            return None
        name = f"{part}_{augment.spelt}" if many > 1 else part
        shelf = self._shelves.get(name)
        if shelf is None:
            path = _made(self.folder) / f"{name}.rows" if self.folder is not None else None
            shelf = self._shelves[name] = _Shelf(Table(len(images) * many, self.width, path))
        ids, views = ids.cpu(), views.cpu() if views is not None and many > 1 else None
        rows = ids if views is None else ids * many + views
        missing = shelf.missing(rows)
        for some in missing.split(images_a_pass(self.network, images, PASS)) if len(missing) else ():
            shelf.write(some, self._look(images, some // many, some % many if many > 1 else None))
        return shelf.read(rows).to(images.device)

    @torch.no_grad()
    def _look(self, images: Resident, ids: Tensor, views: Tensor | None) -> Tensor:
        """(R, D) float16, in passes of always as many images, so that an answer does not depend on its company."""
        more = images_a_pass(self.network, images, PASS) - len(ids)
        whole = torch.cat([ids, ids[:1].expand(more)])
        turned = None if views is None else torch.cat([views, views[:1].expand(more)])
        with evaluating(self.network):
            seen = self.network(images.whole(whole) if turned is None else images.at(whole, turned))
        halves = seen.features[: len(ids)].float().cpu().half()
        if not halves.isfinite().all():
            raise MachineError("features are too large for float16, or no numbers", cure="recipe.learns=last:1")
        return halves


class _Shelf:
    """A table, and what was read of it, held in memory where that is little."""

    def __init__(self, table: Table) -> None:
        self.table = table
        rows = len(table)
        self.held = torch.zeros(rows, table.width) if 4 * rows * table.width <= HELD else None
        self.there = torch.zeros(rows if self.held is not None else 0, dtype=torch.bool)

    def missing(self, rows: Tensor) -> Tensor:
        """(n,) those of `rows` that nobody has computed, each once."""
        rows = rows.unique()
        if self.held is None:
            return torch.cat([part[~self.table.read(part)[1]] for part in rows.split(WINDOW)])
        new = rows[~self.there[rows]]
        if not len(new):
            return new
        numbers, there = self.table.read(new)
        self.held[new[there]], self.there[new[there]] = numbers[there].float(), True
        return new[~there]

    def write(self, rows: Tensor, halves: Tensor) -> None:
        self.table.write(rows, halves)
        if self.held is not None:
            self.held[rows], self.there[rows] = halves.float(), True

    def read(self, rows: Tensor) -> Tensor:
        return self.held[rows] if self.held is not None else self.table.read(rows)[0].float()


def _hash(lab: Lab, network: Network) -> str:
    """Of everything before the head, and of who computes it on what."""
    head = {id(tensor) for tensor in classifier(network.body).parameters()}
    digest = hashlib.sha256(f"{network.size} {network.body}".encode())
    for tensor in (*network.parameters(), *network.buffers()):
        if id(tensor) not in head:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    made_by = {"format": FORMAT, "device": lab.engine.describe()["name"], "torch": torch.__version__}
    return sha256({"body": digest.hexdigest(), "data": lab.fingerprint, **made_by})[:16]


def _made(folder: Path) -> Path:
    try:
        return folder_below(folder.parent, folder.name)
    except OSError as error:
        raise MachineError(f"features cannot be kept: {error.strerror}", where=folder, cure="make room") from error


@torch.no_grad()
def _ends_in_its_head(lab: Lab, network: Network) -> bool:
    """Whether the logits are what the last linear layer makes of the features."""
    with evaluating(network):
        seen = network(lab.train.whole(lab.pool[:1]))
    last = classifier(network.body)
    fits = seen.features.shape[1] == last.in_features
    return fits and torch.allclose(last(seen.features), seen.logits, rtol=1e-3, atol=1e-4)
