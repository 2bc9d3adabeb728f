"""Ask where the most likely class is unlikely."""

from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import by_chunk, top
from kdal_cli.types import Query


def least_confidence_score(logits: Tensor) -> Tensor:
    """1 − max_c p_c, (N, C) -> (N,) in float64, from 0 to 1 − 1/C. Lewis and Gale 1994, arXiv:cmp-lg/9407020.

    Summed over the other classes rather than subtracted from 1, so that a saturated softmax still has an order.
    """
    probs = logits.double().softmax(1)  # (N, C)
    likeliest = logits.argmax(1, keepdim=True)  # (N, 1)
    return probs.scatter(1, likeliest, 0).sum(1)


def least_confidence(pool: Evidence, k: int, rng: Generator) -> Query:
    """The k images whose most likely class is least likely: 1 − max_c p_c. See `least_confidence_score`.

    One pass over the logits: time N·C, memory N.

    Helps as the simplest uncertainty there is. Hurts where images are hard for good, by noise or a wrong label: these
    stay unconfident and are bought first. It looks at each image alone.
    """
    return top(by_chunk(least_confidence_score, pool.logits), k, pool.ids, rng)
