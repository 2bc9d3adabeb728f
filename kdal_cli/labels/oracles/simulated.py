"""The labels of the data set, sold one by one."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from kdal_cli.dataset import Labels
from kdal_cli.errors import UserError
from kdal_cli.labels.oracle import FIRST, Answer, Occasion, Oracle
from kdal_cli.streams import Streams
from kdal_cli.values import Natural, NonNegative, Share


def simulated(
    labels: Labels,
    classes: int,
    *,
    price: NonNegative = 1.0,
    noise: Share | Sequence[Share] = 0.0,
    seed: Natural = 0,
) -> Oracle:
    """An oracle that knows what the data set says, and sells each answer at `price`.

    noise: the share of ids of which it believes another class, any of the others alike; asked again it is wrong again,
    and every run meets the same errors, those of `seed`. A list is an annotator for each, who err apart from each
    other: one of them, drawn by the id, answers first, and the next one in turn whenever the image is asked about
    again. An image whose label is unknown raises LookupError.
    """
    if not isinstance(noise, Sequence):
        return _one(labels, classes, price, noise, torch.Generator().manual_seed(seed))
    if not noise:
        raise UserError("oracle.noise=[]", cure="a share, or a list of one for each annotator")
    streams = Streams(seed)
    each = [_apart(labels, classes, share, streams.at("annotator", a)) for a, share in enumerate(noise)]
    apart = torch.stack(each)  # (A, N)
    begins = torch.randint(len(noise), (len(labels),), generator=streams.at("annotators"))  # (N,)

    def answer(ids: Tensor, occasion: Occasion = FIRST) -> Answer:
        turns = torch.tensor([len(occasion.again.get(id, ())) for id in ids.tolist()], dtype=torch.int64)
        who = (begins[ids] + turns) % len(noise)  # (k,)
        believed = (labels.of(ids) + apart[who, ids]) % classes
        costs = torch.full((len(ids),), price, dtype=torch.float64)
        return Answer(believed, costs, "simulated", owners=tuple(f"simulated {a + 1}" for a in who.tolist()))

    return answer


def _one(labels: Labels, classes: int, price: float, noise: float, rng: Generator) -> Oracle:
    apart = _apart(labels, classes, noise, rng)

    def answer(ids: Tensor, occasion: Occasion = FIRST) -> Answer:
        believed = (labels.of(ids) + apart[ids]) % classes
        return Answer(believed, torch.full((len(ids),), price, dtype=torch.float64), "simulated")

    return answer


def _apart(labels: Labels, classes: int, noise: float, rng: Generator) -> Tensor:
    """(N,) how far from the true class somebody is who is wrong about such a share of images; 0 where right."""
    wrong = torch.rand(len(labels), generator=rng) < noise
    return torch.where(wrong, torch.randint(1, classes, (len(labels),), generator=rng), 0)
