"""Why these: what is known of each image of a query when it is chosen, for people to read."""

import csv
import io

import torch
from torch import Tensor

from kdal_cli.dataset import ImageData
from kdal_cli.inference.evidence import Evidence, Scorer
from kdal_cli.plain import plain_cell
from kdal_cli.types import Query

COLUMNS = ("order", "id", "path", "score", "first", "p_first", "second", "p_second")
BY_TEACHER = ("teacher", "p_teacher")
NEAREST = ("nearest", "distance")
CHUNK = 512
"""Images of a query that are compared with all labelled ones at a time."""


def reasons(data: ImageData, pool: Evidence, query: Query, student: Scorer | None, teacher: Scorer | None) -> str:
    """`picks/round_003.csv`: the images of a query in the order picked.

    Score; the two classes that the student holds for the most likely; the teacher's first; the id of the labelled image
    that is nearest in the student's features, and how far. Empty where nobody has learnt anything yet. The teacher's
    view is shown here and acted upon nowhere, and so it is not charged.
    """
    ids = pool.asked(query)
    paths = [plain_cell(data.train.paths[id]) for id in ids.tolist()] if data.train.paths else [""] * len(ids)
    columns = [range(len(ids)), ids.tolist(), paths, [f"{score:.6g}" for score in query.scores.tolist()]]
    logits, features = student.look(ids) if student is not None else (None, None)
    columns += _likeliest(logits, data.classes, 2, len(ids))
    columns += _likeliest(teacher.logits(ids) if teacher is not None else None, data.classes, 1, len(ids))
    columns += _nearest(student, features, pool.labelled_ids, len(ids))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *BY_TEACHER, *NEAREST])
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()


def _likeliest(logits: Tensor | None, classes: tuple[str, ...], count: int, images: int) -> list[list[str]]:
    """Name and probability of the most likely classes, `count` pairs of columns."""
    if logits is None:
        return [[""] * images] * (2 * count)
    best = logits.double().softmax(1).topk(count)
    columns = []
    for labels, probs in zip(best.indices.T.tolist(), best.values.T.tolist(), strict=True):
        columns += [[plain_cell(classes[label]) for label in labels], [f"{p:.6f}" for p in probs]]
    return columns


def _nearest(scorer: Scorer | None, features: Tensor | None, labelled: Tensor, images: int) -> list[list[str]]:
    if scorer is None or features is None or not len(labelled):
        return [[""] * images] * 2
    features, theirs = features.float(), scorer.look(labelled)[1].float()  # (k, D), (M, D)
    middle = theirs.mean(0)  # products keep their digits near the origin alone
    rows = torch.cat([torch.cdist(part - middle, theirs - middle).argmin(1) for part in features.split(CHUNK)])  # (k,)
    distance = torch.linalg.vector_norm(features - theirs[rows], dim=1)  # of a copy exactly 0
    return [[str(id) for id in labelled[rows.cpu()].tolist()], [f"{d:.4g}" for d in distance.tolist()]]
