"""The one training loop. Teachers, students and the rounds of active learning all learn here.

Each step draws two streams, one from the labelled images and one from the pool: cross-entropy sees the first,
distillation both. A stream is endless, shuffled epoch by epoch, so that every batch has the same shape and none is
ragged.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdal_cli.devices.engine import Engine
from kdal_cli.errors import UserError
from kdal_cli.images.augment import Resident
from kdal_cli.network import Network
from kdal_cli.streams import Streams
from kdal_cli.training.answers import Teacher
from kdal_cli.training.job import Fitted, Job, Peer, Validate
from kdal_cli.training.loop import Training
from kdal_cli.training.objective import Objective
from kdal_cli.training.recipe import Recipe
from kdal_cli.training.state import Keeper
from kdal_cli.types import Examples, Unwatched, Watcher


def fit(
    student: Network,
    images: Resident,
    examples: Examples,
    objective: Objective,
    recipe: Recipe,
    engine: Engine,
    streams: Streams,
    watcher: Watcher,
    *,
    teacher: Teacher | None = None,
    peer: Peer | None = None,
    validate: Validate | None = None,
    keeper: Keeper | None = None,
    what: str = "training",
) -> Fitted:
    """Train `student` in place, for as long as the recipe says, and return what happened.

    teacher, peer: whose answers the terms compare with, of which a peer is trained besides. Raises MachineError, naming
    step and learning rate, when the loss is not finite.

    Batch-norm's running statistics are measured at every check where they have not arrived by themselves, see
    `kdal_cli.training.statistics`. With helpers each process takes its share of every batch, and gradients and losses
    are averaged at each step; what else there is, statistics, memories, is number 0's from check to check. Raises
    UserError for a batch that cannot be shared evenly.
    """
    refuse_uneven(recipe, engine.team.size)
    begun = keeper.load() if keeper is not None else None
    job = Job(student, images, examples, objective, recipe, engine, streams, teacher, peer, what)
    example = images.whole(examples.ids[: recipe.batch + job.pool_batch])
    job = replace(job, recipe=replace(recipe, precision=engine.precision(recipe.precision, student, example)))
    with engine.team.helping(_learn, job, begun, Unwatched()):
        return _learn(job, begun, watcher, validate, keeper)


def refuse_uneven(recipe: Recipe, devices: int) -> None:
    """Raise UserError when so many devices cannot take the same number of images of every batch."""
    for key in ("batch", "pool_batch"):
        if (size := getattr(recipe, key)) % devices:
            cure = f"a multiple of {devices}"
            raise UserError(f"recipe.{key}={size} is not shared evenly", where=f"devices={devices}", cure=cure)


def _learn(
    job: Job,
    begun: Mapping[str, Any] | None,
    watcher: Watcher,
    validate: Validate | None = None,
    keeper: Keeper | None = None,
) -> Fitted:
    """`fit` in one process of the team. begun: the state to go on from."""
    return Training(job, begun, watcher).run(validate, keeper)
