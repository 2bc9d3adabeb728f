"""What a sampler may look at: lazy, computed when first read and then kept for the round.

Axis letters: N pool, M labelled, V validation, C classes, D features, K draws. Every tensor is float32 on one device,
in eval mode, without augmentation; rows of the pool follow `ids`, rows of the labelled part follow `labelled_ids`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Generator, Tensor

from kdal_cli.errors import MachineError, UserError
from kdal_cli.inference.embedding import embedding, vectors
from kdal_cli.inference.tables import BLOCK, Tables
from kdal_cli.types import Query

SPACES = ("features", "teacher", "probabilities", "pixels")

Space = str
"""Where distances are measured: `features` of the scorer, features of the `teacher`, `probabilities` of the scorer,
`pixels` from 0 to 1, a run of `kdal pretrain`, or a file with one row an image of the data set, `.npy` or
`.safetensors`."""

Part = Literal["pool", "labelled", "validation"]
Who = Literal["scorer", "teacher"]


class Scorer(Protocol):
    """A model that can look at images by id."""

    def logits(self, ids: Tensor) -> Tensor:
        """(N, C)"""
        ...

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (N, C), features (N, D)) from one pass."""
        ...

    def draws(self, ids: Tensor, count: int, rng: Generator) -> Iterator[Tensor]:
        """`count` logits (N, C), each under another dropout mask, batch-norm in eval; or one of each member."""
        ...

    def classify(self, features: Tensor) -> Tensor:
        """What the classifier, the last layer alone, answers to features: (n, D) -> (n, C)."""
        ...


@dataclass
class Meter:
    """What looking cost: {view: (seconds, MB held at most so far)}. finish: waits for the device; peak: in MB."""

    finish: Callable[[], None] = lambda: None
    peak: Callable[[], float] = lambda: 0.0
    views: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return sum(seconds for seconds, _ in self.views.values())

    @contextmanager
    def measure(self, view: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.finish()
        before, _ = self.views.get(view, (0.0, 0.0))
        self.views[view] = before + time.perf_counter() - started, self.peak()


@dataclass(frozen=True)
class Evidence:
    """The pool as a sampler sees it.

    ids: (N,) of the candidates. labelled_ids, labels: (M,) what has been paid for; validation_ids, validation_labels:
    (V,) the same for validation. scorer: whose logits and features are shown. teacher: the teacher, or None when there
    is none. past: the students of up to so many rounds before the scorer's, oldest first. images: pixels by id,
    (n, c, H, W) uint8. known: how many images the data set has, the rows of an embedding. other_classes: why the
    teacher's classes are not these, so that only its features may be looked at; None where they are. answers: makes
    (M, A) int64, what each annotator says of the labelled images, -1 where nothing; None where nobody can be asked
    again. stands_for: of how many candidates these few are an example, when a sampler is tried before anything is
    spent; 0 when it chooses. tables: where rows that are read or made for a space are held.
    """

    ids: Tensor
    labelled_ids: Tensor
    labels: Tensor
    classes: int
    scorer: Scorer
    teacher: Scorer | None = None
    validation_ids: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    validation_labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    past: Callable[[int], Iterator[Scorer]] = lambda rounds: iter(())
    images: Callable[[Tensor], Tensor] | None = None
    known: int = 0
    other_classes: str | None = None
    answers: Callable[[], Tensor] | None = None
    stands_for: int = 0
    tables: Tables = field(default_factory=Tables)
    meter: Meter = field(default_factory=Meter)
    whole: "tuple[Evidence, Tensor] | None" = None
    _kept: dict[tuple[Who, Part], tuple[Tensor, Tensor | None]] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """How many candidates there are, or will be: what decides whether a sampler takes so many."""
        return max(len(self), self.stands_for)

    def take(self, rows: Tensor) -> "Evidence":
        """Some of the pool, `rows` (n,), that shares everything computed for the whole of it, now or later."""
        share = self.stands_for * len(rows) // max(1, len(self))
        return replace(self, ids=self.ids[rows.cpu()], whole=(self, rows), answers=None, stands_for=share)

    def asked(self, query: Query) -> Tensor:
        """(k,) ids of a query."""
        if query.again is None:
            return self.ids[query.rows]
        ids = torch.empty_like(query.rows)
        ids[~query.again] = self.ids[query.rows[~query.again]]
        ids[query.again] = self.labelled_ids[query.rows[query.again]]
        return ids

    @property
    def seen(self) -> Tensor | None:
        """The scorer's logits if anybody has asked for them, without computing them."""
        kept = self._kept.get(("scorer", "pool"))
        return kept[0] if kept else None

    @property
    def logits(self) -> Tensor:
        """(N, C) of the scorer. A sampler that needs features as well reads those first: one pass gives both."""
        return self._logits("scorer", "pool")

    @property
    def features(self) -> Tensor:
        """(N, D) of the scorer, what enters its classifier."""
        return self._features("scorer", "pool")

    @property
    def labelled_logits(self) -> Tensor:
        """(M, C) of the scorer, of the images that are labelled."""
        return self._logits("scorer", "labelled")

    @property
    def labelled_features(self) -> Tensor:
        """(M, D) of the scorer, of the images that are labelled."""
        return self._features("scorer", "labelled")

    @property
    def validation_logits(self) -> Tensor:
        """(V, C) of the scorer, of the validation images."""
        return self._logits("scorer", "validation")

    @property
    def validation_features(self) -> Tensor:
        """(V, D) of the scorer, of the validation images."""
        return self._features("scorer", "validation")

    @property
    def teacher_logits(self) -> Tensor:
        """(N, C) of the teacher. Raises UserError when there is none."""
        return self._logits("teacher", "pool")

    @property
    def teacher_features(self) -> Tensor:
        """(N, D) of the teacher. Raises UserError when there is none."""
        return self._features("teacher", "pool")

    @property
    def labelled_teacher_features(self) -> Tensor:
        """(M, D) of the teacher, of the images that are labelled. Raises UserError when there is no teacher."""
        return self._features("teacher", "labelled")

    @property
    def teacher_validation_logits(self) -> Tensor:
        """(V, C) of the teacher, of the validation images. Raises UserError when there is no teacher."""
        return self._logits("teacher", "validation")

    def classify(self, features: Tensor) -> Tensor:
        """What the scorer's last layer answers to features of the caller's making, (n, D) -> (n, C)."""
        return self.scorer.classify(features)

    def draws(self, count: int, rng: Generator) -> Iterator[Tensor]:
        """`count` logits (N, C) of the scorer under dropout, one at a time, so that N·C·K is never held.

        Of a committee, one of each of its members, however many are asked for.
        """
        return self._each("draws", self.scorer.draws(self.ids, count, rng))

    def history(self, rounds: int) -> Iterator[Tensor]:
        """Logits (N, C) of students of up to so many rounds before the scorer's, oldest first, one at a time."""
        return self._each("history", (scorer.logits(self.ids) for scorer in self.past(rounds)))

    def in_space(self, space: Space) -> tuple[Tensor, Tensor]:
        """(pool (N, D), labelled (M, D)) in a `Space`, float32. Raises UserError for one that is not there."""
        if space == "features":
            return self.features.float(), self.labelled_features.float()
        if space == "teacher":
            return self.teacher_features.float(), self.labelled_teacher_features.float()
        if space == "probabilities":
            return self.logits.float().softmax(1), self.labelled_logits.float().softmax(1)
        if space == "pixels" and self.images is not None:
            images = self.images
            return self._made(lambda ids: _flat(images(ids)))
        path = vectors(Path(space))
        if path.suffix not in (".npy", ".safetensors"):
            cure = f"{', '.join(SPACES)}, a run of kdal pretrain, or a .npy or .safetensors with one row an image"
            raise UserError(f"sampler.space={space}", cure=cure)
        return self._made(embedding(path, self.known))

    def _made(self, rows: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """(pool (N, D), labelled (M, D)) of what `rows` makes of ids, a block at a time."""
        parts = (rows(some) for some in self.ids.split(BLOCK))
        return self.tables.filled(len(self.ids), parts), rows(self.labelled_ids)

    def _logits(self, who: Who, part: Part) -> Tensor:
        if who == "teacher" and self.other_classes:
            cure = "a sampler that looks at its features alone"
            raise UserError(f"this sampler compares classes, and {self.other_classes}", cure=cure)
        if self.whole is not None:
            logits = self.whole[0]._logits(who, part)
            return logits[self.whole[1].to(logits.device)] if part == "pool" else logits
        kept = self._kept.get((who, part))
        if kept is None:
            scorer, ids = self._scorer(who), self._ids(part)
            with self.meter.measure(f"{who}_{part}"):
                kept = self._kept[who, part] = _finite(scorer.logits(ids), ids), None
        return kept[0]

    def _features(self, who: Who, part: Part) -> Tensor:
        if self.whole is not None:
            features = self.whole[0]._features(who, part)
            return features[self.whole[1].to(features.device)] if part == "pool" else features
        _, features = self._kept.get((who, part), (None, None))
        if features is None:
            scorer, ids = self._scorer(who), self._ids(part)
            with self.meter.measure(f"{who}_{part}"):
                logits, features = scorer.look(ids)
                self._kept[who, part] = _finite(logits, ids), _finite(features, ids)
        return features

    def _scorer(self, who: Who) -> Scorer:
        if who == "scorer":
            return self.scorer
        if self.teacher is None:
            raise UserError(
                "this sampler asks the teacher, and there is none", where="teacher=none", cure="choose a teacher"
            )
        return self.teacher

    def _ids(self, part: Part) -> Tensor:
        return {"pool": self.ids, "labelled": self.labelled_ids, "validation": self.validation_ids}[part]

    def _each(self, view: str, answers: Iterator[Tensor]) -> Iterator[Tensor]:
        """Logits (N, C) as they are computed, each measured and looked through."""
        while True:
            with self.meter.measure(view):
                logits = next(answers, None)
            if logits is None:
                return
            yield _finite(logits, self.ids)


Sampler = Callable[[Evidence, int, Generator], Query]
"""Chooses the query: min(k, N) distinct rows of the pool, in the order picked, from a generator of its own."""


def _flat(pixels: Tensor) -> Tensor:
    return pixels.flatten(1).float() / 255


def _finite(values: Tensor, ids: Tensor) -> Tensor:
    low, high = values.aminmax(dim=1)  # (N,), NaN where one is; isfinite of all would be as large again
    bad = ~(low.isfinite() & high.isfinite())
    if bad.any():
        first = int(ids[bad.cpu()][0])
        raise MachineError(f"the scorer answers image {first} with a number that is not finite", cure="lower recipe.lr")
    return values
