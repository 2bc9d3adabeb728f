"""How far student and teacher are apart, image by image, and whether neighbours in the batch are so alike."""

from torch import Tensor, nn

from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Count


def cc_loss(student_embeds: Tensor, teacher_embeds: Tensor) -> Tensor:
    """Mean over b < B of Σ_d δ_b,d · δ_b+1,d with δ = |e_s − e_t|, (B, d) x 2 -> (). The last image has no neighbour.

    0 for one image. Peng et al. 2019, arXiv:1904.01802, but for the formula: this is what the authors' code does, as
    the CRD benchmark shows it, and the paper's is a distance between two matrices of kernels.
    """
    apart = (student_embeds - teacher_embeds).abs()  # (B, d)
    products = (apart[:-1] * apart[1:]).sum(1)  # (B - 1,)
    return products.sum() / max(len(products), 1)


class Cc(nn.Module):
    """Correlation congruence between linear embeddings of the features -> (). Relational; see `cc_loss`.

    Both embeddings, of `width` numbers, are trained with the student and never ship. So is the teacher's, as in the
    authors' code: nothing but the labels keeps the two from becoming one constant. The order of the batch counts.

    student, teacher: outputs of any one batch, for the widths of their features.
    """

    def __init__(self, student: Output, teacher: Output, examples: Examples, *, width: Count = 128) -> None:
        super().__init__()
        self.student_embed = nn.Linear(student.features.shape[1], width)
        self.teacher_embed = nn.Linear(teacher.features.shape[1], width)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return cc_loss(self.student_embed(student.features), self.teacher_embed(teacher.features))
