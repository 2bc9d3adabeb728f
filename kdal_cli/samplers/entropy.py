"""Ask where the prediction is spread over the classes."""

from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import by_chunk, top
from kdal_cli.types import Query


def entropy_score(logits: Tensor) -> Tensor:
    """−Σ_c p_c log p_c in nats, (N, C) -> (N,) in float64, from 0 to log C. Shannon 1948.

    From log-probabilities; a class of probability 0 adds 0 and not NaN.
    """
    log_probs = logits.double().log_softmax(1)  # (N, C)
    return -(log_probs.exp() * log_probs).sum(1).clamp(max=0)


def entropy(pool: Evidence, k: int, rng: Generator) -> Query:
    """The k images whose prediction is spread widest over the classes: −Σ_c p_c log p_c. See `entropy_score`.

    One pass over the logits: time N·C, memory N.

    Helps with few classes, where it agrees with the margin. Hurts with many, where small probabilities of classes that
    do not matter add up, and with large queries of near-duplicates: it looks at each image alone.
    """
    return top(by_chunk(entropy_score, pool.logits), k, pool.ids, rng)
