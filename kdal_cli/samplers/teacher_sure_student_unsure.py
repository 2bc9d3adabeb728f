"""Ask where the teacher has something to say that the student does not know."""

from torch import Generator, Tensor

from kdal_cli.inference.evidence import Evidence
from kdal_cli.inference.ranking import top
from kdal_cli.samplers.least_confidence import least_confidence_score
from kdal_cli.types import Query
from kdal_cli.values import Share


def most_doubt(doubt: Tensor, predicted: Tensor, classes: int, sure: float) -> Tensor:
    """The doubt up to which a prediction counts as sure, for each class, (N,), (N,) -> (C,).

    Of n images predicted as a class it is the doubt of the round(sure · n)-th surest, and at least of the surest. For a
    class that is never predicted the number means nothing.
    """
    ranked = doubt.argsort()
    ranked = ranked[predicted[ranked].argsort(stable=True)]  # (N,) class by class, the surest first
    count = predicted.bincount(minlength=classes)  # (C,)
    last = count.cumsum(0) - count + (sure * count).round().long().clamp(min=1) - 1
    return doubt[ranked][last.clamp(max=len(doubt) - 1)]


def teacher_sure_student_unsure_score(teacher: Tensor, student: Tensor, sure: float) -> Tensor:
    """The student's 1 − max p, less 1 where the teacher is not sure, (N, C), (N, C) -> (N,) in float64.

    From 0 to 1 − 1/C where the teacher is sure, from −1 to −1/C where it is not.
    """
    doubt, predicted = least_confidence_score(teacher), teacher.argmax(1)  # (N,), (N,)
    limit = most_doubt(doubt, predicted, teacher.shape[1], sure)[predicted]  # (N,)
    return least_confidence_score(student) - (doubt > limit).double()


def teacher_sure_student_unsure(pool: Evidence, k: int, rng: Generator, *, sure: Share = 0.5) -> Query:
    """The images of the student's lowest max p among those of which the teacher is sure; the others only after them.

    The teacher is sure of the share `sure` of the images that it predicts as a class, those of its highest max p: a
    threshold of each class, as class-balanced self-training has it (Zou et al. 2018, arXiv:1810.07911); one for all
    would pass easy classes alone, which is what FlexMatch cures otherwise (Zhang et al. 2021, arXiv:2110.08263). To set
    it against the student's doubt is our own rule, for choosing what to distil.

    Costs a teacher's answer for each of the N candidates. Time N·C + N log N, memory N·C.

    Helps where the teacher's answer is the label: what is asked is mostly answered rightly, and new to the student.
    Hurts where people label: they are sent what the teacher knows and not what it does not. The threshold is relative,
    so of a class that the teacher never gets right it passes the same share.
    """
    return top(teacher_sure_student_unsure_score(pool.teacher_logits, pool.logits, sure), k, pool.ids, rng)
