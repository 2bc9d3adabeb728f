"""One term of the `loss` section: its name resolved, its arguments and schedules checked.

A term is a function `(student, teacher, batch, *, …)`, or a class, made once a training as `(student, teacher,
examples, *, …)` and then called like a function. Its signature says the rest: keyword-only arguments are its settings,
one called `layers` asks for maps, a `teacher` that may be None works without one, and after the batch `strong` and
`second` ask for the student's answers to strongly changed views of the images, `again` for the pixels of other ones.
They are of the images that it is `on`, or of those of the pool where an attribute says so, `others_of = "pool"`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any, Literal, get_args, get_type_hints

import kdal_cli.losses
from kdal_cli.compose.bind import bind, is_schedule, make, schedule
from kdal_cli.compose.registry import is_class, resolve
from kdal_cli.errors import UserError
from kdal_cli.training.objective import Part
from kdal_cli.training.schedules import Schedule
from kdal_cli.types import Other
from kdal_cli.values import NonNegative, Share

Section = Mapping[str, Any]

KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True)
class Settings:
    """What the objective is told of a term, as `Part` describes it. soft: whether w_soft multiplies the weight."""

    weight: NonNegative | Schedule = 1.0
    on: Literal["labelled", "pool", "both"] = "both"
    soft: bool = False
    when: Literal["first", "main", "both"] = "main"
    standardize: bool = False
    sample_weight: Literal["all", "right", "confidence"] = "all"
    min_confidence: Share = 0.0


@dataclass(frozen=True)
class TermPlan:
    """A term, checked. arguments do not change over the training, what is in `part.scheduled` does."""

    part: Part
    arguments: Mapping[str, Any]
    makes: bool


def plan_term(
    where: str, section: Section, soft: float, trust: Sequence[str], package: ModuleType = kdal_cli.losses
) -> TermPlan:
    keys = [field.name for field in fields(Settings)]
    if not isinstance(section, Mapping) or "name" not in section:
        cure = f"a term is a mapping of name, {', '.join(keys)} and arguments of its own"
        raise UserError(f"{where}={section}", cure=cure)
    own = {key: value for key, value in section.items() if key not in ("name", *keys)}
    settings = make(Settings, {key: section[key] for key in keys if key in section}, where)
    term = resolve(package, section.get("name"), trust, where)
    made = is_class(term)
    call = getattr(term, "forward", term) if made else term
    called = _settings_of(call) if made else {}
    plans = {key: value for key, value in own.items() if is_schedule(value)}
    if made and (stuck := [key for key in plans if key not in called]):
        cure = "this is read once, before the training; schedule the weight"
        raise UserError(f"{where}.{stuck[0]} is scheduled", cure=cure)
    hints = get_type_hints(call, include_extras=True)
    schedules = {key: schedule(plan, hints.get(key, float), f"{where}.{key}") for key, plan in plans.items()}
    ends = {key: value.end for key, value in schedules.items()}
    named = {"name": section["name"], **_without(own | ends, called)}
    others = _others(call)
    fixed = bind(term, named, where, given=3 if made else 3 + len(others), besides=("name", *called))
    if made:  # what its call takes beside the batch
        values = bind(call, {k: v for k, v in (own | ends).items() if k in called}, where, given=4 + len(others))
        schedules |= {k: Schedule("constant", end=v) for k, v in values.items() if k not in schedules}
    for key in ("layers", "teacher_layers", "temperature"):
        if key in _settings_of(term):
            fixed.setdefault(key, _settings_of(term)[key].default)
    part = Part(
        term,
        _scaled(settings.weight, soft if settings.soft else 1.0),
        settings.on,
        schedules,
        settings.when,
        settings.standardize,
        settings.sample_weight,
        settings.min_confidence,
    )
    asks = type(None) not in get_args(hints.get("teacher")) or part.weighs
    part = replace(part, asks_teacher=asks, others=others, others_of=getattr(term, "others_of", "both"))
    return TermPlan(part, {key: value for key, value in fixed.items() if key not in schedules}, made)


def _settings_of(call: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of a callable."""
    return {n: p for n, p in inspect.signature(call).parameters.items() if p.kind is p.KEYWORD_ONLY}


def _others(call: Callable[..., Any]) -> tuple[Other, ...]:
    """The other views of the images that a term asks for, by name among what it is given after the batch."""
    known = inspect.signature(call).parameters
    return tuple(other for other in get_args(Other) if other in known and known[other].kind is not KEYWORD_ONLY)


def _without(section: Section, keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in keys}


def _scaled(weight: float | Schedule, by: float) -> float | Schedule:
    if not by:
        return 0.0
    if isinstance(weight, Schedule):
        return replace(weight, start=weight.start * by, end=weight.end * by)
    return weight * by
