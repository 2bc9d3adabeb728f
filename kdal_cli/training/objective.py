"""What a student minimises: cross-entropy on the labels, and terms that compare it with the teacher.

    L = w_hard · mean over the labelled part of v_y · CE(z_s, y) + Σ_i w_i · mean of term_i over the part it is `on`

v_y is the weight of a class, 1 unless `class_weights` says otherwise. An image that is mixed with another has both
labels: λ · CE(z_s, y) + (1 − λ) · CE(z_s, y').

The labelled part of a batch comes first (`Batch.labels` has its length), the pool part after it. A training may have a
first stage, of terms alone and without labels, before the main one (FitNets, factor transfer).

Axis letters: B batch, C classes, L labelled part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdal_cli.errors import UserError
from kdal_cli.training.schedules import Schedule, at
from kdal_cli.types import Batch, Other, Output
from kdal_cli.values import NonNegative

Term = Callable[..., Tensor]

ClassWeights = Literal["none", "balanced", "sqrt"]


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
    """One weighted term. `scheduled` are the keyword arguments of the call that change over the training.

    when: in the first stage of the training, in the main one, or in both. standardize: give the term logits of mean 0
    and deviation 1. sample_weight, min_confidence: see `sample_weights`. asks_teacher: whether the term needs one.
    others: the other views of the images that it asks for, as arguments of its call: `strong` and `second`, the
    student's answers to the strongly changed ones, `again`, the pixels of another. others_of: of which images.
    """

    term: Term
    weight: float | Schedule
    on: Literal["labelled", "pool", "both"] = "both"
    scheduled: Mapping[str, Schedule] = field(default_factory=dict)
    when: Literal["first", "main", "both"] = "main"
    standardize: bool = False
    sample_weight: Literal["all", "right", "confidence"] = "all"
    min_confidence: float = 0.0
    asks_teacher: bool = True
    others: tuple[Other, ...] = ()
    others_of: Literal["pool", "both"] = "both"

    @property
    def needs(self) -> Literal["labelled", "pool", "both"]:
        """The images without which it has nothing to say."""
        return "pool" if self.others_of == "pool" else self.on

    @property
    def weighs(self) -> bool:
        """Whether images count differently."""
        return self.sample_weight != "all" or self.min_confidence > 0

    def __call__(
        self, student: Output, teacher: Output | None, batch: Batch, progress: float, *, first: bool = False
    ) -> Tensor:
        """The weighted mean over the images of `batch`, a scalar. first: whether this is the first stage."""
        ours, theirs = student, teacher
        if self.standardize:
            ours, theirs = _standardized(student), _standardized(teacher) if teacher is not None else None
        shown = {"again": batch.again, "strong": ours.strong, "second": ours.second}
        arguments = {key: schedule(progress) for key, schedule in self.scheduled.items()}
        arguments |= {key: shown[key] for key in self.others}
        term = getattr(self.term, "first_stage", self.term) if first else self.term
        value = term(ours, theirs, batch, **arguments)
        if value.shape not in ((), (len(batch.ids),)):
            cure = "one number an image, (B,), or one for the batch, ()"
            raise UserError(f"a term answers {tuple(value.shape)} for {len(batch.ids)} images", where="loss", cure=cure)
        if self.weighs and teacher is not None:
            if value.dim() == 0:
                cure = "sample_weight=all, min_confidence=0: it compares images with each other"
                raise UserError("a relational term has no number for a single image to weigh", where="loss", cure=cure)
            value = value * sample_weights(teacher.logits, batch.labels, self.sample_weight, self.min_confidence)
        return at(self.weight, progress) * value.mean()


class Objective(nn.Module):
    """The weighted sum. Terms that are modules train with the student, apart from it.

    first: the length of the first stage, as a share of the main one; 0 when there is none. places: what is compared
    with what, in words, a line for each term that looks inside the two networks. class_weights: (C,) of cross-entropy.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        hard: float = 1.0,
        parts: Mapping[str, Part] | None = None,
        first: float = 0.0,
        places: Sequence[str] = (),
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.hard, self.first, self.places = hard, first, places
        self.parts = {name: part for name, part in (parts or {}).items() if part.weight != 0}
        self.learned = nn.ModuleDict({n: p.term for n, p in self.parts.items() if isinstance(p.term, nn.Module)})
        self.register_buffer("class_weights", class_weights, persistent=False)
        if not self.hard and not any(part.when != "first" for part in self.parts.values()):
            raise UserError("every weight of the loss is zero", where="loss", cure="there is nothing to learn from")

    @property
    def needs_teacher(self) -> bool:
        return any(part.asks_teacher for part in self.parts.values())

    @property
    def needs_pool(self) -> bool:
        """Whether any term looks at images without a label."""
        return any(part.on != "labelled" for part in self.parts.values())

    @property
    def more(self) -> dict[Other, Literal["pool", "both"]]:
        """Which other views its terms ask for, of the images of the pool or of all."""
        more: dict[Other, Literal["pool", "both"]] = {}
        for part in self.parts.values():
            for other in part.others:
                of_pool = "pool" in (part.on, part.others_of) and more.get(other) != "both"
                more[other] = "pool" if of_pool else "both"
        return more

    def settings(self, progress: float) -> dict[str, float]:
        """What is scheduled, at `progress`, and what terms say of what they have learned: for a log line, by name."""
        values: dict[str, float] = {}
        for name, part in self.parts.items():
            if isinstance(part.weight, Schedule):
                values[f"{name}.weight"] = part.weight(progress)
            values |= {f"{name}.{key}": schedule(progress) for key, schedule in part.scheduled.items()}
            learned = getattr(part.term, "learned", dict)()
            values |= {f"{name}.{key}": value for key, value in learned.items()}
        return values

    def forward(
        self,
        student: Output,
        teacher: Output | None,
        batch: Batch,
        progress: float,
        *,
        first: bool = False,
        smoothing: float = 0.0,
    ) -> dict[str, Tensor]:
        """The weighted parts, scalars in float32 or better, by name; their sum is the loss.

        progress: the share that is done of the stage that the training is in, the first one or the main one. smoothing:
        of the labels.
        """
        student, teacher = student.float(), teacher.float() if teacher is not None else None
        labelled = len(batch.labels)
        losses: dict[str, Tensor] = {}
        if self.hard and labelled and not first:
            logits, weights = student.logits[:labelled], self.class_weights
            ce = cross_entropy(logits, batch.labels, smoothing, weights)
            if batch.mixed is not None:
                other = cross_entropy(logits, batch.mixed.labels, smoothing, weights)
                ce = batch.mixed.share * ce + (1 - batch.mixed.share) * other
            losses["ce"] = self.hard * ce
        for name, part in self.parts.items():
            rows = {"labelled": slice(0, labelled), "pool": slice(labelled, None), "both": slice(None)}[part.on]
            now = part.when in ("both", "first" if first else "main")
            if now and len(batch.ids[rows]) and (teacher is not None or not part.asks_teacher):
                theirs = teacher[rows] if teacher is not None else None
                losses[name] = part(student[rows], theirs, batch[rows], progress, first=first)
        return losses


def cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """The mean of v_y · CE(z, (1 − ε) · y + ε / C), ε being the smoothing: (L, C), (L,), (C,) -> ().

    Divided by the number of images, and not by the sum of their weights as torch does, so that the mean over parts of
    a batch is that of the batch. Smoothing: Szegedy et al. 2016, arXiv:1512.00567.
    """
    if class_weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    each = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")  # (L,)
    return (class_weights[labels] * each).mean()


def class_weights(labels: Tensor, classes: int, kind: ClassWeights) -> Tensor | None:
    """Weights (C,) that fall with the number n_c of images of a class among `labels` (L,); their mean over these is 1.

    balanced: ∝ 1 / n_c, so that all classes count alike; sqrt: ∝ 1 / √n_c, half-way. A class that no label names has 1.
    None with `none`, and without labels.
    """
    if kind == "none" or not len(labels):
        return None
    counts = torch.bincount(labels, minlength=classes).double()  # (C,)
    falling = counts.clamp(min=1) ** (-1.0 if kind == "balanced" else -0.5)
    falling *= len(labels) / max(float((counts * falling).sum()), 1.0)
    return torch.where(counts > 0, falling, 1.0).float()


def standardized(logits: Tensor) -> Tensor:
    """(z − mean) / (std + 1e-7) over the classes, std unbiased, (B, C) -> (B, C). Sun et al. 2024, arXiv:2403.01427.

    Unchanged under z → a·z + b, a > 0, but for the 1e-7. Where all logits are equal, up to the rounding of their mean,
    it is 0, with a gradient of 0.
    """
    apart = logits - logits.mean(1, keepdim=True)  # (B, C)
    square = apart.square().sum(1, keepdim=True) / (logits.shape[1] - 1)  # (B, 1)
    rounding = 8 * torch.finfo(logits.dtype).eps * logits.abs().amax(1, keepdim=True)  # (B, 1)
    varies = square > rounding.square()
    return torch.where(varies, apart / (torch.where(varies, square, 1.0).sqrt() + 1e-7), 0.0)


def _standardized(output: Output) -> Output:
    others = {"strong": output.strong, "second": output.second}
    views = {name: _standardized(other) for name, other in others.items() if other is not None}
    return replace(output, logits=standardized(output.logits), **views)


def sample_weights(
    teacher_logits: Tensor, labels: Tensor, kind: Literal["all", "right", "confidence"], min_confidence: float = 0.0
) -> Tensor:
    """How much each image counts, (B, C) and (L,) -> (B,), from the teacher's answers to the unlabelled rest as well.

    right: 0 where the teacher's first choice is not the label, 1 elsewhere and where there is no label. confidence: the
    teacher's largest probability. all: 1. Then 0 where that probability is below `min_confidence`. The mean that
    follows divides by B all the same, so that an image without weight counts as one without loss.
    """
    confidence, choice = teacher_logits.softmax(1).max(1)  # (B,), (B,)
    weights = confidence if kind == "confidence" else torch.ones_like(confidence)
    if kind == "right":
        labelled = torch.arange(len(choice), device=choice.device) < len(labels)
        truth = F.pad(labels, (0, len(choice) - len(labels)))
        weights = torch.where(labelled & (choice != truth), 0.0, weights)
    return torch.where(confidence < min_confidence, 0.0, weights)
