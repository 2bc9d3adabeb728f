"""How hard each part of a loss pulls at the weights, beside cross-entropy."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kdal_cli.network import Network


def gradient_norms(parts: Mapping[str, Tensor], student: Network) -> dict[str, Tensor]:
    """‖∂part/∂w‖₂ over the weights of the student, for each weighted part that it hangs on, when there are several."""
    weights = [p for p in student.parameters() if p.requires_grad]
    norms: dict[str, Tensor] = {}
    for name, part in parts.items() if len(parts) > 1 else ():
        if not part.requires_grad:  # it looks at what does not learn
            continue
        gradients = torch.autograd.grad(part, weights, retain_graph=True, allow_unused=True)
        if found := [gradient.flatten() for gradient in gradients if gradient is not None]:
            norms[name] = torch.cat(found).norm()
    return norms


def ratios(norms: Mapping[str, Tensor]) -> dict[str, float]:
    """The gradient norm of each part over that of cross-entropy: where it is far above 1 the labels are drowned."""
    ce = norms.get("ce")
    return {} if ce is None else {f"{name}.grad_ratio": float(n / ce) for name, n in norms.items() if name != "ce"}
