"""Answers of another run about the same images: nobody is asked about these again, and they cost nothing again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from kdal_cli.errors import UserError, printable
from kdal_cli.inference.evidence import Evidence, Sampler
from kdal_cli.lab.lab import Lab, fingerprint
from kdal_cli.labels.desk import LONGEST_NAME
from kdal_cli.labels.joined import joined
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.naming import UNDECIDED, Spelling, Unnameable, is_proper
from kdal_cli.labels.oracle import FIRST, TEACHER, Answer, NotYet, Occasion, Oracle
from kdal_cli.labels.purchase import Fact
from kdal_cli.records import seals
from kdal_cli.types import Query

KEPT = "taken_over.json"
"""Where a run keeps them from its first question on: the other run may change, or go away."""


@dataclass(frozen=True)
class TakenOver:
    """answers: {id: what was said of it} in the classes of this run. run: where they are from. kept: the file here."""

    run: Path
    answers: Mapping[int, Fact]
    kept: Path

    @cached_property
    def ids(self) -> Tensor:
        """(n,) ids that were answered, query by query as they were asked."""
        return torch.tensor(list(self.answers), dtype=torch.int64)

    def before(self, oracle: Oracle) -> Oracle:
        """An oracle that asks `oracle` about what is not answered, is asked again, or is reviewed."""

        def answer(ids: Tensor, occasion: Occasion = FIRST) -> Answer | NotYet:
            if occasion.purpose == "review":
                return oracle(ids, occasion)
            self._keep()
            fresh = [id in self.answers and id not in occasion.again for id in ids.tolist()]
            known = {place: self.answers[id] for place, id in enumerate(ids.tolist()) if fresh[place]}
            places = [place for place in range(len(ids)) if not fresh[place]]
            told = oracle(ids[places], occasion) if places else None
            if isinstance(told, NotYet):
                return told
            return replace(joined(known, told, places, "taken over"), taken=tuple(sorted(known)))

        return answer

    def first(self, sampler: Sampler) -> Sampler:
        """A seed set of images that were answered, then of what `sampler` chooses."""

        def choose(pool: Evidence, k: int, rng: Generator) -> Query:
            query = sampler(pool, k, rng)
            order = pool.ids.argsort()
            ids = self.ids[torch.isin(self.ids, pool.ids)][:k]
            answered = order[torch.searchsorted(pool.ids[order], ids)]
            others = ~torch.isin(query.rows.cpu(), answered)
            scores = torch.cat([torch.zeros(len(answered)).to(query.scores), query.scores[others]])
            return Query(torch.cat([answered, query.rows.cpu()[others]])[:k], scores[:k])

        return choose

    def _keep(self) -> None:
        if not self.kept.exists():
            rows = [[getattr(fact, key) for key in COLUMNS] for fact in self.answers.values()]
            rows = [[None if value != value else value for value in row] for row in rows]
            seals.write_json(self.kept, {"run": str(self.run), "answers": rows})


COLUMNS = ("id", "label", "said", "owner", "time", "seconds", "proposed")


def taken_over(run: Path, lab: Lab) -> TakenOver:
    """What people said in another run, or what this run has kept of it. Nothing in that folder is believed unread.

    Raises UserError where that run is of other images or of classes that are missing here, or nobody answered there.
    """
    kept = lab.run.folder / KEPT
    if kept.is_file():
        return TakenOver(run, _read_kept(kept, lab), kept)
    where = f"oracle.answers={run}"
    if not (run / "manifest.json").is_file() or not (run / "ledger.jsonl").is_file():
        raise UserError("no run that has bought labels", where=where, cure="name a run folder, below outputs/al-loop")
    manifest = seals.read_object(run / "manifest.json")
    classes = _classes(manifest, lab.data.classes)
    if classes is None or manifest.get("data_sha256") != fingerprint(replace(lab.data, classes=classes)):
        cure = "name a run of the same images with the same data.split; data.classes may have more names"
        raise UserError(f"that run is of other images than data={lab.data.name}", where=where, cure=cure)
    facts = _said(Ledger.look(run / "ledger.jsonl"))
    if not facts:
        raise UserError("nobody has answered anything in that run", where=where, cure="name one that people labelled")
    spelling, answers = Spelling(lab.data.classes), {}
    for id, fact in facts.items():
        if id >= len(lab.data.train) or (fact.label is not None and fact.label >= len(classes)):
            raise UserError("that run has answers that cannot be about these images", where=where)
        answers[id] = _translated(fact, classes, spelling, where)
    return TakenOver(run, answers, kept)


def _classes(manifest: Mapping[str, Any], ours: tuple[str, ...]) -> tuple[str, ...] | None:
    """The classes of a run; None where that is no list of names."""
    config = manifest.get("config")
    data = config.get("data") if isinstance(config, Mapping) else None
    named = data.get("classes") if isinstance(data, Mapping) else None
    if not isinstance(named, list):
        return ours  # they come with the images
    return tuple(named) if len(named) > 1 and all(isinstance(name, str) for name in named) else None


def _said(ledger: Ledger) -> dict[int, Fact]:
    """{id: what holds, as whoever said so last said it}; labels that only a teacher gave are not among them."""
    holds: dict[int, int] = {}
    for purpose in ("test", "validation", "train"):
        ids, labels = ledger.bought(purpose)
        holds |= dict(zip(ids.tolist(), labels.tolist(), strict=True))
    said: dict[int, list[Fact]] = {}
    for purchase in ledger.purchases:
        for fact in purchase.facts():
            if fact.owner != TEACHER:
                said.setdefault(fact.id, []).append(fact)
    found = {}
    for id, each in said.items():
        right = [fact for fact in each if fact.label == holds.get(id)] or each
        found[id] = replace(right[-1], label=holds.get(id), said="" if id in holds else right[-1].said)
    return found


def _translated(fact: Fact, classes: Sequence[str], spelling: Spelling, where: str) -> Fact:
    """An answer in the classes of this run; a name that was proposed may be one of them. Raises UserError otherwise."""
    label, said, proposed = fact.label, fact.said, fact.proposed
    if label is not None or proposed:
        meant = _meant(classes[label] if label is not None else proposed, spelling)
        if label is not None and isinstance(meant, str):
            cure = "data.classes needs all classes of that run; it may have more"
            raise UserError(f"the class {printable(meant)} of that run is none here", where=where, cure=cure)
        label, said, proposed = (meant, "", "") if isinstance(meant, int) else (None, said, meant)
    if label is None and said not in UNDECIDED:
        raise UserError("that run has answers that nobody can have given", where=where)
    owner, time = printable(fact.owner, LONGEST_NAME), printable(fact.time)
    return replace(fact, label=label, said=said, proposed=proposed, cost=0.0, score=math.nan, owner=owner, time=time)


def _meant(name: str, spelling: Spelling) -> int | str:
    """The class that is called so; the name itself where there is none."""
    try:
        return spelling.meant(name)
    except Unnameable:
        return name


def _read_kept(path: Path, lab: Lab) -> dict[int, Fact]:
    """Raises UserError for a file that is damaged, or is not what was kept there."""
    rows = seals.read_object(path).get("answers")
    try:
        facts = [_fact(dict(zip(COLUMNS, row, strict=True)), lab) for row in rows or []]
    except (TypeError, ValueError):
        raise UserError("this is not what was kept there", where=path, cure="restore it from a copy") from None
    return {fact.id: fact for fact in facts}


def _fact(row: dict[str, Any], lab: Lab) -> Fact:
    id, label, said, seconds = row["id"], row["label"], row["said"], row["seconds"]
    labelled = type(label) is int and 0 <= label < len(lab.data.classes) and said == "" == row["proposed"]
    unnamed = label is None and said in UNDECIDED and (row["proposed"] == "" or is_proper(row["proposed"]))
    texts = all(isinstance(row[key], str) and len(row[key]) <= LONGEST_NAME for key in ("owner", "time", "proposed"))
    timed = seconds is None or type(seconds) in (int, float)
    if not (type(id) is int and 0 <= id < len(lab.data.train) and texts and (labelled or unnamed) and timed):
        raise ValueError(row)
    seconds = math.nan if seconds is None else float(seconds)
    return Fact(id, label, said, 0.0, math.nan, row["owner"], row["time"], seconds, row["proposed"])
