"""What a student minimises: cross-entropy on the labels, and terms that compare it with the teacher.

    L = w_hard · mean over the labelled part of CE(z_s, y) + Σ_i w_i · mean of term_i over the part it is `on`

The labelled part of a batch comes first (`Batch.labels` has its length), the pool part after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.schedules import Schedule, at
from kdal_cli.types import Batch, Output
from kdal_cli.values import NonNegative

Term = Callable[..., Tensor]


@dataclass(frozen=True)
class Weighting:
    """How one number, `alpha`, is shared between the labels (hard) and the teacher's answers (soft).

    | form     | alpha_on | w_hard    | w_soft    |
    | convex   | soft     | 1 − alpha | alpha     |
    | convex   | hard     | alpha     | 1 − alpha |
    | additive | soft     | 1         | alpha     |
    | additive | hard     | alpha     | 1         |
    """

    form: Literal["convex", "additive"] = "convex"
    alpha: NonNegative = 0.9
    alpha_on: Literal["soft", "hard"] = "soft"

    def resolve(self) -> tuple[float, float]:
        """(w_hard, w_soft). Raises UserError for a convex alpha above 1."""
        if self.form == "convex" and self.alpha > 1:
            raise UserError(
                f"loss.weighting.alpha={self.alpha:g}", cure="a convex alpha is from 0 to 1; or form=additive"
            )
        other = 1 - self.alpha if self.form == "convex" else 1.0
        return (other, self.alpha) if self.alpha_on == "soft" else (self.alpha, other)


@dataclass(frozen=True)
class Part:
    """One weighted term. `scheduled` are the keyword arguments of the call that change over the training."""

    term: Term
    weight: float | Schedule
    on: Literal["labelled", "pool", "both"] = "both"
    scheduled: Mapping[str, Schedule] = field(default_factory=dict)


class Objective(nn.Module):
    """The weighted sum. Terms that are modules train with the student, apart from it."""

    def __init__(self, hard: float = 1.0, parts: Mapping[str, Part] | None = None) -> None:
        super().__init__()
        self.hard = hard
        self.parts = {name: part for name, part in (parts or {}).items() if part.weight != 0}
        self.learned = nn.ModuleDict({n: p.term for n, p in self.parts.items() if isinstance(p.term, nn.Module)})
        if not self.hard and not self.parts:
            raise UserError("every weight of the loss is zero", where="loss", cure="there is nothing to learn from")

    @property
    def needs_teacher(self) -> bool:
        return bool(self.parts)

    @property
    def needs_pool(self) -> bool:
        """Whether any term looks at images without a label."""
        return any(part.on != "labelled" for part in self.parts.values())

    def settings(self, progress: float) -> dict[str, float]:
        """What is scheduled, at `progress`, by name: weights and arguments that a log line has to show."""
        values: dict[str, float] = {}
        for name, part in self.parts.items():
            if isinstance(part.weight, Schedule):
                values[f"{name}.weight"] = part.weight(progress)
            values |= {f"{name}.{key}": schedule(progress) for key, schedule in part.scheduled.items()}
        return values

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The weighted parts, scalars in float32 or better, by name; their sum is the loss."""
        student = student.float()
        labelled = len(batch.labels)
        losses: dict[str, Tensor] = {}
        if self.hard and labelled:
            losses["ce"] = self.hard * F.cross_entropy(student.logits[:labelled], batch.labels)
        if teacher is not None:
            teacher = teacher.float()
            for name, part in self.parts.items():
                rows = {"labelled": slice(0, labelled), "pool": slice(labelled, None), "both": slice(None)}[part.on]
                if len(batch.ids[rows]) == 0:
                    continue
                arguments = {key: schedule(progress) for key, schedule in part.scheduled.items()}
                value = part.term(student[rows], teacher[rows], batch[rows], **arguments)
                losses[name] = at(part.weight, progress) * value.mean()
        return losses
