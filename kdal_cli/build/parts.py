"""Sections of the configuration to the objects that they describe."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

import torch
from torch import nn

import kdal_cli.data
import kdal_cli.models
import kdal_cli.samplers
from kdal_cli import oracle as oracles
from kdal_cli.build.bind import bind, make
from kdal_cli.build.registry import resolve
from kdal_cli.commands._lab import Blueprint
from kdal_cli.commands.al_loop import Sampler
from kdal_cli.data._split import Split, split_ids
from kdal_cli.errors import UserError, nearest
from kdal_cli.oracle import Oracle
from kdal_cli.types import ImageData, Shape, Watcher

Section = Mapping[str, Any]


def data(section: Section, trust: Sequence[str], watcher: Watcher) -> tuple[ImageData, torch.Tensor, torch.Tensor]:
    """The images, and the ids of the pool and of the validation images."""
    source = resolve(kdal_cli.data, section.get("name"), trust, "data")
    settings = bind(source, section, "data", given=1, besides=("name", "split", "augment"))
    split = make(Split, section.get("split", {}), "data.split")
    images = source(watcher, **settings)
    return images, *split_ids(len(images.train), split)


def blueprint(section: Section, shape: Shape, trust: Sequence[str], where: str) -> Blueprint:
    """An architecture for images of this shape. It is built once here, so that what cannot be built is refused now.

    An argument that is an nn.Module is an architecture itself, a section within the section.
    """
    architecture = resolve(kdal_cli.models, section.get("name"), trust, where)
    nested = [key for key, hint in get_type_hints(architecture).items() if hint is nn.Module and key != "return"]
    inner = {key: blueprint(section.get(key) or {}, shape, trust, f"{where}.{key}") for key in nested}
    settings = bind(architecture, section, where, given=1, besides=("name", *nested))

    def build() -> nn.Module:
        return architecture(shape, **settings, **{key: part.make() for key, part in inner.items()})

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
