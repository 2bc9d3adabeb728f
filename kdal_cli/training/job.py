"""A training before it begins and when it is over: what is trained, on what, by whom and how, and what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kdal_cli.devices.engine import Engine
from kdal_cli.devices.precision import Precision
from kdal_cli.images.augment import Resident
from kdal_cli.network import Network
from kdal_cli.streams import Streams
from kdal_cli.training.answers import Teacher
from kdal_cli.training.course import Course
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe
from kdal_cli.types import Examples


@dataclass(frozen=True)
class Fitted:
    """What a training was: its length and speed, each weighted loss part over the last chunk, and the best check.

    visits: images looked at, each as often as it was, and `images` those of them since it was resumed. strong: how
    often the student saw one in a strongly changed view besides. taught: (n,) ids of those that a frozen teacher
    answered about. fitted: the share of its labels that the student has fitted (`Fitness`). teacher_seconds: of
    `seconds`, those that its answers took. precision: what the student was computed in. rule: the key of its recipe
    that said how long.
    """

    steps: int
    visits: int
    taught: Tensor
    fitted: float
    images: int
    seconds: float
    teacher_seconds: float
    precision: Precision
    losses: Mapping[str, float]
    best: Mapping[str, Tensor] | None
    best_accuracy: float | None
    strong: int = 0
    rule: str = "until.ceiling"

    @property
    def spent(self) -> dict[str, float]:
        """Seconds of the teacher and of the student, as `timings.csv` tells them."""
        return {"teacher_s": self.teacher_seconds, "train_s": self.seconds - self.teacher_seconds}


class Peer(nn.Module):
    """A network that learns at the same time: the student's teacher and, as its objective says, its pupil.

    Zhang et al. 2018, arXiv:1706.00384, with one difference to the paper's algorithm: both look at the answers of the
    same step, and each sees the other's without a gradient.
    """

    def __init__(self, network: Network, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective


Validate = Callable[[Network], float]
"""The accuracy that decides which check was best."""


@dataclass(frozen=True)
class Job:
    """What is trained, on what, by whom and how."""

    student: Network
    images: Resident
    examples: Examples
    objective: Objective
    recipe: Recipe
    engine: Engine
    streams: Streams
    teacher: Teacher | None
    peer: Peer | None
    what: str

    @property
    def batch(self) -> int:
        """Labelled images in a step."""
        return self.recipe.batch if len(self.examples.labels) else 0

    @property
    def pool_batch(self) -> int:
        """Images of the pool in a step."""
        return self.recipe.pool_batch if self.objective.needs_pool and len(self.examples.pool_ids) else 0

    @property
    def strong_batch(self) -> int:
        """Strongly changed views that the student sees in a step besides the images of its batch."""
        sizes = {None: 0, "pool": self.pool_batch, "both": self.batch + self.pool_batch}
        return sum(sizes[self.objective.more.get(other)] for other in ("strong", "second"))

    @property
    def course(self) -> Course:
        return Course(self.recipe, len(self.examples.labels), self.objective.first)
