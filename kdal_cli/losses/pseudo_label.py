"""A student that takes its own sure answers for labels."""

from torch import Tensor, nn

from kdal_cli.losses._semi import Rate, masked_ce, sure
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Share


class PseudoLabel(nn.Module):
    """1[max q ≥ threshold] · CE(z, argmax q), nats, (B,), q = softmax(z) without a gradient. Needs no teacher.

    Lee 2013 (ICML workshop), which has no threshold (0) and lets the weight rise; one view of each image is enough.
    """

    def __init__(self, student: Output, teacher: Output | None, examples: Examples, *, threshold: Share = 0.95) -> None:
        super().__init__()
        self.threshold, self.rate = threshold, Rate()

    def forward(self, student: Output, teacher: Output | None, batch: Batch) -> Tensor:
        mask, choice = sure(student.logits.detach().softmax(1), self.threshold)
        self.rate(mask)
        return masked_ce(student.logits, choice, mask)

    def learned(self) -> dict[str, float]:
        return {"mask": float(self.rate.value)}
