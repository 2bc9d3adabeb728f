"""Another run's queries, bought again: how well does what one student asked for serve another?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from kdal_cli.errors import MachineError, UserError
from kdal_cli.inference.evidence import Evidence
from kdal_cli.lab.blueprint import named
from kdal_cli.lab.lab import Lab, fingerprint
from kdal_cli.labels.ledger import Ledger
from kdal_cli.records.seals import read_object
from kdal_cli.types import Query


@dataclass(frozen=True)
class Replay:
    """A budget and a sampler in one. folder: of the run. queries: (k,) ids of each of its rounds; scores: (k,)."""

    folder: Path
    queries: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]

    def plan(self, pool: int) -> list[int]:
        """Labels of each round, as many as were bought then."""
        return [len(query) for query in self.queries]

    def sentence(self, pool: int) -> str:
        return f"the {sum(self.plan(pool)):,} labels that {self.folder} bought, in {len(self.queries)} queries"

    def __call__(self, pool: Evidence, k: int, rng: Generator) -> Query:
        """The next k of them that are not labelled yet, with the scores that they had."""
        ids, scores = torch.cat(self.queries), torch.cat(self.scores)
        fresh = ~torch.isin(ids, pool.labelled_ids)
        ids, scores = ids[fresh][:k], scores[fresh][:k]
        if not torch.isin(ids, pool.ids).all():
            raise MachineError("a label that is to be bought again is not in the pool", where=self.folder)
        order = pool.ids.argsort()
        return Query(order[torch.searchsorted(pool.ids[order], ids)], scores)


def replay(folder: Path, lab: Lab) -> Replay:
    """The queries of a run, in the order of its rounds. Raises UserError where they are of other images."""
    cure = "replay a run of this data with this data.split"
    if _manifest(folder).get("data_sha256") != fingerprint(lab.data):
        raise UserError(f"that run is of other images than data={lab.data.name}", where=f"replay={folder}", cure=cure)
    purchases = [purchase for purchase in Ledger.look(folder / "ledger.jsonl").purchases if purchase.purpose == "train"]
    if any(purchase.again for purchase in purchases):
        reason = "that run asked about images more than once"
        raise UserError(reason, where=f"replay={folder}", cure="replay one whose sampler asks about each image once")
    queries = tuple(purchase.ids for purchase in purchases)
    if not queries or not torch.isin(torch.cat(queries), lab.pool).all():
        reason = "that run bought images that are not in this pool" if queries else "that run has bought nothing"
        raise UserError(reason, where=f"replay={folder}", cure=cure)
    return Replay(folder, queries, tuple(purchase.scores for purchase in purchases))


def chosen_by(folder: Path) -> dict[str, Any]:
    """The section of the sampler that chose, with the student for which it did: {"name": …, "for": "small_cnn …"}."""
    config = _manifest(folder).get("config")
    sampler, student = map(config.get, ("sampler", "student")) if isinstance(config, Mapping) else (None, None)
    if not (isinstance(sampler, Mapping) and isinstance(student, Mapping) and "name" in sampler and "name" in student):
        raise UserError("that run has no sampler", where=f"replay={folder}", cure="name a run of kdal al-loop")
    return {"for": named(student), **sampler}  # a run that was a replay itself: as that says


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise UserError("no run here", where=f"replay={folder}", cure="name a run folder, below outputs/al-loop")
    return read_object(path)
