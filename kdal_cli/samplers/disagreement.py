"""Ask where teacher and student contradict each other."""

from typing import Literal

from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import top
from kdal_cli.samplers.bald import bald_score
from kdal_cli.types import Query
from kdal_cli.values import Positive

Measure = Literal["kl", "js", "flip"]


def disagreement_score(teacher: Tensor, student: Tensor, measure: Measure, temperature: float = 1.0) -> Tensor:
    """How far p_t = softmax(teacher / T) and p_s = softmax(student / T) lie apart, (N, C), (N, C) -> (N,) in float64.

    kl: KL(p_t ‖ p_s) = Σ_c p_t log(p_t / p_s) in nats, from 0. js: (KL(p_t ‖ m) + KL(p_s ‖ m)) / 2 with m their mean,
    in nats, from 0 to log 2. flip: 1 where the likeliest class, the first of equals, is another, and else 0.
    """
    if measure == "flip":
        return (teacher.argmax(1) != student.argmax(1)).double()
    softened = teacher.double() / temperature, student.double() / temperature  # (N, C), (N, C)
    if measure == "js":
        return bald_score(softened)  # H(m) − (H(p_t) + H(p_s)) / 2
    log_t, log_s = (logits.log_softmax(1) for logits in softened)
    return (log_t.exp() * (log_t - log_s)).sum(1).clamp(min=0)


def disagreement(
    pool: Evidence, k: int, rng: Generator, *, measure: Measure = "kl", temperature: Positive = 1.0
) -> Query:
    """The k images on which teacher and student differ most: a committee of two (Seung et al. 1992).

    measure kl: KL(teacher ‖ student) in nats, the soft-label loss that the student would have there; js: its bounded
    and symmetric relative, from 0 to log 2; flip: 1 where their top-1 classes differ, else 0, and so mostly ties, which
    are broken at random. Both divide their logits by `temperature`, of which a flip knows nothing.

    Costs a teacher's answer for each of the N candidates, not of the k chosen alone. Time and memory N·C.

    Helps where the teacher is right: there its answer is what the student lacks most. Hurts where the teacher is wrong
    or sure without reason: kl has no upper bound, and sends its largest scores to where the student gives the teacher's
    class next to nothing.
    """
    return top(disagreement_score(pool.teacher_logits, pool.logits, measure, temperature), k, pool.ids, rng)
