"""Fisher information of the last layer, and what it is worth to add an image to it.

n images, C classes, D features; z the features of an image, H its curvature, I the identity of C.
"""

from typing import Literal

import torch
from torch import Tensor

CHUNK = 1024
"""Images whose features are multiplied by matrices of all parameters at a time."""

Fisher = Literal["full", "binary"]


def curvature(logits: Tensor, fisher: Fisher) -> Tensor:
    """H, so that the Fisher information of an image is H ⊗ z zᵀ, (n, C) -> (n, C, C), or (n, 1, 1) of the binary one.

    diag(p) − p pᵀ of all classes; p̂ (1 − p̂), p̂ = max p, of whether the likeliest class is right.
    """
    probs = logits.double().softmax(1)  # (n, C)
    if fisher == "binary":
        likeliest = probs.argmax(1, keepdim=True)
        return (probs.amax(1) * probs.scatter(1, likeliest, 0).sum(1))[:, None, None]
    return probs.diag_embed() - probs[:, :, None] * probs[:, None, :]


def information(curves: Tensor, features: Tensor) -> Tensor:
    """Σ H ⊗ z zᵀ, (n, C, C), (n, D) -> (C·D, C·D)."""
    classes, width = curves.shape[1], features.shape[1]
    total = curves.new_zeros(classes, width, classes * width)
    for h, z in zip(curves.split(CHUNK), features.split(CHUNK), strict=True):
        for c in range(classes):
            total[c] += z.T @ (h[:, c, :, None] * z[:, None, :]).flatten(1)
    return total.flatten(0, 1)


def seen(matrix: Tensor, features: Tensor) -> Tensor:
    """(I ⊗ zᵀ) matrix (I ⊗ z) for each z, (C·D, C·D), (n, D) -> (n, C, C)."""
    blocks = matrix.view(-1, features.shape[1], len(matrix)).unbind()  # C of (D, C·D)
    parts = []
    for z in features.split(CHUNK):
        rows = [((z @ block).view(len(z), len(blocks), -1) @ z[:, :, None])[:, :, 0] for block in blocks]  # C of (n, C)
        parts.append(torch.stack(rows, 1))
    return torch.cat(parts)


class Design:
    """A = J⁻¹ and B = J⁻¹ F̄ J⁻¹, and what n images see of each through their features: (I ⊗ zᵀ) A (I ⊗ z), (n, C, C).

    Adding H ⊗ z zᵀ to J lowers tr(J⁻¹F̄) by tr(S·seen B) with S = (I + H·seen A)⁻¹ H, by Woodbury's identity, and
    changes A, B and what is seen of them by products with matrices of C columns. precision, target: J and F̄, both
    (C·D, C·D). curves: H of each image, (n, C, C).
    """

    def __init__(self, precision: Tensor, target: Tensor, curves: Tensor, features: Tensor) -> None:
        self.curves, self.features = curves, features
        self.a = torch.linalg.inv(precision)
        self.b = self.a @ target @ self.a
        self.seen_a, self.seen_b = seen(self.a, features), seen(self.b, features)

    def gain(self, sign: int) -> Tensor:
        """By how much tr(J⁻¹F̄) falls when an image is added, or with sign −1 taken away, (n,)."""
        return (self._s(slice(None), sign) * self.seen_b).sum((1, 2))

    def change(self, row: int, sign: int) -> None:
        """Adds an image to J, or with sign −1 takes it away."""
        s, q, z = self._s(row, sign), self.seen_b[row], self.features[row]
        shape = (len(s), len(z), len(s))  # (C, D, C)
        g, e = (x.unflatten(1, shape[:2]) @ z for x in (self.a, self.b))  # (C·D, C) A (I ⊗ z) and B (I ⊗ z)
        g_seen, e_seen = (torch.einsum("nd,cdk->nck", self.features, x.view(shape)) for x in (g, e))  # (n, C, C)
        _lower(self.a[None], self.b[None], g[None], e[None], s, q)
        _lower(self.seen_a, self.seen_b, g_seen, e_seen, s, q)

    def _s(self, rows: int | slice, sign: int) -> Tensor:
        """S of some images, (n, C, C)."""
        h = sign * self.curves[rows]
        return torch.linalg.solve(torch.eye(h.shape[-1]).to(h) + h @ self.seen_a[rows], h)


def _lower(a: Tensor, b: Tensor, g: Tensor, e: Tensor, s: Tensor, q: Tensor) -> None:
    """A − G S Gᵀ and B − G S Eᵀ − E S Gᵀ + G S Q S Gᵀ, in place, S and Q symmetric."""
    gs = g @ s
    half = e - gs @ q / 2
    a.baddbmm_(gs, g.mT, alpha=-1)
    b.baddbmm_(torch.cat([gs, half], 2), torch.cat([half, gs], 2).mT, alpha=-1)
