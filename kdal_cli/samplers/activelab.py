"""Ask where a label is least sure, of a new image or once more of one that has some."""

import torch
from torch import Generator

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.held_out import held_out
from kdal_cli.inference.ranking import top
from kdal_cli.labels import crowd
from kdal_cli.types import Query
from kdal_cli.values import Count


def activelab(pool: Evidence, k: int, rng: Generator, *, most: Count = 5) -> Query:
    """The k images whose label is least sure: −(quality of the consensus, averaged with 1/C for one more answer).

    Goh and Mueller 2023, arXiv:2301.11856. One scale for images without an answer, whose consensus is what the model
    holds for likely, and for those with some, whose consensus is that of the annotators and the model, each weighed by
    how far it can be trusted (CROWDLAB, arXiv:2210.06812). The model is logistic regression on the scorer's features,
    for a labelled image learnt from the labels of others. most: answers that an image has at most.

    Where nobody can be asked again (`oracle=simulated` with one annotator, or as a part of another sampler) only new
    images are chosen: then it is least confidence.

    Costs five logistic regressions of M·D and one look at the pool, time N·C and M·A besides.

    Helps where annotators err: a second answer to a doubtful label is worth more than a first one to an easy image.
    Hurts where labels are right: answers are spent on what is known.
    """
    features, labelled = pool.features, pool.labelled_features
    probs, others = held_out(labelled, pool.labels, pool.classes, rng, features)
    if not len(pool.labels.unique()) > 1:
        others = pool.logits.double().softmax(1).cpu()
    answers = pool.answers() if pool.answers is not None else None
    if answers is None or not len(probs):
        return top(-others.max(1).values, k, pool.ids, rng)
    again, new = crowd.activelab(answers, probs, others)
    again = torch.where((answers != crowd.ABSENT).sum(1) < most, again, torch.inf)
    open_ = again.isfinite().nonzero().flatten()
    query = top(-torch.cat([new, again[open_]]), k, torch.cat([pool.ids, pool.labelled_ids[open_]]), rng)
    repeated = query.rows >= len(pool)
    rows = query.rows.clone()
    rows[repeated] = open_[query.rows[repeated] - len(pool)]
    return Query(rows, query.scores, again=repeated)
