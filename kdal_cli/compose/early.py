"""What can be refused before the data are read, which may take a minute: architectures and checkpoints."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdal_cli.compose import parts, start
from kdal_cli.compose.bind import convert
from kdal_cli.compose.loss import LossPlan
from kdal_cli.compose.sketch import ANY, OTHER, refuse_misfit, sketched
from kdal_cli.compose.teacher import who_teaches
from kdal_cli.errors import UserError
from kdal_cli.lab.blueprint import named
from kdal_cli.records import checkpoint
from kdal_cli.records.checkpoint import Checkpoint
from kdal_cli.training.recipe import Recipe

Wanted = tuple[str, Mapping[str, Any] | None, Path | None]
"""A network: where it is configured, its architecture if that is named, its checkpoint if it has one."""


def refuse_early(values: Mapping[str, Any], trust: Sequence[str]) -> None:
    """Raise UserError for an architecture that there is not, or weights that are missing, damaged or another's.

    What depends on the images, their size and their classes, is seen when they are there.
    """
    for key, section, path in _wanted(values):
        saved = checkpoint.read(path) if path is not None else None
        if saved is not None:
            section = start.for_checkpoint(section, saved, key)
        if isinstance(section, Mapping):
            _refuse(section, trust, key, saved)


def _refuse(section: Mapping[str, Any], trust: Sequence[str], key: str, saved: Checkpoint | None) -> None:
    plain, wanted = start.split(section, key)
    plain, shaped = start.pruned(plain, wanted, saved)
    make = parts.architecture(plain, trust, key, shaped=shaped)
    if parts.is_own(plain):
        return
    if saved is not None:
        refuse_misfit(make, named(plain), saved, None)
        return
    body = sketched(lambda: make(ANY), key)
    if wanted.file is not None and body is not None:
        start.refuse_other(body, sketched(lambda: make(OTHER), key), wanted.file, plain, key)


def refuse_unlabelled(loss: LossPlan, recipe: Recipe, *, compare: bool) -> None:
    """Raise UserError where no image of the pool has a label, and something cannot do without."""
    where = "no image of the pool has a label"
    if compare:
        raise UserError("compare=true", where=where, cure="the student alone learns from labels: compare=false")
    if not loss.sees_unlabelled:
        raise UserError("loss", where=where, cure="choose one that learns from a teacher, on=pool or on=both: loss=kd")
    if recipe.epochs is not None:
        raise UserError(f"recipe.epochs={recipe.epochs:g}", where=where, cure="count steps instead: recipe.steps=2000")


def _wanted(values: Mapping[str, Any]) -> Iterator[Wanted]:
    path = convert(values.get("checkpoint"), Path | None, "checkpoint")
    yield "student", values.get("student"), path
    assistants = values.get("assistants")
    for name, section in assistants.items() if isinstance(assistants, Mapping) else ():
        yield f"assistants.{name}", section, None
    if isinstance(values.get("teacher"), Mapping):
        _, who = who_teaches(values["teacher"])
        for path in who.checkpoints:
            yield "teacher.model", who.model, path
