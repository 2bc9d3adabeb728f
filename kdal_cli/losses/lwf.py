"""The softened answers of a teacher about the classes that it has learnt, where the student learns others besides."""

from typing import ClassVar

from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.losses.kd import kd_loss
from kdal_cli.network import owner
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Positive


class Lwf(nn.Module):
    """`kd_loss` over the K classes that the teacher has learnt, nats -> (B,). Li and Hoiem 2016, arXiv:1606.09282.

    T² · KL(softmax(z_t[K]/T) ‖ softmax(z_s[K]/T)): a teacher that never saw a class says nothing of it, neither that an
    image is of it nor that it is not. Which these are the teacher knows (`Network.known`): for the student of the round
    before, the classes that it had labels of; for a checkpoint with other classes, those of the same name. One that
    has learnt all of them gives `kd`. The gradient is T² that of the paper's cross-entropy.

    student, teacher: outputs of any one batch, the teacher's with the network that gave it. Raises UserError where
    teacher and student have no class in common.
    """

    other_classes: ClassVar[bool] = True
    """The teacher's classes may be other than the student's."""

    def __init__(self, student: Output, teacher: Output, examples: Examples, *, temperature: Positive = 2.0) -> None:
        super().__init__()
        self.temperature = temperature
        many = min(student.logits.shape[1], teacher.logits.shape[1])
        known = owner(teacher).known
        pairs = dict(zip(range(many), range(many), strict=True)) if known is None else known
        if not pairs:
            cure = "loss=label_embedding, which compares no classes"
            raise UserError("loss.lwf: the teacher has learnt none of the student's classes", cure=cure)
        self.theirs, self.ours = list(pairs), list(pairs.values())

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return kd_loss(student.logits[:, self.ours], teacher.logits[:, self.theirs], self.temperature)
