"""Which two views are of the same image? Told apart among all views of the batch."""

from torch import Tensor, nn

from kdal_cli.losses.nt_xent import nt_xent_loss
from kdal_cli.methods._projector import projector
from kdal_cli.network import twice
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Count, Positive


class Simclr(nn.Module):
    """NT-Xent, `losses.nt_xent.nt_xent_loss`, between projections of two views of each image -> (B,).

    Chen et al. 2020, arXiv:2002.05709: a projector with a hidden layer. Large batches help: the other images of the
    batch are all that an image is told from.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output | None,
        examples: Examples,
        *,
        hidden: Count = 256,
        dimensions: Count = 128,
        tau: Positive = 0.5,
    ) -> None:
        super().__init__()
        self.tau, self.projector = tau, projector(student.features.shape[1], hidden, dimensions)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, again: Tensor) -> Tensor:
        one, two = (self.projector(features) for features in twice(student, again))
        return nt_xent_loss(one, two, self.tau)
