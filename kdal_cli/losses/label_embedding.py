"""The softened answers of a teacher that knows other classes, from the student's features."""

from typing import ClassVar

from torch import Tensor, nn

from kdal_cli.losses.kd import kd_loss
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Positive


class LabelEmbedding(nn.Module):
    """`kd_loss` between the teacher's C_t logits and a linear layer on the student's features, nats -> (B,).

    T² · KL(softmax(z_t/T) ‖ softmax((W f_s + b)/T)), f_s (B, D_s), W (C_t, D_s): soft labels of Hinton et al. 2015,
    arXiv:1503.02531, through a head beside the student's own, as for the old task of Li and Hoiem 2016,
    arXiv:1606.09282. The teacher's classes need not be the student's, in number or in meaning. The layer trains with
    the student and never ships. Not zero when student equals teacher: the layer has yet to learn.

    student, teacher: outputs of any one batch, from which D_s and C_t are read.
    """

    other_classes: ClassVar[bool] = True
    """The teacher's classes may be other than the student's."""

    def __init__(self, student: Output, teacher: Output, examples: Examples, *, temperature: Positive = 4.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.head = nn.Linear(student.features.shape[1], teacher.logits.shape[1])

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return kd_loss(self.head(student.features), teacher.logits, self.temperature)
