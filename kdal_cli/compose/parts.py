"""Sections of the configuration to the objects that they describe."""

import functools
import importlib.util
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, get_type_hints

import torch
from torch import nn

import kdal_cli.baselines
import kdal_cli.compression
import kdal_cli.data
import kdal_cli.labels.oracles
import kdal_cli.models
import kdal_cli.samplers
import kdal_cli.trackers
from kdal_cli.compose import start
from kdal_cli.compose.bind import bind, make
from kdal_cli.compose.registry import names, resolve
from kdal_cli.compose.sketch import refuse_misfit
from kdal_cli.dataset import ImageData, Labels, Shape
from kdal_cli.errors import UserError
from kdal_cli.images.simulate import long_tail, with_duplicates
from kdal_cli.images.split import Ids, Split, split_ids, test_ids
from kdal_cli.inference.evidence import Sampler
from kdal_cli.lab.baselines import Baseline, column
from kdal_cli.lab.blueprint import Blueprint, named
from kdal_cli.lab.seed_set import class_balanced
from kdal_cli.labels.desk import Desk
from kdal_cli.labels.oracle import Oracle
from kdal_cli.labels.oracles.simulated import simulated
from kdal_cli.records.checkpoint import Checkpoint
from kdal_cli.records.shapes import PRUNED, reshaped
from kdal_cli.records.tracking import Tracker
from kdal_cli.stages.compress import Method
from kdal_cli.streams import Streams, undisturbed
from kdal_cli.types import Watcher
from kdal_cli.values import NonNegative, Within

Section = Mapping[str, Any]


@dataclass(frozen=True)
class Trouble:
    """What is made worse about a data set. imbalance: how many images the largest class of the training images has for
    one of the smallest. duplicates: copies for each image of the pool."""

    imbalance: Annotated[float, Within(1)] = 1.0
    duplicates: NonNegative = 0.0


def data(section: Section, trust: Sequence[str], watcher: Watcher) -> tuple[ImageData, Ids]:
    """The images, and how they are divided."""
    source = resolve(kdal_cli.data, section.get("name"), trust, "data")
    own = [field.name for field in fields(Trouble)]
    settings = bind(source, section, "data", given=1, besides=("name", "split", "augment", "until", *own))
    split = make(Split, section.get("split", {}), "data.split")
    trouble = make(Trouble, {key: section[key] for key in own if key in section}, "data")
    images: ImageData = source(watcher, **settings)
    if len(images.classes) < 2:
        raise UserError(f"data={images.name} has one class: {', '.join(images.classes)}", cure="two are needed")
    streams = Streams(split.seed)
    ids = torch.arange(len(images.train))
    ids = ids[~torch.isin(ids, images.validation)]
    images = _tested(images, ids, split)
    ids = ids[~torch.isin(ids, images.asked)]
    labels = images.train.labels
    if trouble.imbalance > 1:
        if len(labels.among(ids)) < len(ids):
            raise UserError(f"data.imbalance={trouble.imbalance:g}", cure="every training image must have a label")
        ids = ids[long_tail(labels.of(ids), trouble.imbalance, streams.at("long tail"))]
    divided = split_ids(ids, labels, split, images.validation)
    if trouble.duplicates:
        images, pool = with_duplicates(images, divided.pool, trouble.duplicates, streams.at("duplicates"))
        taught = divided.teacher if split.teacher else images.train.labels.among(pool)
        divided = replace(divided, pool=pool, teacher=taught)
    return images, divided


def _tested(images: ImageData, ids: torch.Tensor, split: Split) -> ImageData:
    """Images with a test set, of images `ids` (N,) for training where they came without one.

    Raises UserError where they would have none, or two.
    """
    if split.test is None and not len(images.test):
        cure = "put some into test/<class>/, or buy the labels of some first: data.split.test=200"
        raise UserError(f"data={images.name} has no test image, so that nothing could be measured", cure=cure)
    if split.test is not None and len(images.test):
        what = f"data={images.name} has {len(images.test):,} test images"
        raise UserError(f"data.split.test={split.test}", where=what, cure="leave it out")
    return images if split.test is None else images.tested_on(test_ids(ids, split))


def blueprint(
    section: Section,
    shape: Shape,
    trust: Sequence[str],
    where: str,
    saved: Checkpoint | None = None,
    *,
    classes: tuple[str, ...] | None = None,
    download: bool = False,
) -> Blueprint:
    """An architecture for images of this shape. It is built once here, so that what cannot be built is refused now.

    saved: the weights that it is for. Others are refused before anything is built, and none are read to start from.
    classes: of the data: weights to start from that know others get a new head. download: whether weights that are
    published may be fetched.
    """
    plain, wanted = start.split(section, where)
    plain, shaped = start.pruned(plain, wanted, saved)
    shape = wanted.inner(shape)
    make = architecture(plain, trust, where, shaped=shaped)
    if saved is not None and not is_own(plain):
        refuse_misfit(make, named(plain), saved, shape)
    make_published = None
    if saved is None and wanted.published:
        start.refuse_download(plain, where, download)
        make_published = architecture(plain, trust, where, published=True)

    def build() -> nn.Module:
        return make(shape)

    begun = start.Begun()
    with undisturbed():
        body = build()
        if not isinstance(body, nn.Module):
            told = f"{where}.name={section['name']} makes a {type(body).__name__}"
            raise UserError(told, cure="an nn.Module is needed")
        if make_published is not None:
            begun = start.published(make_published(shape), plain)
        elif saved is None and wanted.file is not None:
            begun = start.begin(body, wanted.file, plain, classes, where)
    _try(body, shape, where)
    own = wanted.preprocessing(begun.preprocessing, shape.channels, where)
    return Blueprint(plain, build, begun.start, own)


def architecture(
    section: Section, trust: Sequence[str], where: str, *, published: bool = False, shaped: Checkpoint | None = None
) -> Callable[[Shape], nn.Module]:
    """What makes a network for images of a shape; its name and arguments are checked.

    shaped: weights whose shapes a pruned one has.

    An argument that is an nn.Module is an architecture itself, a section within the section. published: with the
    weights that are published for it, whatever its arguments say; else without.
    """
    if PRUNED in section:
        pruned, section = section[PRUNED], {key: value for key, value in section.items() if key != PRUNED}
        if pruned is not True or shaped is None:
            cure = "its shapes are those of its weights: checkpoint=RUN, or weights=RUN and no pruned"
            raise UserError(f"{where}.{PRUNED}={pruned}", where="a pruned network is no architecture", cure=cure)
        whole = architecture(section, trust, where)
        return lambda shape: _cut(whole(shape), shaped)
    make = resolve(kdal_cli.models, section.get("name"), trust, where)
    nested = [key for key, hint in get_type_hints(make).items() if hint is nn.Module and key != "return"]
    inner = {key: architecture(section.get(key) or {}, trust, f"{where}.{key}") for key in nested}
    settings = bind(make, section, where, given=1, besides=("name", *nested))
    if published and "pretrained" not in inspect.signature(make).parameters:
        cure = "weights=FILE; torchvision and timm have some"
        raise UserError(f"{where}.weights=imagenet", where=f"{section['name']} has no published weights", cure=cure)
    if published or "pretrained" in settings:
        settings["pretrained"] = published

    def build(shape: Shape) -> nn.Module:
        return make(shape, **settings, **{key: part(shape) for key, part in inner.items()})

    return build


def _cut(body: nn.Module, shaped: Checkpoint) -> nn.Module:
    """A body as small as weights that were pruned, with as many classes as it has."""
    own, head = body.state_dict(), f"{start.head_of(body)}."
    sides = {
        name: (len(own[name]) if name.startswith(head) else len(w), *w.shape[1:])
        for name, w in shaped.weights.items()
        if name in own and w.dim()
    }
    return reshaped(body, sides)


def method(section: Section, trust: Sequence[str]) -> Method:
    """What compresses a student."""
    kind = resolve(kdal_cli.compression, section.get("name"), trust, "compress")
    return make(kind, {key: value for key, value in section.items() if key != "name"}, "compress")


def is_own(section: Section) -> bool:
    """Whether an architecture is, or holds, the user's own code, which may need its numbers while it is built."""
    inner = any(is_own(value) for value in section.values() if isinstance(value, Mapping))
    return inner or ":" in str(section.get("name"))


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


def sampler(section: Section | str, trust: Sequence[str], where: str = "sampler") -> Sampler:
    """A sampler of its settings, or of its name alone; so is an argument that is a sampler, and each of a list."""
    section = {"name": section} if isinstance(section, str) else section
    if not isinstance(section, Mapping):
        cure = "the name of a sampler, or its section: {name: bald, draws: 20}"
        raise UserError(f"{where}={json.dumps(section)}", cure=cure)
    choose = resolve(kdal_cli.samplers, section.get("name"), trust, where)
    hints = get_type_hints(choose)
    inner: dict[str, Any] = {}
    for key, hint in hints.items():
        if key not in section:
            continue
        if hint == Sampler:
            inner[key] = sampler(section[key], trust, f"{where}.{key}")
        elif hint == Sequence[Sampler]:
            several = section[key] if isinstance(section[key], list) else [section[key]]
            inner[key] = [sampler(each, trust, f"{where}.{key}[{i}]") for i, each in enumerate(several)]
    return functools.partial(choose, **bind(choose, section, where, given=3, besides=("name", *inner)), **inner)


def seed_set(section: Section, labels: Labels, pool: torch.Tensor, trust: Sequence[str]) -> Sampler:
    """The sampler of round 0; `class_balanced` is the one that is shown the true labels, of all the pool."""
    if section.get("name") == "class_balanced":
        bind(class_balanced, section, "seed_set", given=1, besides=("name",))
        _refuse_unknown("seed_set=class_balanced", labels, pool, "seed_set=random, or typical")
        return class_balanced(labels)
    return sampler(section, trust, "seed_set")


def baselines(value: Any, trust: Sequence[str]) -> dict[str, Baseline]:
    """{name of its column: simple model}, of a list of names or sections, of one alone, or of nothing."""
    listed = value if isinstance(value, list) else [] if value in (None, "none") else [value]
    found: dict[str, Baseline] = {}
    for place, section in enumerate(listed):
        where = f"baselines[{place}]"
        section = section if isinstance(section, Mapping) else {"name": section}
        name = section.get("name")
        kind = resolve(kdal_cli.baselines, name, trust, where)
        baseline: Baseline = kind(**bind(kind, section, where, besides=("name",)))
        called = column(str(name), baseline)
        if called in found:
            raise UserError(f"{where} is {called} again", cure="name each once, or on another space")
        found[called] = baseline
    return found


def oracle(section: Section, data: ImageData, pool: torch.Tensor, desk: Desk, trust: Sequence[str]) -> Oracle:
    """Who sells the labels of the images `pool` (P,): `simulated` is given those of the data set, others the desk.

    Raises UserError where the data set does not know them.
    """
    sell = resolve(kdal_cli.labels.oracles, section.get("name"), trust, "oracle")
    if sell is not simulated:
        other = section.get("person")
        inner = {"person": {"name": other} if isinstance(other, str) else other} if "person" in section else {}
        people = {key: oracle(part or {}, data, pool, desk, trust) for key, part in inner.items()}
        return sell(desk, **bind(sell, section, "oracle", given=1, besides=("name", *inner)), **people)
    settings = bind(simulated, section, "oracle", given=2, besides=("name",))
    _refuse_unknown("oracle=simulated", data.train.labels, pool, "oracle=page or oracle=files, or data with labels")
    return simulated(data.train.labels, len(data.classes), **settings)


def _refuse_unknown(who: str, labels: Labels, pool: torch.Tensor, cure: str) -> None:
    """Raise UserError where somebody has to know all labels of the images `pool` (P,), and some are unknown."""
    unknown = len(pool) - len(labels.among(pool))
    if unknown:
        raise UserError(f"{who}: {unknown:,} of the {len(pool):,} images of the pool have no label", cure=cure)


def tracker(section: Section, trust: Sequence[str]) -> Callable[..., Tracker] | None:
    """What begins a tracker in a run folder with a configuration; None for `tracker=none`.

    Raises UserError where the package of one of ours is not installed: it has the tracker's name.
    """
    name = section.get("name")
    if name is None:
        return None
    if name in names(kdal_cli.trackers) and importlib.util.find_spec(name) is None:
        raise UserError(f"tracker={name} needs the package {name}", cure=f"pip install 'kdal[{name}]'")
    begin = resolve(kdal_cli.trackers, name, trust, "tracker")
    return functools.partial(begin, **bind(begin, section, "tracker", given=2, besides=("name",)))
