"""Projections that correlate one by one between two views, and no two of which say the same."""

from torch import Tensor, nn

from kdal_cli.losses.barlow_twins import barlow_twins_loss
from kdal_cli.methods._projector import projector
from kdal_cli.network import twice
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Count, NonNegative


class BarlowTwins(nn.Module):
    """`losses.barlow_twins.barlow_twins_loss` between projections of two views of each image -> ().

    Zbontar et al. 2021, arXiv:2103.03230: a projector of three layers; it gains from wide ones, to 8,192.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output | None,
        examples: Examples,
        *,
        hidden: Count = 512,
        dimensions: Count = 512,
        off_diagonal: NonNegative = 0.005,
    ) -> None:
        super().__init__()
        self.off_diagonal = off_diagonal
        self.projector = projector(student.features.shape[1], hidden, dimensions, layers=3)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, again: Tensor) -> Tensor:
        one, two = (self.projector(features) for features in twice(student, again))
        return barlow_twins_loss(one, two, self.off_diagonal)
