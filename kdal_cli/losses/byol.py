"""The direction of the teacher's features, predicted from the student's."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Count


def byol_loss(predicted: Tensor, teacher: Tensor) -> Tensor:
    """‖p/‖p‖ − t/‖t‖‖² = 2 − 2 cos(p, t), (B, D) x 2 -> (B,). Grill et al. 2020, arXiv:2006.07733, eq. 2.

    From 0 to 4, unchanged when either side is scaled.
    """
    return (F.normalize(predicted, dim=1) - F.normalize(teacher, dim=1)).square().sum(1)


class Byol(nn.Module):
    """`byol_loss` between a prediction from the student's features and the teacher's features -> (B,).

    The predictor is the paper's, linear, bn, ReLU, linear with `hidden` units; it is trained with the student and never
    ships. The target is a teacher that stands still, so there is no moving average and no projection of it, and without
    these nothing can collapse.

    student, teacher: outputs of any one batch, for the width of their features.
    """

    def __init__(self, student: Output, teacher: Output, examples: Examples, *, hidden: Count = 4096) -> None:
        super().__init__()
        self.predictor = nn.Sequential(
            nn.Linear(student.features.shape[1], hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, teacher.features.shape[1]),
        )

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return byol_loss(self.predictor(student.features), teacher.features)
