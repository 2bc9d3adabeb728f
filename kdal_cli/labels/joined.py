"""One answer out of two: what is known of some images of a query already, and what an oracle says of the others."""

import math
from collections.abc import Mapping, Sequence

import torch

from kdal_cli.labels.oracle import Answer
from kdal_cli.labels.purchase import Fact


def joined(known: Mapping[int, Fact], told: Answer | None, places: Sequence[int], owner: str) -> Answer:
    """An answer about all images of a query; every one of them has an owner of its own.

    known: {place in the query: what is known}. told: about the images at `places`, in order; None where there are none.
    owner: of the answer as a whole where nobody was asked.
    """
    facts = dict(known)
    named = iter(told.labels.tolist() if told is not None else ())
    for row, place in enumerate(places if told is not None else ()):
        assert told is not None
        said = told.undecided.get(row, "")
        facts[place] = Fact(
            id=place,
            label=None if said else next(named),
            said=said,
            cost=float(told.costs[row]),
            score=math.nan,
            owner=told.owners[row] if told.owners else told.owner,
            time=told.times[row] if told.times else "",
            seconds=told.seconds[row] if told.seconds else math.nan,
            proposed=told.proposed.get(row, ""),
        )
    rows = [facts[place] for place in range(len(facts))]
    labels = [fact.label for fact in rows if fact.label is not None]
    timed, counted = any(fact.time for fact in rows), not all(math.isnan(fact.seconds) for fact in rows)
    return Answer(
        labels=torch.tensor(labels, dtype=torch.int64),
        costs=torch.tensor([fact.cost for fact in rows], dtype=torch.float64),
        owner=told.owner if told is not None else owner,
        undecided={place: fact.said for place, fact in enumerate(rows) if fact.label is None},
        owners=tuple(fact.owner for fact in rows),
        times=tuple(fact.time for fact in rows) if timed else (),
        seconds=tuple(fact.seconds for fact in rows) if counted else (),
        opinions={places[row]: each for row, each in told.opinions.items()} if told is not None else {},
        audited={places[row]: label for row, label in told.audited.items()} if told is not None else {},
        proposed={place: fact.proposed for place, fact in enumerate(rows) if fact.proposed},
    )
