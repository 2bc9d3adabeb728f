"""Which image is it? The embedding of one network, told apart among embeddings that the other network had before."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Count, Positive, Share


def crd_loss(scores: Tensor, log_z: Tensor, images: int) -> Tensor:
    """−log h_0 − Σ_k log(1 − h_k) with h = e / (e + K/N), e = exp(score) / Z, (…, B, 1 + K) -> (…, B), nats.

    The first score is with the image's own embedding, the K others are with those of other images, of `images` = N.
    """
    odds = scores - log_z - math.log((scores.shape[-1] - 1) / images)  # log h / (1 − h)
    return -F.logsigmoid(odds[..., 0]) - F.logsigmoid(-odds[..., 1:]).sum(-1)


class Crd(nn.Module):
    """Contrastive representation distillation: `crd_loss` of the student's embeddings plus that of the teacher's, (B,).

    Tian et al. 2020, arXiv:1910.10699. An embedding is linear in the features, of `dimensions` numbers and length 1. A
    score is its product with an embedding in the memory of the other network, over `tau`. A call in training mode then
    moves the memory m of the images it saw to normalise(momentum · m + (1 − momentum) · embedding), the mean embedding
    where an image is in the batch twice. In eval mode nothing changes.

    Each call draws `negatives` for each image, uniformly and with replacement from the images of other classes; an
    image without label is a class of its own. There are at most as many as there are other images.

    As in the authors' code, an image's own score is with its memory and not with this step's answer of the other
    network, and Z, which the paper has not, is N times the mean of exp(score) over the first batch: constant from then
    on, without a gradient. The code besides adds 1e-7 to h's denominator and draws without replacement where it can.

    student, teacher: outputs of any one batch, for the width of their features. examples: the images to remember.
    Raises UserError when these are all of one class: there is nothing to tell them from.
    """

    memory: Tensor
    log_z: Tensor
    known: Tensor
    rows: Tensor
    block: Tensor
    size: Tensor

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        dimensions: Count = 128,
        negatives: Count = 16384,
        tau: Positive = 0.07,
        momentum: Share = 0.5,
    ) -> None:
        super().__init__()
        known, rows, block, size = rows_by_class(examples)
        self.images = len(known)
        if size.max() == self.images:
            raise UserError("crd needs images of two classes", where="labels", cure="label more, or another loss")
        self.negatives, self.tau, self.momentum = min(negatives, self.images - 1), tau, momentum
        self.embeds = nn.ModuleList(nn.Linear(o.features.shape[1], dimensions) for o in (student, teacher))
        edge = math.sqrt(3 / dimensions)  # uniform up to here, the squared length is 1 on average
        # (2, N, d): embeddings of the teacher, which the student's are compared with; then of the student.
        self.register_buffer("memory", torch.empty(2, self.images, dimensions).uniform_(-edge, edge))
        self.register_buffer("log_z", torch.full((2, 1, 1), -math.inf))  # until the first batch
        for name, value in (("known", known), ("rows", rows), ("block", block), ("size", size)):
            self.register_buffer(name, value, persistent=False)  # these follow from the examples

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        features = zip(self.embeds, (student.features, teacher.features), strict=True)
        embeds = torch.stack([F.normalize(embed(x), dim=1) for embed, x in features])  # (2, B, d)
        rows = self.rows[torch.searchsorted(self.known, batch.ids)]  # (B,)
        among = torch.cat([rows[:, None], self.draw(rows)], 1)  # (B, 1 + K)
        scores = embeds @ self.memory.mT / self.tau  # (2, B, N)
        scores = scores.gather(2, among.expand(2, -1, -1))  # (2, B, 1 + K)
        log_z = torch.where(self.log_z.isfinite(), self.log_z, log_mean(scores.detach()) + math.log(self.images))
        if self.training:
            self.log_z, self.memory = log_z, self.moved(embeds.detach(), rows)
        return crd_loss(scores, log_z, self.images).sum(0)  # (2, B) -> (B,)

    def draw(self, rows: Tensor) -> Tensor:
        """Rows of other classes than these have, (B,) -> (B, K), by torch's own generator of the device."""
        block, size = self.block[rows, None], self.size[rows, None]  # (B, 1), of their classes
        # The remainder of 62 random bits is uniform but for N / 2^62.
        drawn = torch.randint(2**62, (len(rows), self.negatives), device=rows.device) % (self.images - size)  # (B, K)
        return drawn + size * (drawn >= block)

    def moved(self, embeds: Tensor, rows: Tensor) -> Tensor:
        """The memory after a batch (2, B, d), a new tensor: autograd still needs the old one."""
        same = (rows[:, None] == rows).to(embeds)  # (B, B)
        mean = (same / same.sum(1, keepdim=True)) @ embeds.flip(0)  # (2, B, d), first the teacher's
        new = F.normalize(self.momentum * self.memory[:, rows] + (1 - self.momentum) * mean, dim=2)
        # A row that is written twice is written with the same bits, so that their order does not matter.
        return self.memory.index_copy(1, rows, new[:, same.argmax(1)])


def log_mean(scores: Tensor) -> Tensor:
    """log of the mean of exp(score), (2, B, 1 + K) -> (2, 1, 1)."""
    return scores.logsumexp((1, 2), keepdim=True) - math.log(scores[0].numel())


def rows_by_class(examples: Examples) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where to remember N distinct images so that a class is a block of rows: four tensors (N,).

    Their ids in order and the row of each; then, for each row, the first row of its class, and its size.
    """
    known, places = examples.ids.unique(return_inverse=True)
    classes = -1 - torch.arange(len(known), device=known.device)  # without label, a class of its own
    classes[places[: len(examples.labels)]] = examples.labels
    classes, order = classes.sort(stable=True)
    counts = classes.unique_consecutive(return_counts=True)[1]  # (classes,)
    block = (counts.cumsum(0) - counts).repeat_interleave(counts)
    return known, order.argsort(), block, counts.repeat_interleave(counts)
