"""The teacher's classifier, kept, and the teacher's last map, learned."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.losses._maps import pairs, same_size
from kdal_cli.types import Batch, Examples, Output, Places


def simkd_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean of (F_s − F_t)² over channels and places, at the smaller of both sizes, (B, D, h, w) x 2 -> (B,)."""
    ours, theirs = same_size(student_map, teacher_map)
    return (ours - theirs).square().mean((1, 2, 3))


class Simkd(nn.Module):
    """Distillation with the reused teacher classifier: `simkd_loss` of the student's projected map -> (B,).

    Chen et al. 2022, arXiv:2203.14001; there is no cross-entropy. When the term is made, the student's classifier
    becomes a copy of the teacher's, weight and bias, and learns no more. Where the student's map is the larger one, the
    authors' code averages it down before the projector and this after it: the student does not know its teacher's size.

    student: the answer of a network whose body is a `simkd` of kdal_cli/models. teacher: of one whose map at
    `teacher_layers` becomes its features by global average pooling. Raises UserError for others.
    """

    student = "simkd"
    """The architecture that is put around the student's own."""

    def __init__(
        self,
        student: Output,
        teacher: Output,
        examples: Examples,
        *,
        layers: Places = "last",
        teacher_layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.teacher_layers = layers, teacher_layers
        body = getattr(student.model, "body", None)
        if not isinstance(getattr(body, "projector", None), nn.Module):
            cure = "student=simkd, with this student as its backbone"
            raise UserError("the loss simkd needs a student that ends as its teacher does", where="student", cure=cure)
        for _, theirs in pairs(student, teacher, layers, teacher_layers):
            if not _averages_to(theirs, teacher.features):
                cure = "name what its global pooling averages, as relu in a wrn"
                where = f"teacher_layers={teacher_layers}"
                raise UserError("this map of the teacher does not become its features", where=where, cure=cure)
        _reuse(_classifier(student), _classifier(teacher))

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        maps = pairs(student, teacher, self.layers, self.teacher_layers)
        return torch.stack([simkd_loss(ours, theirs) for ours, theirs in maps]).sum(0)


def _averages_to(maps: Tensor, features: Tensor) -> bool:
    means = maps.mean((2, 3))  # (B, c)
    return means.shape == features.shape and torch.allclose(means, features, rtol=1e-3, atol=1e-4)


def _classifier(output: Output) -> nn.Linear:
    """The last linear layer of the network that answered, a kdal_cli.network.Network."""
    body = getattr(output.model, "body", nn.Identity())
    return [module for module in body.modules() if isinstance(module, nn.Linear)][-1]


def _reuse(ours: nn.Linear, theirs: nn.Linear) -> None:
    """Copy weight (C, D) and bias (C,), and freeze them."""
    if ours.in_features != theirs.in_features:
        what = f"the teacher has {theirs.in_features} features and the student's projector {ours.in_features}"
        raise UserError(what, cure=f"student.features={theirs.in_features}")
    with torch.no_grad():
        ours.weight.copy_(theirs.weight)
        ours.bias.copy_(torch.zeros_like(ours.bias) if theirs.bias is None else theirs.bias)
    ours.requires_grad_(False)
