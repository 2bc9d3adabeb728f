"""Softened distributions, shared by the terms that compare logits."""

import torch
import torch.nn.functional as F
from torch import Tensor


def log_softened(logits: Tensor, temperature: float) -> Tensor:
    """log softmax(z/T), (B, C) -> (B, C)."""
    return F.log_softmax(logits / temperature, dim=1)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ p (log p − log q), nats, from log-probabilities (B, C) -> (B,). A class with p = 0 adds nothing."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def one_against_rest(logits: Tensor, choice: Tensor, temperature: float) -> Tensor:
    """log [q_k, 1 − q_k] with q = softmax(z/T), for the class k that `choice` names, (B, C) and (B,) -> (B, 2)."""
    log_q = log_softened(logits, temperature)  # (B, C)
    chosen = choice[:, None]  # (B, 1)
    rest = log_q.scatter(1, chosen, -torch.inf).logsumexp(1, keepdim=True)  # (B, 1)
    return torch.cat([log_q.gather(1, chosen), rest], 1)
