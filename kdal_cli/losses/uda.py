"""The student's sharpened answer to a weak view of an image, as the soft label of a strong one."""

from torch import Tensor, nn

from kdal_cli.losses._semi import Rate, sure
from kdal_cli.losses._softmax import kl, log_softened
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Positive, Share


def uda_loss(weak_logits: Tensor, strong_logits: Tensor, temperature: float, threshold: float) -> tuple[Tensor, Tensor]:
    """(1[max softmax(z_w) ≥ τ] · KL(softmax(z_w/T) ‖ softmax(z_s)) (B,), nats, who counts (B,) bool), from (B, C) x 2.

    Xie et al. 2020, arXiv:1904.12848: a T below 1 sharpens the target, and the answer itself is not.
    """
    mask, _ = sure(weak_logits.softmax(1), threshold)
    apart = kl(log_softened(weak_logits, temperature), log_softened(strong_logits, 1.0))
    return mask.to(apart) * apart, mask


class Uda(nn.Module):
    """`uda_loss` of the student's answers to a weak and a strong view of each image -> (B,). Needs no teacher.

    The answer to the weak view has no gradient. The paper's annealing of the labels, an option there, is not here.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output | None,
        examples: Examples,
        *,
        sharpening: Positive = 0.4,
        threshold: Share = 0.8,
    ) -> None:
        super().__init__()
        self.sharpening, self.threshold, self.rate = sharpening, threshold, Rate()

    def forward(self, student: Output, teacher: Output | None, batch: Batch, strong: Output) -> Tensor:
        loss, mask = uda_loss(student.logits.detach(), strong.logits, self.sharpening, self.threshold)
        self.rate(mask)
        return loss

    def learned(self) -> dict[str, float]:
        return {"mask": float(self.rate.value)}
