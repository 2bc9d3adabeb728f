"""A card comes from a file that anybody may have written: what is odd in it is named, and nothing of it believed."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from kdal_cli.dataset import Preparation, Shape
from kdal_cli.records.card import Card, parse
from kdal_cli.types import Calibration

CARD = Card(
    role="student",
    model={"name": "simkd", "backbone": {"name": "resnet", "depth": 8, "widths": [4, 4, 8, 8]}, "features": 8},
    shape=Shape(1, 3, 3, 2),
    classes=("кот", "dög, or =so"),
    mean=(0.25,),
    std=(0.125,),
    data="blobs",
    trained_on={"data": "blobs", "labels": 7, "validation_labels": 0},
    metrics={"accuracy": 0.75, "ece": float("nan")},
    preparation=Preparation(resize="shorter", side=4, background=(0, 128, 255), ranges={"integer": (0.0, 4095.0)}),
    calibration=Calibration(1.5, 40, (0.1, 0.05), 0.6, ((0.0, 1.0, 0.9), (0.6, 0.8, 0.95)), ((0.5, 0.9),)),
)


def card(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(asdict(CARD))), **changes}


def shape(**changes: Any) -> dict[str, Any]:
    return {**asdict(CARD.shape), **changes}


def preparation(**changes: Any) -> dict[str, Any]:
    return {**card()["preparation"], **changes}


def calibration(**changes: Any) -> dict[str, Any]:
    return {**card()["calibration"], **changes}


def nested(depth: int) -> dict[str, Any]:
    return {"name": "x", "a": nested(depth - 1)} if depth else {"name": "x"}


def test_a_card_comes_back_from_json_as_it_was() -> None:
    assert repr(parse(card())) == repr(CARD)


def test_a_card_of_an_older_version_is_stretched_to_a_square_and_not_calibrated() -> None:
    old = parse({key: value for key, value in card().items() if key not in ("preparation", "calibration")})
    assert (old.preparation, old.calibration) == (Preparation(), None)
    without = card(calibration={key: value for key, value in calibration().items() if key != "sets"})
    assert parse(without).calibration.sets == ()


@pytest.mark.parametrize(
    ("odd", "named"),
    [
        (None, "keys"),
        ([], "keys"),
        ("card", "keys"),
        ({}, "keys"),
        ({key: value for key, value in card().items() if key != "std"}, "keys"),
        (card(extra=1), "keys"),
        (card(shape=None), "shape"),
        (card(shape={"channels": 1}), "shape"),
        *((card(shape=shape(height=side)), "shape") for side in (-1, 0, 3.0, True, "3", None, 10**9, [3])),
        (card(shape=shape(classes=3)), "classes"),
        (card(classes="ab"), "classes"),
        (card(classes=["a"] * 2), "classes"),
        (card(classes=["a", 3]), "classes"),
        (card(classes=[str(n) for n in range(10**5)]), "classes"),
        (card(mean=0.25), "mean"),
        (card(preparation=None), "preparation"),
        (card(preparation=preparation(more=1)), "preparation"),
        (card(preparation=preparation(resize="tile")), "preparation"),
        (card(preparation=preparation(side=-1)), "preparation"),
        (card(preparation=preparation(background=[0, 0, 256])), "preparation"),
        (card(preparation=preparation(background="white")), "preparation"),
        (card(preparation=preparation(ranges={"integer": [5, 1]})), "preparation"),
        (card(preparation=preparation(ranges={"text": [0, 1]})), "preparation"),
        (card(calibration=1.5), "calibration"),
        (card(calibration=calibration(temperature=0)), "calibration"),
        (card(calibration=calibration(images=0)), "calibration"),
        (card(calibration=calibration(sets=[[0.5]])), "calibration"),
        (card(calibration=calibration(sets=[[0.5, 2]])), "calibration"),
        (card(calibration=calibration(sets=[[0.5, 0.5]] * 1001)), "calibration"),
        (card(calibration=calibration(ece=[0.1])), "calibration"),
        (card(calibration=calibration(threshold=2)), "calibration"),
        (card(calibration=calibration(curve=[])), "calibration"),
        (card(calibration=calibration(curve=[[0, 1]])), "calibration"),
        (card(calibration=calibration(curve=[[0, 1, 1]] * 5000)), "calibration"),
        (card(mean=[0.25, 0.25]), "mean"),
        (card(mean=[float("nan")]), "mean"),
        (card(std=[float("inf")]), "std"),
        (card(std=[0.0]), "std"),
        (card(std=["1"]), "std"),
        (card(role=3), "role"),
        (card(role="\x1b[2J"), "role"),
        (card(data="x" * 1000), "data"),
        (card(model="resnet"), "model"),
        (card(model={}), "model"),
        (card(model={"name": 3}), "model"),
        (card(model={"name": "resnet", "depth": float("inf")}), "model"),
        (card(model={"name": "resnet", "arch": "a\nb"}), "model"),
        (card(model={"name": "mlp", "hidden": [1] * 5000}), "model"),
        (card(model=nested(9)), "model"),
        (card(trained_on=[]), "trained_on"),
        (card(trained_on={"labels": "many", "data": "x"}), "trained_on"),
        (card(trained_on={"labels": 3}), "trained_on"),
        (card(trained_on={"labels": -3, "data": "x"}), "trained_on"),
        (card(metrics={"accuracy": "high"}), "metrics"),
        (card(metrics=[1]), "metrics"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_odd_card_is_refused_by_what_is_odd(odd: Any, named: str) -> None:
    with pytest.raises(ValueError, match=f"^its {named}$"):
        parse(odd)
