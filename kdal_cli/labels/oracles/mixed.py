"""The teacher answers where it is sure, and people do elsewhere; some of what it is sure of people answer, unseen."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.labels.desk import Desk
from kdal_cli.labels.oracle import FIRST, TEACHER, Answer, NotYet, Occasion, Oracle
from kdal_cli.labels.promise import broken, threshold
from kdal_cli.records.files import read_json, write_json
from kdal_cli.streams import Streams
from kdal_cli.values import NonNegative, Share, Within


@dataclass(frozen=True)
class Shares:
    """Who answers what of a query. by_teacher: {place: class}. audited: {place: class} of what people answer too.

    threshold: the confidence from which the teacher is sure; infinite where it answers nothing.
    """

    by_teacher: dict[int, int]
    audited: dict[int, int]
    threshold: float

    def people(self, count: int) -> list[int]:
        """Places that people are asked about."""
        return [place for place in range(count) if place not in self.by_teacher]


def mixed(
    desk: Desk,
    *,
    person: Oracle,
    error: Annotated[float, Within(0.001, 0.5)] = 0.05,
    level: Annotated[float, Within(0.5, 0.999)] = 0.95,
    audit: Share = 0.2,
    price: NonNegative = 0.0,
) -> Oracle:
    """An oracle that asks `person` where the teacher is not sure.

    error: how often labels of the teacher may be wrong; how sure it has to be for that follows from the validation
    labels (`labels.promise.threshold`) at this level. audit: the share of the images that it is sure of that people are
    asked about all the same, without knowing which; their label is the one that counts. When these audits, of all
    rounds, show that the teacher is wrong more often than was promised, it answers nothing any more. price: of one of
    its labels. Validation and test images are people's alone, and so is a query that no teacher can be asked about.
    """

    def answer(ids: Tensor, occasion: Occasion = FIRST) -> Answer | NotYet:
        if occasion.purpose != "train":
            return person(ids, occasion)
        shares = _settled(desk, ids, occasion, error, level, audit)
        places = shares.people(len(ids))
        told = person(ids[places], occasion) if places else None
        if isinstance(told, NotYet):
            return told
        return _together(len(ids), shares, places, told, price)

    return answer


def _settled(desk: Desk, ids: Tensor, occasion: Occasion, error: float, level: float, audit: float) -> Shares:
    """Who answers what, written down before anybody is asked: a run that goes on asks the same people the same."""
    path = desk.folder / f"{occasion.name}_teacher.json"
    if not path.exists():
        shares = _shares(ids, occasion, error, level, audit)
        kept = {key: {str(place): label for place, label in getattr(shares, key).items()} for key in PARTS}
        write_json(path, {"threshold": shares.threshold, "ids": ids.tolist(), **kept})
        if math.isfinite(shares.threshold):
            total = len(shares.by_teacher) + len(shares.audited)
            what = f"the teacher is sure of {total:,} of {len(ids):,} images, from {shares.threshold:.4f} on"
            desk.say(f"{occasion.name}: {what}; people are asked about {len(shares.people(len(ids))):,}")
    record = read_json(path)
    try:
        return _read(record, ids, len(desk.classes))
    except (KeyError, TypeError, ValueError, AttributeError):
        cure = "restore the file from a copy, or start a new run"
        raise UserError("this file is not about this query", where=path, cure=cure) from None


PARTS = ("by_teacher", "audited")


def _read(record: dict[str, Any], ids: Tensor, classes: int) -> Shares:
    taught, audited = ({int(place): label for place, label in record[key].items()} for key in PARTS)
    named = [*taught.items(), *audited.items()]
    sound = all(0 <= place < len(ids) and type(label) is int and 0 <= label < classes for place, label in named)
    if record["ids"] != ids.tolist() or not sound or taught.keys() & audited.keys():
        raise ValueError(record)
    return Shares(taught, audited, math.inf if record["threshold"] is None else float(record["threshold"]))


def _shares(ids: Tensor, occasion: Occasion, error: float, level: float, audit: float) -> Shares:
    known, truth = occasion.validation
    nobody = Shares({}, {}, math.inf)
    if occasion.teacher is None or not len(known) or broken(occasion.audits, error, level):
        return nobody
    said, confidence = (tensor.cpu() for tensor in occasion.teacher(known))
    least = threshold(confidence, said == truth, error, level)
    labels, sure = (tensor.cpu() for tensor in occasion.teacher(ids))
    fresh = ~torch.isin(ids, torch.tensor(list(occasion.again), dtype=torch.int64))  # it would say the same again
    places = ((sure >= least) & fresh).nonzero().flatten()
    rng = Streams(0).at("audit", occasion.round)
    audited = places[torch.rand(len(places), generator=rng) < audit].tolist()
    named = {place: int(labels[place]) for place in places.tolist()}
    rest = {place: label for place, label in named.items() if place not in audited}
    return Shares(rest, {place: named[place] for place in audited}, least)


def _together(count: int, shares: Shares, places: list[int], told: Answer | None, price: float) -> Answer:
    """One answer of both. Every label has an owner of its own."""
    labels: list[int | None] = [shares.by_teacher.get(place) for place in range(count)]
    owners, costs = [TEACHER] * count, [price] * count
    times, seconds, undecided = [""] * count, [0.0] * count, {}
    if told is not None:
        named = iter(told.labels.tolist())
        for row, place in enumerate(places):
            if row in told.undecided:
                undecided[place] = told.undecided[row]
            else:
                labels[place] = next(named)
            costs[place] = float(told.costs[row])
            owners[place] = told.owners[row] if told.owners else told.owner
            times[place] = told.times[row] if told.times else ""
            seconds[place] = told.seconds[row] if told.seconds else math.nan
    return Answer(
        labels=torch.tensor([label for label in labels if label is not None], dtype=torch.int64),
        costs=torch.tensor(costs, dtype=torch.float64),
        owner=told.owner if told is not None else TEACHER,
        undecided=undecided,
        owners=tuple(owners),
        times=tuple(times) if told is not None and told.times else (),
        seconds=tuple(seconds) if told is not None and told.seconds else (),
        audited=shares.audited,
        opinions={places[row]: each for row, each in told.opinions.items()} if told is not None else {},
    )
