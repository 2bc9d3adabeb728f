"""Sections of the configuration to what they describe, and each way in which they can be wrong."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from kdal_cli.compose import parts
from kdal_cli.data.blobs import blobs
from kdal_cli.dataset import ImageData, Labels, Shape
from kdal_cli.errors import UserError
from kdal_cli.inference.evidence import Evidence, Sampler
from kdal_cli.models.resnet import resnet
from kdal_cli.network import Network
from kdal_cli.samplers.bald import bald
from kdal_cli.samplers.margin import margin
from kdal_cli.samplers.random import random
from kdal_cli.training.objective import Objective
from kdal_cli.types import Batch, Query, Unwatched, Watcher
from kdal_cli.values import Share

SHAPE = Shape(3, 8, 8, 5)
KD = {"name": "kd", "temperature": 2.0}


def network(width: int) -> Network:
    body = resnet(SHAPE, depth=8, widths=(8, 8, 8, width))
    return Network(body, (0.5,) * 3, (0.25,) * 3)


def batch(labels: int = 3) -> Batch:
    pixels = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(torch.arange(5), torch.zeros(5), pixels, torch.arange(labels))


def losses(objective: Objective, student: Network, teacher: Network, progress: float = 0.0) -> dict[str, Tensor]:
    with torch.no_grad():
        return objective(student(batch().pixels), teacher(batch().pixels), batch(), progress)


@pytest.fixture
def make_evidence() -> Callable[[Tensor], Evidence]:
    """`make_evidence(ids)`: a pool that nobody has looked at."""

    def make(ids: Tensor) -> Evidence:
        none = torch.zeros(0, dtype=torch.int64)
        return Evidence(ids, none, none, 3, None)  # type: ignore[arg-type]

    return make


# Architectures.


def test_a_blueprint_makes_a_new_network_each_time_and_remembers_what_it_is() -> None:
    section = {"name": "mlp", "hidden": [6], "dropout": 0.1}
    blueprint = parts.blueprint(section, SHAPE, [], "student")
    one, two = blueprint.make(), blueprint.make()
    assert blueprint.spec == section
    assert one is not two
    assert one.fc.weight.shape == (5, 6)


def test_checking_it_moves_no_generator() -> None:
    before = torch.get_rng_state()
    parts.blueprint({"name": "mlp"}, SHAPE, [], "student")
    assert torch.equal(torch.get_rng_state(), before)


def no_module(shape: Shape) -> str:
    return "net"


def other_classes(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape.channels * shape.height * shape.width, shape.classes + 1))


def other_images(shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(7, shape.classes))


def two_answers(shape: Shape) -> nn.Module:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    return Two()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (no_module, "student.name={name} makes a str: an nn.Module is needed"),
        (other_classes, "student answers (1, 6) for one image: logits of shape (1, 5) are needed"),
        (other_images, "student cannot take images of (3, 8, 8): "),
        (two_answers, "student answers tuple for one image: logits of shape (1, 5) are needed"),
    ],
)
def test_what_cannot_classify_these_images_is_refused_before_it_trains(make, line: str) -> None:
    name = f"{__name__}:{make.__name__}"
    with pytest.raises(UserError) as refused:
        parts.blueprint({"name": name}, SHAPE, [__name__.split(".")[0]], "student")
    assert str(refused.value).startswith(line.format(name=name))


def test_an_architecture_that_does_not_fit_the_images_says_so() -> None:
    with pytest.raises(UserError, match="4 × 4 pixels"):
        parts.blueprint({"name": "small_cnn"}, Shape(1, 3, 3, 2), [], "student")


# Everything else.


# Samplers, and samplers within samplers.


def test_a_sampler_is_its_function_with_its_arguments() -> None:
    chosen = parts.sampler({"name": "bald", "draws": 4}, [])
    assert (chosen.func, chosen.keywords) == (bald, {"draws": 4})  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"^sampler\.draws=0: accepted: a whole number at least 2"):
        parts.sampler({"name": "bald", "draws": 0}, [])
    with pytest.raises(UserError, match=r"^sampler\.rng=1 .no such key"):
        parts.sampler({"name": "margin", "rng": 1}, [])


def test_a_name_alone_is_a_sampler_with_its_defaults() -> None:
    assert parts.sampler("bald", []).func is bald  # type: ignore[attr-defined]
    assert parts.sampler("bald", []).keywords == {}  # type: ignore[attr-defined]


def within(pool: Evidence, k: int, rng: Generator, *, of: Sampler, share: Share = 0.5) -> Query:
    return of(pool, k, rng)


def several(pool: Evidence, k: int, rng: Generator, *, of: Sequence[Sampler] = (margin,)) -> Query:
    return of[-1](pool, k, rng)


WITHIN, SEVERAL = f"{__name__}:within", f"{__name__}:several"


def own(section: dict) -> functools.partial:
    return parts.sampler(section, [__name__.split(".")[0]])  # type: ignore[return-value]


@pytest.mark.parametrize("of", ["bald", {"name": "bald"}, {"name": "bald", "draws": 7}])
def test_an_argument_that_is_a_sampler_is_a_name_or_a_section_of_its_own(of) -> None:
    outer = own({"name": WITHIN, "of": of, "share": 1})
    assert (outer.func, outer.keywords["share"]) == (within, 1.0)
    assert outer.keywords["of"].func is bald
    assert outer.keywords["of"].keywords == ({"draws": 7} if "draws" in of else {})


@pytest.mark.parametrize("of", ["margin", ["margin"], [{"name": "margin"}]])
def test_several_may_be_one(of) -> None:
    [only] = own({"name": SEVERAL, "of": of}).keywords["of"]
    assert only.func is margin


def test_several_keep_their_order_and_may_hold_samplers_within_samplers() -> None:
    inner = {"name": WITHIN, "of": {"name": SEVERAL, "of": ["margin", {"name": "bald", "draws": 3}]}}
    one, two = own({"name": SEVERAL, "of": [inner, "random"]}).keywords["of"]
    assert (one.func, two.func) == (within, random)
    assert [each.func for each in one.keywords["of"].keywords["of"]] == [margin, bald]


def test_an_argument_that_is_left_out_keeps_its_default_or_is_missing() -> None:
    assert own({"name": SEVERAL}).keywords == {}
    with pytest.raises(UserError, match=r"^sampler\.of is missing"):
        own({"name": WITHIN})


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"name": WITHIN, "of": "magin"}, "sampler.of.name=magin: did you mean 'margin'?"),
        ({"name": WITHIN, "of": {"draws": 3}}, "sampler.of.name=None: "),
        (
            {"name": WITHIN, "of": {"name": "bald", "draws": 0}},
            "sampler.of.draws=0: accepted: a whole number at least 2",
        ),
        ({"name": WITHIN, "of": {"name": "margin", "draws": 3}}, "sampler.of.draws=3 (no such key)"),
        ({"name": WITHIN, "of": 5}, "sampler.of=5: the name of a sampler, or its section"),
        ({"name": WITHIN, "of": None}, "sampler.of=null: the name of a sampler, or its section"),
        ({"name": WITHIN, "of": ["margin"]}, 'sampler.of=["margin"]: the name of a sampler, or its section'),
        ({"name": WITHIN, "of": "margin", "share": 2}, "sampler.share=2: accepted: a finite number from 0 to 1"),
        ({"name": WITHIN, "of": "other.module:sampler"}, "sampler.of.name=other.module:sampler is code from outside"),
        ({"name": SEVERAL, "of": ["margin", "magin"]}, "sampler.of[1].name=magin: did you mean 'margin'?"),
        ({"name": SEVERAL, "of": [["margin"]]}, 'sampler.of[0]=["margin"]: the name of a sampler, or its section'),
        ({"name": SEVERAL, "of": None}, "sampler.of[0]=null: the name of a sampler, or its section"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_within_is_told_by_the_whole_path(section: dict, line: str) -> None:
    with pytest.raises(UserError) as refused:
        own(section)
    assert str(refused.value).startswith(line)


# The seed set.

TRUTH = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
KNOWN = Labels.complete(TRUTH)


def test_the_seed_set_is_a_sampler_like_any_other_but_class_balanced_sees_the_labels(make_evidence) -> None:
    assert parts.seed_set({"name": "bald", "draws": 3}, KNOWN, torch.arange(8), []).func is bald  # type: ignore[attr-defined]
    balanced = parts.seed_set({"name": "class_balanced"}, KNOWN, torch.arange(8), [])
    chosen = balanced(make_evidence(torch.arange(8)), 3, torch.Generator().manual_seed(0))
    assert sorted(TRUTH[chosen.rows].tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"name": "class_balanced", "per_class": 3}, "seed_set.per_class=3 (no such key)"),
        ({"name": "class_balancd"}, "seed_set.name=class_balancd: "),
        ({"name": "bald", "draws": 0}, "seed_set.draws=0: accepted"),
        ({}, "seed_set.name=None: "),
    ],
)
def test_what_is_wrong_of_the_seed_set_is_told_by_its_own_key(section: dict, line: str) -> None:
    with pytest.raises(UserError) as refused:
        parts.seed_set(section, KNOWN, torch.arange(8), [])
    assert str(refused.value).startswith(line)


def test_class_balanced_is_no_sampler_of_the_rounds_that_follow() -> None:
    """It would be shown labels that are still to be bought."""
    with pytest.raises(UserError, match=r"^sampler\.name=class_balanced: "):
        parts.sampler({"name": "class_balanced"}, [])


# Oracles and data.

NO_DESK: Any = None


def test_an_oracle_sells_the_labels_of_the_data_it_is_given(images: ImageData) -> None:
    answer = parts.oracle({"name": "simulated", "price": 2}, images, torch.arange(96), NO_DESK, [])(
        torch.tensor([2, 0])
    )
    assert answer.labels.tolist() == images.train.labels.all()[[2, 0]].tolist()
    assert answer.costs.tolist() == [2.0, 2.0]
    wrong = parts.oracle({"name": "simulated", "noise": 1}, images, torch.arange(96), NO_DESK, [])(
        torch.arange(96)
    ).labels
    assert (wrong != images.train.labels.all()).all()
    assert set(wrong.tolist()) == {0, 1, 2}


def test_whoever_has_to_know_all_labels_of_the_pool_refuses_one_that_is_unknown(images: ImageData) -> None:
    some = Labels(96, torch.arange(90), images.train.labels.all()[:90])
    data = replace(images, train=replace(images.train, labels=some))
    told = "4 of the 6 images of the pool have no label: "
    pool = torch.tensor([0, 89, 90, 91, 92, 95])
    with pytest.raises(UserError) as refused:
        parts.oracle({"name": "simulated"}, data, pool, NO_DESK, [])
    assert str(refused.value) == f"oracle=simulated: {told}oracle=page or oracle=files, or data with labels"
    with pytest.raises(UserError) as refused:
        parts.seed_set({"name": "class_balanced"}, some, pool, [])
    assert str(refused.value) == f"seed_set=class_balanced: {told}seed_set=random, or typical"
    assert parts.oracle({"name": "simulated"}, data, torch.arange(90), NO_DESK, [])(pool[:2]).labels.tolist()


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"name": "person"}, "oracle.name=person: "),
        ({"name": "simulated", "price": -1}, "oracle.price=-1: accepted: a finite number at least 0"),
        ({"name": "simulated", "noise": 1.5}, "oracle.noise=1.5: accepted: a finite number from 0 to 1"),
        ({"name": "simulated", "classes": 3}, "oracle.classes=3 (no such key)"),
        ({"name": "files", "hints": 3}, "oracle.hints=3: accepted: true or false"),
    ],
)
def test_an_oracle_that_there_is_not_or_that_cannot_sell_so_is_refused(images: ImageData, section, line: str) -> None:
    with pytest.raises(UserError) as refused:
        parts.oracle(section, images, torch.arange(96), NO_DESK, [])
    assert str(refused.value).startswith(line)


DATA = {
    "name": "blobs",
    "train": 120,
    "test": 8,
    "split": {"validation": 10, "pool": None, "seed": 0},
    "augment": {"pad": 1, "flip": False},
}


def test_data_come_with_the_ids_of_the_pool_and_of_the_validation_images(notes) -> None:
    images, pool, validation = divided(DATA, notes)
    assert len(images.train) == 120
    assert sorted([*pool.tolist(), *validation.tolist()]) == list(range(120))
    assert len(validation) == 10
    with pytest.raises(UserError, match=r"^data\.split\.validation=-1"):
        parts.data({**DATA, "split": {"validation": -1}}, [], notes)
    with pytest.raises(UserError, match=r"^data\.trian=3 .no such key.: did you mean 'train'"):
        parts.data({**DATA, "trian": 3}, [], notes)


def divided(section: dict, notes) -> tuple[ImageData, Tensor, Tensor]:
    """(images, ids of the pool, ids of the validation images)"""
    images, ids = parts.data(section, [], notes)
    return images, ids.pool, ids.validation


def same(one: tuple, two: tuple) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one[1:], two[1:], strict=True)) and torch.equal(
        one[0].train.pixels, two[0].train.pixels
    )


def test_no_trouble_is_what_there_was_without_it(notes) -> None:
    assert same(divided(DATA, notes), divided({**DATA, "imbalance": 1, "duplicates": 0.0}, notes))


def test_a_long_tail_is_cut_before_the_split_and_leaves_ids_what_they_are(notes) -> None:
    images, pool, validation = divided({**DATA, "imbalance": 10}, notes)
    left = torch.cat([pool, validation])
    assert images.train.labels.all()[left].bincount().tolist() == [30, 14, 6, 3]
    assert len(images.train) == 120
    assert len(validation) == 10
    assert len(left.unique()) == len(left) == 53


def test_a_long_tail_that_leaves_too_few_images_says_how_many(notes) -> None:
    with pytest.raises(UserError, match="there are 53 training images"):
        parts.data({**DATA, "imbalance": 10, "split": {"validation": 60}}, [], notes)


@pytest.mark.parametrize("imbalance", [1, 10])
def test_copies_are_of_the_pool_and_validation_stays_what_it_was(notes, imbalance: int) -> None:
    section = {**DATA, "imbalance": imbalance}
    images, pool, validation = divided(section, notes)
    longer, more, same_validation = divided({**section, "duplicates": 0.5}, notes)
    copies = round(len(pool) / 2)
    assert torch.equal(same_validation, validation)
    assert more.tolist() == [*pool.tolist(), *range(120, 120 + copies)]
    known = {bytes(image.numpy()) for image in images.train.pixels[pool]}
    assert all(bytes(image.numpy()) in known for image in longer.train.pixels[120:])


def test_trouble_hangs_on_the_seed_of_the_split(notes) -> None:
    trouble = {**DATA, "imbalance": 10, "duplicates": 0.5}
    assert same(divided(trouble, notes), divided(trouble, notes))
    other = divided({**trouble, "split": {"validation": 10, "seed": 1}}, notes)
    assert not same(divided(trouble, notes), other)


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("imbalance", 0.5, "a finite number at least 1"),
        ("duplicates", -1, "a finite number at least 0"),
        ("imbalance", "much", "a finite number at least 1"),
    ],
)
def test_trouble_that_there_cannot_be_is_refused(notes, key: str, value, accepted: str) -> None:
    with pytest.raises(UserError) as refused:
        parts.data({**DATA, key: value}, [], notes)
    assert str(refused.value) == f"data.{key}={value}: accepted: {accepted}"


def test_one_class_alone_teaches_nothing(notes) -> None:
    with pytest.raises(UserError, match=r"^data=blobs has one class: .*: two are needed"):
        parts.data({**DATA, "classes": 1}, [], notes)


@pytest.mark.parametrize(
    "build",
    [
        lambda: parts.sampler({}, []),
        lambda: parts.oracle({}, None, torch.arange(3), NO_DESK, []),  # type: ignore[arg-type]
        lambda: parts.blueprint({}, SHAPE, [], "student"),
        lambda: parts.data({"split": {}}, [], None),  # type: ignore[arg-type]
    ],
    ids=["sampler", "oracle", "student", "data"],
)
def test_a_section_without_a_name_is_refused(build) -> None:
    with pytest.raises(UserError, match=r"^(sampler|oracle|student|data)\.name"):
        build()


def given_validation(watcher: Watcher) -> ImageData:
    """32 images of four classes, of which 20 to 25 came as a validation set."""
    return replace(blobs(watcher, train=32, test=8), validation=torch.arange(20, 26))


@pytest.mark.parametrize("trouble", [{}, {"imbalance": 4.0}, {"duplicates": 0.5}])
def test_validation_images_of_their_own_are_in_no_pool_whatever_is_made_worse(trouble: dict[str, float]) -> None:
    section = {"name": f"{__name__}:given_validation", "split": {"validation": 8, "pool": None}, **trouble}
    images, ids = parts.data(section, [__name__.split(".")[0]], Unwatched())
    assert ids.validation.tolist() == list(range(20, 26))
    assert not set(ids.pool.tolist()) & set(range(20, 26))
    assert torch.equal(ids.teacher, ids.pool)
    assert len(ids.pool) == (26 if not trouble else 39 if "duplicates" in trouble else len(ids.pool))
    assert len(ids.pool) < 26 or "imbalance" not in trouble
    assert max(ids.pool.tolist()) < len(images.train)
