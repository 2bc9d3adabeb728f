"""The teacher's maps in fewer channels, as a paraphraser learned to say them, for the student to translate to."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from kdal_cli.losses._maps import pairs, same_size
from kdal_cli.metrics.directions import unit
from kdal_cli.types import Batch, Examples, Output, Places
from kdal_cli.values import NonNegative, Positive


def ft_loss(student_factor: Tensor, teacher_factor: Tensor) -> Tensor:
    """Mean over m·h·w of |f_s/‖f_s‖ − f_t/‖f_t‖|, an image's factor f being one vector, (B, m, h, w) x 2 -> (B,).

    Kim et al. 2018, arXiv:1802.04977, with p = 1 and the mean of the authors' code. (The CRD benchmark averages the
    squares of the channels first, which is attention transfer of factors.) Factors of unequal size are averaged down
    to the smaller one first. Unchanged when either factor is scaled.
    """
    ours, theirs = same_size(student_factor, teacher_factor)
    return (unit(ours.flatten(1)) - unit(theirs.flatten(1))).abs().mean(1)


class Ft(nn.Module):
    """Factor transfer, summed over the layers -> (B,). In a first stage of the training `first_stage`, then `ft_loss`.

    Kim et al. 2018, arXiv:1802.04977. First a paraphraser, an encoder and a decoder, learns to reconstruct the
    teacher's maps: the mean of (F_t − decoder(encoder(F_t)))², where the authors' code has |…|. Then it stays as it is,
    and a translator of the student's maps learns with the student to say what the encoder says of the teacher's. None
    of these ships. Each is three 3×3 convolutions with LeakyReLU 0.1 and no batch norm, as in the authors' code; the
    decoder's are transposed there, which at stride 1 is the same. Without a first stage the encoder is a random one.

    student, teacher: outputs of any one batch, for the channels. layers, teacher_layers: module paths. rate: channels
    of a factor over those of the teacher's map. first_weight: multiplies `first_stage`, beside the weight of the term.
    """

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        layers: Places = "last",
        teacher_layers: Sequence[str] | None = None,
        rate: Positive = 0.5,
        first_weight: NonNegative = 0.002,
    ) -> None:
        super().__init__()
        self.layers, self.teacher_layers, self.first_weight = layers, teacher_layers, first_weight
        self.encoders, self.decoders, self.translators = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for s, t in pairs(student, teacher, layers, teacher_layers):
            ours, theirs = s.shape[1], t.shape[1]
            factors = max(1, round(rate * theirs))
            self.encoders.append(_coder(theirs, theirs, factors, factors))
            self.decoders.append(_coder(factors, factors, theirs, theirs))
            self.translators.append(_coder(ours, ours, factors, factors))

    def first_stage(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """What the paraphrasers of the teacher's maps minimise, (B,). The student has no part in it."""
        maps = [theirs for _, theirs in pairs(student, teacher, self.layers, self.teacher_layers)]
        coders = zip(maps, self.encoders, self.decoders, strict=True)
        errors = [(decode(encode(theirs)) - theirs).square().mean((1, 2, 3)) for theirs, encode, decode in coders]
        return self.first_weight * torch.stack(errors).sum(0)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        maps = pairs(student, teacher, self.layers, self.teacher_layers)
        coders = zip(maps, self.translators, self.encoders, strict=True)
        factors = [(translate(ours), encode(theirs).detach()) for (ours, theirs), translate, encode in coders]
        return torch.stack([ft_loss(ours, theirs) for ours, theirs in factors]).sum(0)


def _coder(*widths: int) -> nn.Sequential:
    """A 3×3 convolution from each width to the next, with LeakyReLU."""
    steps = [(nn.Conv2d(i, o, 3, padding=1), nn.LeakyReLU(0.1)) for i, o in pairwise(widths)]
    return nn.Sequential(*(module for step in steps for module in step))
