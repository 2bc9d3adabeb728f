"""Sections of the configuration to the objects that they describe."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_type_hints

import torch
from torch import nn

import kdal_cli.data
import kdal_cli.losses
import kdal_cli.models
import kdal_cli.samplers
from kdal_cli import oracle as oracles
from kdal_cli.build.bind import bind, is_schedule, make, schedule
from kdal_cli.build.registry import is_class, resolve
from kdal_cli.commands._lab import Blueprint
from kdal_cli.commands.al_loop import Sampler
from kdal_cli.data._split import Split, split_ids
from kdal_cli.errors import UserError, nearest
from kdal_cli.network import Network
from kdal_cli.objective import Objective, Part, Weighting
from kdal_cli.oracle import Oracle
from kdal_cli.schedules import Schedule
from kdal_cli.types import ImageData, Output, Shape, Watcher
from kdal_cli.values import NonNegative

Section = Mapping[str, Any]


def data(section: Section, trust: Sequence[str], watcher: Watcher) -> tuple[ImageData, torch.Tensor, torch.Tensor]:
    """The images, and the ids of the pool and of the validation images."""
    source = resolve(kdal_cli.data, section.get("name"), trust, "data")
    settings = bind(source, section, "data", given=1, besides=("name", "split", "augment"))
    split = make(Split, section.get("split", {}), "data.split")
    images = source(watcher, **settings)
    return images, *split_ids(len(images.train), split)


def blueprint(section: Section, shape: Shape, trust: Sequence[str], where: str) -> Blueprint:
    """An architecture for images of this shape. It is built once here, so that what cannot be built is refused now."""
    architecture = resolve(kdal_cli.models, section.get("name"), trust, where)
    settings = bind(architecture, section, where, given=1, besides=("name",))

    def build() -> nn.Module:
        return architecture(shape, **settings)

    with torch.random.fork_rng():
        body = build()
    if not isinstance(body, nn.Module):
        raise UserError(f"{where}.name={section['name']} makes a {type(body).__name__}", cure="an nn.Module is needed")
    _try(body, shape, where)
    return Blueprint(dict(section), build)


def _try(body: nn.Module, shape: Shape, where: str) -> None:
    """One blank image through a network: it must accept the shape and answer one logit per class."""
    image = torch.zeros(1, shape.channels, shape.height, shape.width)
    try:
        with torch.inference_mode():
            logits = body.eval()(image)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{where} cannot take images of {tuple(image.shape[1:])}: {reason}", cure="choose another"
        ) from None
    answered = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if answered != (1, shape.classes):
        raise UserError(
            f"{where} answers {answered} for one image", cure=f"logits of shape (1, {shape.classes}) are needed"
        )


def sampler(section: Section, trust: Sequence[str]) -> Sampler:
    choose = resolve(kdal_cli.samplers, section.get("name"), trust, "sampler")
    return functools.partial(choose, **bind(choose, section, "sampler", given=3, besides=("name",)))


def oracle(section: Section, labels: torch.Tensor) -> Oracle:
    known = {"simulated": oracles.simulated}
    name = section.get("name")
    if name not in known:
        raise UserError(f"oracle.name={name}", cure=nearest(str(name), known))
    return known[name](labels, **bind(known[name], section, "oracle", given=1, besides=("name",)))


@dataclass(frozen=True)
class LossPlan:
    """A loss section, checked: an objective for any student and teacher; adapters are made when these are there."""

    hard: float
    soft: float
    terms: Mapping[str, "_Term"]
    shape: Shape

    @property
    def needs_teacher(self) -> bool:
        return any(term.part.weight != 0 for term in self.terms.values())

    @property
    def sentence(self) -> str:
        """`w_hard 0.1, w_soft 0.9: 0.1 ce + 0.9 kd(temperature=4.0)`."""
        parts = [f"{self.hard:g} ce"] if self.hard else []
        for name, term in self.terms.items():
            if term.part.weight != 0:
                settings = {**term.arguments, **term.part.scheduled}
                listed = ", ".join(f"{key}={value}" for key, value in settings.items() if value is not None)
                weight = term.part.weight if isinstance(term.part.weight, Schedule) else f"{term.part.weight:g}"
                parts.append(f"{weight} {name}({listed})")
        return f"w_hard {self.hard:g}, w_soft {self.soft:g}: {' + '.join(parts)}"

    def __call__(self, student: Network, teacher: Network | None) -> Objective:
        if teacher is None:
            return Objective(self.hard)
        return Objective(self.hard, {name: self._part(term, student, teacher) for name, term in self.terms.items()})

    def _part(self, term: "_Term", student: Network, teacher: Network) -> Part:
        if term.part.weight == 0 or not is_class(term.part.term):
            return term.part
        layers = term.arguments.get("layers") or ()
        student.tap(layers)
        teacher.tap(term.arguments.get("teacher_layers") or layers)
        module = term.part.term(*_outputs(self.shape, student, teacher), **term.arguments)
        return replace(term.part, term=module)


@dataclass(frozen=True)
class _Term:
    """A term, its weight, and the arguments that do not change over the training."""

    part: Part
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class _Settings:
    """What the objective is told of a term. soft: whether w_soft multiplies the weight."""

    weight: NonNegative | Schedule = 1.0
    on: Literal["labelled", "pool", "both"] = "both"
    soft: bool = True


def loss(section: Section, trust: Sequence[str], shape: Shape) -> LossPlan:
    """What a student minimises. Raises UserError for a term that is not there or weights that are all zero."""
    hard, soft = make(Weighting, section.get("weighting", {}), "loss.weighting").resolve()
    everywhere = {"on": section["on"]} if "on" in section else {}
    terms = {
        name: _term(f"loss.{name}", {**everywhere, **term} if isinstance(term, Mapping) else term, soft, trust)
        for name, term in section.items()
        if name not in ("weighting", "on")
    }
    Objective(hard, {name: term.part for name, term in terms.items() if term.part.weight != 0})
    return LossPlan(hard, soft, terms, shape)


def _term(where: str, section: Section, soft: float, trust: Sequence[str]) -> _Term:
    keys = [field.name for field in fields(_Settings)]
    if not isinstance(section, Mapping) or "name" not in section:
        cure = f"a term is a mapping of name, {', '.join(keys)} and arguments of its own"
        raise UserError(f"{where}={section}", cure=cure)
    own = {key: value for key, value in section.items() if key not in ("name", *keys)}
    settings = make(_Settings, {key: section[key] for key in keys if key in section}, where)
    term = resolve(kdal_cli.losses, section.get("name"), trust, where)
    schedules = _schedules(term, own, where)
    values = {key: value.end for key, value in schedules.items()}
    fixed = bind(term, own | values, where, given=2 if is_class(term) else 3)
    fixed = {key: value for key, value in fixed.items() if key not in schedules}
    call = term if is_class(term) else functools.partial(term, **fixed)
    return _Term(Part(call, _scaled(settings.weight, soft if settings.soft else 1.0), settings.on, schedules), fixed)


def _schedules(term: Callable[..., Any], own: Section, where: str) -> dict[str, Schedule]:
    """The arguments of a term that change over the training. Raises UserError for those of a term that learns."""
    plans = {key: value for key, value in own.items() if is_schedule(value)}
    if plans and is_class(term):
        key = next(iter(plans))
        raise UserError(
            f"{where}.{key} is scheduled", cure="this term is made once, before the training; schedule its weight"
        )
    hints = get_type_hints(term, include_extras=True)
    return {key: schedule(plan, hints.get(key, float), f"{where}.{key}") for key, plan in plans.items()}


def _scaled(weight: float | Schedule, by: float) -> float | Schedule:
    if not by:
        return 0.0
    if isinstance(weight, Schedule):
        return replace(weight, start=weight.start * by, end=weight.end * by)
    return weight * by


def _outputs(shape: Shape, *networks: Network) -> list[Output]:
    """What networks answer to two blank images: the widths that an adapter has to fit."""
    blank = torch.zeros(2, shape.channels, shape.height, shape.width, dtype=torch.uint8)
    outputs = []
    for network in networks:
        was_training = network.training
        with torch.no_grad():
            outputs.append(network.eval()(blank.to(network.mean.device)))
        network.train(was_training)
    return outputs
