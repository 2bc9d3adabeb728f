"""What simple models make of the labels that the student has: vectors and targets for them, and their accuracy.

Axis letters: M labelled images, n images, C classes, D features.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kdal_cli.dataset import OnDemand
from kdal_cli.errors import UserError
from kdal_cli.inference.embedding import embedding, vectors
from kdal_cli.inference.predict import predict
from kdal_cli.lab.lab import Lab
from kdal_cli.network import Network
from kdal_cli.study.baselines import FIGURE

LABELS = 20_000
"""Labels that a simple model learns from at most, evenly drawn over all purchases.

With that many of Fashion-MNIST, 10,000 test images and one core of an AMD EPYC: logistic 5 s, tree 9 s, knn 22 s; with
1,000 labels about a second or less each.
"""

VALUES = 1_024
"""Numbers of an image in the space of pixels at most: 32 × 32 × 3 are averaged to 18 × 18 × 3."""

SPACES = ("pixels", "features", "teacher")

Answer = Callable[[NDArray[np.float64]], NDArray[np.int64]]


class Baseline(Protocol):
    """A simple model, see `kdal_cli.baselines`."""

    @property
    def space(self) -> str: ...

    @property
    def soft(self) -> float: ...

    def learn(self, vectors: NDArray[np.float64], targets: NDArray[np.float64]) -> Answer: ...


class Baselines:
    """The simple models of a run, each on vectors and targets of its own choice.

    members: {name: model}. Raises UserError for a space that is not there, and for two that would share a column.
    What they cost is no cost of the run: teacher's answers that they read are not counted.
    """

    def __init__(self, lab: Lab, members: Mapping[str, Baseline]) -> None:
        self.lab, self.members = lab, members
        self._files = {m.space: _file(lab, m.space) for m in members.values() if m.space not in SPACES}
        self._test_pixels: Tensor | None = None

    @property
    def asks_teacher(self) -> bool:
        return any(member.space == "teacher" or member.soft for member in self.members.values())

    @property
    def compares_classes(self) -> bool:
        """Whether a teacher that is asked has to have these classes."""
        return any(member.soft for member in self.members.values())

    def measure(self, ids: Tensor, labels: Tensor, student: Network, teacher: Network | None) -> dict[str, float]:
        """{column: accuracy on the test images} after each has learnt these labels: (M,) ids, (M,) labels."""
        from threadpoolctl import threadpool_limits

        kept = torch.linspace(0, len(ids) - 1, min(len(ids), LABELS)).round().long()
        ids, labels, truth = ids[kept], labels[kept], self.lab.data.test.labels.all().numpy()
        row = {}
        with threadpool_limits(1):  # sums, and so the last digit, would depend on how many threads add up
            for name, member in self.members.items():
                targets = self._targets(ids, labels, member.soft, teacher)
                answer = _learnt(member, *self._vectors(member.space, ids, student, teacher), targets)
                row[f"{name}_{FIGURE}"] = float((answer == truth).mean())
        return row

    def _vectors(self, space: str, ids: Tensor, student: Network, teacher: Network | None) -> tuple[Tensor, Tensor]:
        """(learnt from (M, D), test (n, D)) in a space."""
        data = self.lab.data
        if space == "pixels":
            if self._test_pixels is None:
                self._test_pixels = small(data.test.pixels)
            return small(data.train.pixels[ids]), self._test_pixels
        if space in self._files:
            train, test = self._files[space]
            return train(ids), test(torch.arange(len(data.test)))
        network = student if space == "features" else teacher
        assert network is not None
        return predict(network, self.lab.train, ids).features, self.lab.test_output(network).features

    def _targets(self, ids: Tensor, labels: Tensor, soft: float, teacher: Network | None) -> Tensor:
        """(1 − soft) · the label + soft · what the teacher answers, (M, C)."""
        targets = F.one_hot(labels, len(self.lab.data.classes)).double()
        if not soft:
            return targets
        assert teacher is not None
        return targets.lerp(predict(teacher, self.lab.train, ids).logits.cpu().double().softmax(1), soft)


def column(name: str, baseline: Baseline) -> str:
    """What a baseline is called in a curve: its name, what it looks at unless that is usual for it, and `soft`."""
    usual = getattr(type(baseline), "space", None)
    space = [] if baseline.space == usual else [Path(baseline.space).stem]
    return "_".join([name.rpartition(":")[2].lower(), *space, *["soft"] * bool(baseline.soft)])


def small(pixels: Tensor | OnDemand) -> Tensor:
    """Images (n, c, H, W) uint8 as vectors (n, D) from 0 to 1, averaged over blocks where D would be above VALUES."""
    channels, height, width = pixels.shape[1:]
    shrink = min(1.0, (VALUES / (channels * height * width)) ** 0.5)
    size = (max(1, int(height * shrink)), max(1, int(width * shrink)))
    blocks = (pixels[start : start + 1_000].float() / 255 for start in range(0, len(pixels), 1_000))
    return torch.cat([(F.adaptive_avg_pool2d(b, size) if shrink < 1 else b).flatten(1) for b in blocks])


def _learnt(member: Baseline, known: Tensor, test: Tensor, targets: Tensor) -> NDArray[np.int64]:
    """What a baseline answers to test images (n,), after learning. Of a single class there is nothing to tell apart."""
    shares = targets.numpy()
    if (shares.sum(0) > 0).sum() < 2:
        return np.full(len(test), shares.sum(0).argmax())
    x, seen = known.cpu().double().numpy(), test.cpu().double().numpy()
    middle = x.mean(0)
    length = np.sqrt(((x - middle) ** 2).sum(1).mean()) or 1.0
    return member.learn((x - middle) / length, shares)((seen - middle) / length)


def _file(lab: Lab, space: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Rows of the training and of the test images, from `vectors.npy` and `vectors_test.npy` beside it."""
    path = vectors(Path(space))
    if path.suffix not in (".npy", ".safetensors"):
        file = "a file.npy or file.safetensors with one row an image, file_test beside it"
        cure = f"{', '.join(SPACES)}, a run of kdal pretrain, or {file}"
        raise UserError(f"baselines: space={space}", cure=cure)
    beside = path.with_stem(f"{path.stem}_test")
    return embedding(path, len(lab.data.train)), embedding(beside, len(lab.data.test))
