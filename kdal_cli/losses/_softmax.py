"""Softened distributions, shared by the terms that compare logits."""

import torch.nn.functional as F
from torch import Tensor


def log_softened(logits: Tensor, temperature: float) -> Tensor:
    """log softmax(z/T), (B, C) -> (B, C)."""
    return F.log_softmax(logits / temperature, dim=1)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ p (log p − log q), nats, from log-probabilities (B, C) -> (B,). A class with p = 0 adds nothing."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
