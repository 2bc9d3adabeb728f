"""Classes of the images without a label, and which labelled images they are like: two answers that have to agree.

Axis letters: B batch, L its labelled part, M labelled images, U those without a label, C classes, E entries of an
embedding.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from kdal_cli.losses._semi import Embedding, Rate, Window, balanced, soft_ce, sure
from kdal_cli.types import Batch, Examples, Output
from kdal_cli.values import Count, NonNegative, Positive, Share


def unfolded(near: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
    """t_j · p[label of j], rows then summing to 1: which images it is like, by its class. Zheng et al. 2022, eq. 8.

    near: t, how like each labelled image, (U, M), rows summing to 1. probs: (U, C). labels: (M,). -> (U, M)
    """
    agreed = near * probs[:, labels]
    return agreed / agreed.sum(1, keepdim=True).clamp(min=torch.finfo(agreed.dtype).tiny)


def aggregated(near: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Σ of t_j over the images j of each class: (U, M) and (M,) -> (U, C)."""
    return near.new_zeros(len(near), classes).index_add_(1, labels, near)


def instance_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """−Σ_j t_j log softmax(s)_j, nats, (U, M) x 2 -> (U,). Images that logits of −∞ leave out have a target of 0."""
    log_probs = logits.log_softmax(1)
    return -(targets * torch.where(logits > -torch.inf, log_probs, 0.0)).sum(1)


class Simmatch(nn.Module):
    """Mean of 1[max p ≥ threshold] · (−Σ p log q_strong), plus `instances` times the mean of `instance_loss` -> ().

    Zheng et al. 2022, arXiv:2203.06915. A memory holds an embedding of each labelled image. t: how like these the weak
    view is, softmax(e · kᵀ / τ); the strong view's similarities are to match it, `unfolded` by the class. p: the answer
    to the weak view, divided by the mean of those of the last `WINDOW` steps, is mixed with `aggregated` t, of which
    1 − `smoothing`. As in the paper for small data sets the student itself gives the targets and an embedding in the
    memory is a mean over its visits, of which `momentum` is left. Of images that were not seen yet there is none.
    """

    WINDOW = 256
    others_of: Literal["pool"] = "pool"
    keys: Tensor
    seen: Tensor
    ids: Tensor
    labels: Tensor

    def __init__(
        self,
        student: Output,
        teacher: Output | None,
        examples: Examples,
        *,
        threshold: Share = 0.95,
        instances: NonNegative = 1.0,
        tau: Positive = 0.1,
        smoothing: Share = 0.9,
        momentum: Share = 0.7,
        dimensions: Count = 128,
    ) -> None:
        super().__init__()
        self.threshold, self.instances, self.tau, self.smoothing = threshold, instances, tau, smoothing
        self.momentum = momentum
        self.embedding = Embedding(student.features.shape[1], dimensions)
        self.mean, self.rate = Window(self.WINDOW, student.logits.shape[1]), Rate()
        order = examples.labelled_ids.argsort()
        self.register_buffer("ids", examples.labelled_ids[order], persistent=False)
        self.register_buffer("labels", examples.labels[order], persistent=False)
        self.register_buffer("keys", torch.zeros(len(order), dimensions))
        self.register_buffer("seen", torch.zeros(len(order), dtype=torch.bool))

    def forward(self, student: Output, teacher: Output | None, batch: Batch, strong: Output) -> Tensor:
        unlabelled = len(strong.logits)  # the last ones
        with torch.no_grad():
            embedded, ready = self.embedding(student.features), self.seen.any()  # (B, E), ()
            weak = student.logits[-unlabelled:].softmax(1)  # (U, C)
            first = balanced(weak, self.mean(weak.mean(0)).to(weak))
            near = self._like(embedded[-unlabelled:]).softmax(1)  # (U, M)
            classes = aggregated(near, self.labels, first.shape[1])  # (U, C)
            probs = torch.where(ready, self.smoothing * first + (1 - self.smoothing) * classes, first)
            target = unfolded(near, first, self.labels) * ready
            mask, _ = sure(probs, self.threshold)
        self.rate(mask)
        apart = instance_loss(self._like(self.embedding(strong.features)), target)
        self._remember(batch.ids[: len(batch.labels)], embedded[: len(batch.labels)])
        return (soft_ce(strong.logits, probs, mask) + self.instances * apart).mean()

    def learned(self) -> dict[str, float]:
        return {"mask": float(self.rate.value)}

    def _like(self, embedded: Tensor) -> Tensor:
        """(U, E) -> (U, M): similarities to the memory over τ, −∞ to images not seen yet, unless none was."""
        unseen = ~self.seen & self.seen.any()
        return (embedded @ self.keys.to(embedded).T / self.tau).masked_fill(unseen, -torch.inf)

    @torch.no_grad()
    def _remember(self, ids: Tensor, embedded: Tensor) -> None:
        """Move the memory of labelled images (L,) to their embeddings (L, E). In training alone."""
        if not self.training or not len(ids):
            return
        rows = torch.searchsorted(self.ids, ids)
        held, new = self.keys[rows], embedded.to(self.keys)
        mixed = self.momentum * held + (1 - self.momentum) * new
        self.keys = self.keys.index_put((rows,), torch.where(self.seen[rows, None], mixed, new))
        self.seen = self.seen.index_fill(0, rows, True)
