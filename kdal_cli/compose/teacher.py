"""The `teacher` section to a plan: who teaches, one or several, and in what manner."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from kdal_cli.compose.bind import make
from kdal_cli.compose.start import for_checkpoint
from kdal_cli.dataset import Shape
from kdal_cli.errors import UserError
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.teacher import Learns, Manner, Member, TeacherPlan
from kdal_cli.records import checkpoint
from kdal_cli.records.checkpoint import Checkpoint
from kdal_cli.training.recipe import Recipe
from kdal_cli.values import Natural

Section = Mapping[str, Any]
Draw = Callable[[Section, Shape, Checkpoint | None], Blueprint]
"""An architecture section to a blueprint for images of a shape and, where there are some, for weights."""


@dataclass(frozen=True)
class Who:
    """The networks of a teacher: one, or several where `seed` or `checkpoint` is a list."""

    recipe: Recipe
    model: Any = None
    seed: Natural | tuple[Natural, ...] = 0
    checkpoint: Path | tuple[Path, ...] | None = None
    store: Path = Path("outputs/teachers")

    @property
    def checkpoints(self) -> tuple[Path | None, ...]:
        return self.checkpoint if isinstance(self.checkpoint, tuple) else (self.checkpoint,)


def who_teaches(section: Section) -> tuple[Manner, Who]:
    """How and who, as the section says it. A model without a name is none, whatever an experiment sets beside it."""
    keys, model = [field.name for field in fields(Manner)], section.get("model")
    if isinstance(model, Mapping) and model.get("name") is None:
        section = {**section, "model": None}
    manner = make(Manner, {key: section[key] for key in keys if key in section}, "teacher")
    return manner, make(Who, {key: value for key, value in section.items() if key not in keys}, "teacher")


def plan_teacher(section: Section, shape: Shape, draw: Draw) -> TeacherPlan | None:
    """Who teaches, or None with `teacher=none`. Raises UserError for what does not go together."""
    manner, who = who_teaches(section)
    seeds, paths = who.seed if isinstance(who.seed, tuple) else (who.seed,), who.checkpoints
    if manner.kind == "previous":
        return TeacherPlan(manner)
    if who.model is None and who.checkpoint is None:
        return None
    if not paths:
        raise UserError("teacher.checkpoint is missing", cure="a file or a run folder, or a list of them")
    if not seeds or (len(seeds) > 1 and len(paths) > 1):
        cure = "a list of seeds, or a list of checkpoints, not both"
        raise UserError(f"teacher.seed={list(seeds)} and teacher.checkpoint={[str(p) for p in paths]}", cure=cure)
    members = [
        Member(_blueprint(who.model, path, manner, shape, draw), who.recipe, seed, path, who.store)
        for seed in seeds
        for path in paths
    ]
    if manner.learns == "nothing" and (manner.min_confidence or manner.balance):
        key = f"teacher.min_confidence={manner.min_confidence:g}" if manner.min_confidence else "teacher.balance=true"
        raise UserError(f"{key} asks what its head knows", where=manner.incomparable, cure="leave it out")
    if manner.kind == "peer" and len(members) > 1:
        raise UserError(f"teacher.seed={list(seeds)}", where="a peer is one", cure="a single seed")
    return TeacherPlan(replace(manner, weights=_weights(manner.weights, len(members))), tuple(members))


def settled(
    learns: Learns, stage: str, *, own: bool, kind: str = "fixed", given: bool = False, begun: bool = False
) -> Learns:
    """What a teacher learns from in a stage. own: whether there are images of its own, `data.split.teacher`; given:
    whether it comes from a file; begun: whether it starts from weights. Raises UserError for what is not there.

    auto: nothing in `pretrain`, where it starts from weights; else the images of its own where there are some; else
    what `al-loop` buys, and in the other stages the pool.
    """
    if learns == "auto" and stage == "pretrain" and begun and kind == "fixed" and not given:
        return "nothing"
    if learns == "auto":
        return "own" if own else "bought" if stage == "al-loop" else "pool"
    where = f"teacher.learns={learns}"
    if learns == "pool":
        return learns
    if learns == "nothing" and (stage == "train-teacher" or not begun):
        cure = "one that starts from weights and only teaches: teacher.model.weights=imagenet, or a file"
        raise UserError("there is nothing that this teacher knows", where=where, cure=cure)
    if given or kind != "fixed":
        what = "a checkpoint has learnt already" if given else f"teacher.kind={kind} is not trained before the student"
        raise UserError(what, where=where, cure="leave it at auto")
    if learns == "own" and not own:
        raise UserError(
            "the teacher has no images of its own", where=where, cure="give it some: data.split.teacher=600"
        )
    if learns in ("seed_set", "bought") and stage != "al-loop":
        raise UserError(f"{stage} buys no labels", where=where, cure="accepted: auto, pool, own")
    return learns


def _blueprint(model: Any, path: Path | None, manner: Manner, shape: Shape, draw: Draw) -> Blueprint:
    """The architecture that is asked for, or that a checkpoint says it has."""
    saved = checkpoint.read(path) if path is not None else None
    if saved is not None:
        model = for_checkpoint(model, saved, "teacher.model")
        if saved.card is not None:
            shape = replace(saved.card.inner, channels=shape.channels)
    if manner.incomparable == "teacher.classes=other" and (saved is None or saved.card is None):
        cure = "a checkpoint of kdal, which says what its classes are"
        raise UserError(f"teacher.classes=other with teacher.checkpoint={path}", cure=cure)
    return draw(model, shape, saved)


def _weights(weights: tuple[float, ...] | None, members: int) -> tuple[float, ...] | None:
    """Raises UserError unless there is one for each teacher, all above zero, together 1."""
    if weights is None:
        return None
    if len(weights) != members or abs(sum(weights) - 1) > 1e-6 or min(weights) <= 0:
        cure = f"accepted: {members} numbers above 0, one for each teacher, that add up to 1"
        raise UserError(f"teacher.weights={list(weights)}", cure=cure)
    return weights
