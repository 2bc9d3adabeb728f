"""What was said of each image, by whom, over all purchases: votes, the label that holds, and where they differ."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from kdal_cli.labels.crowd import ABSENT
from kdal_cli.labels.oracle import TEACHER
from kdal_cli.labels.purchase import Purchase

Votes = Mapping[int, Sequence[tuple[str, int]]]
"""{id: (who, class) of each answer that counts, in the order given}."""


def votes(purchases: Iterable[Purchase]) -> Votes:
    """The answers that count. A review replaces all before it; a teacher has no say where people have spoken."""
    said: dict[int, list[tuple[str, int]]] = {}
    for bought in purchases:
        for fact in bought.facts():
            mine = list(bought.opinions.get(fact.id, [(fact.owner, fact.label)])) if fact.label is not None else []
            if bought.purpose == "review":
                said[fact.id] = mine
            else:
                said.setdefault(fact.id, []).extend(mine)
    people = {id: [vote for vote in each if vote[0] != TEACHER] for id, each in said.items()}
    return {id: people[id] or each for id, each in said.items() if each}


def agreed(said: Sequence[tuple[str, int]]) -> int:
    """What most say; of a tie what was said first."""
    labels = [label for _, label in said]
    return max(labels, key=labels.count)


def disputed(said: Votes) -> list[int]:
    """Ids of images of which not all say the same, in the order of the votes."""
    return [id for id, each in said.items() if len({label for _, label in each}) > 1]


def matrix(said: Votes, ids: Sequence[int]) -> tuple[Tensor, tuple[str, ...]]:
    """(answers (M, A) of the images `ids`, their annotators); ABSENT where somebody was not asked.

    Who answers about an image a second time is another annotator then, `anna (2)`.
    """
    people = [_turns([who for who, _ in said[id]]) for id in ids]
    annotators = tuple(dict.fromkeys(who for several in people for who in several))
    column = {who: place for place, who in enumerate(annotators)}
    answers = torch.full((len(ids), len(annotators)), ABSENT)
    for row, id in enumerate(ids):
        for who, (_, label) in zip(people[row], said[id], strict=True):
            answers[row, column[who]] = label
    return answers, annotators


def standing(said: Votes, labels: Mapping[int, int]) -> list[tuple[str, int, int, int]]:
    """(who, answers, of these about images with several answers, of these as the label that holds) of each.

    labels: {id: what holds}. Whoever agrees least comes first.
    """
    rows: dict[str, tuple[int, int, int]] = {}
    for id, each in said.items():
        shared = len(each) > 1
        for who, label in each:
            answers, others, agree = rows.get(who, (0, 0, 0))
            rows[who] = answers + 1, others + shared, agree + (shared and label == labels.get(id))
    found = [(who, *row) for who, row in rows.items()]
    return sorted(found, key=lambda row: (row[3] / row[2] if row[2] else 1.0, row[0]))


def _turns(people: Sequence[str]) -> list[str]:
    """Each with a number where they come again."""
    counts = [people[: place + 1].count(who) for place, who in enumerate(people)]
    return [who if count == 1 else f"{who} ({count})" for who, count in zip(people, counts, strict=True)]
