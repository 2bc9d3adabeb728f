"""Ask for images that leave no prediction of the student far from one that is labelled."""

from torch import Generator

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import keys
from kdal_cli.samplers.coreset import k_center
from kdal_cli.types import Query


def pcoreset(pool: Evidence, k: int, rng: Generator) -> Query:
    """`coreset` among predictions: the image whose p = softmax(logits) is farthest from those labelled or chosen.

    Kang et al. 2025, arXiv:2506.00910. The score is the squared distance, from 0 to 2.

    Costs (M + k)·N·C time, nearly all of it in matrix products, and memory N·C.

    Helps, in the paper, when the student is distilled from a vision-language model and few labels can be bought: it
    covers the predictions that the student has learnt from the teacher. Hurts when the student is sure of
    everything: p lies in one of C corners, and images of one corner cannot be told apart.
    """
    points, centres = pool.in_space("probabilities")
    return k_center(points, centres, k, keys(pool.ids, rng))
