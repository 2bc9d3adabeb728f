"""What a checkpoint of ours says of itself: all that is needed to use it where nothing else of its run is.

It is read from a file that may come from anywhere, so each value is looked at before anybody believes it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite
from typing import Any, TypeVar, get_args, get_type_hints

from kdal_cli.dataset import Preparation, Preprocessing, Shape
from kdal_cli.types import Calibration

SIDES = 2**16
"""Channels, height, width and classes are less."""

VALUES = 1000
"""An architecture has no more arguments, those of architectures within it included."""

LATER = ("size", "preparation", "calibration")
"""Keys that a card may lack."""

KINDS = {"integer", "float"}
"""Of values of more than 8 bits."""

Part = TypeVar("Part", Preparation, Calibration)


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of itself. model: the architecture and its arguments. trained_on: data and labels used.

    size: (height, width) that the network resizes images to, where it does. preparation: how a file becomes an image of
    this shape. calibration: None where there were no validation labels. A card may lack these three.
    """

    role: str
    model: dict[str, Any]
    shape: Shape
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data: str
    trained_on: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    preparation: Preparation = field(default_factory=Preparation)
    calibration: Calibration | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        made_for = self.size or (self.shape.height, self.shape.width)
        return Preprocessing(self.mean, self.std, self.size, made_for, self.crop)

    @property
    def crop(self) -> float | None:
        """The share of a photograph's shorter side that it sees, where it sees the middle of it."""
        return self.shape.height / self.preparation.side if self.preparation.side else None

    @property
    def inner(self) -> Shape:
        """Of the images that the architecture itself sees."""
        return self.shape if self.size is None else replace(self.shape, height=self.size[0], width=self.size[1])

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {key: value for key, value in asdict(self).items() if key != "size" or value is not None}


def parse(value: Any) -> Card:
    """The card that a JSON value stands for. Raises ValueError that names the first thing in it that is odd."""
    _demand(isinstance(value, dict) and {*value, *LATER} == {each.name for each in fields(Card)}, "its keys")
    sides = value["shape"]
    _demand(isinstance(sides, dict) and {*sides} == {each.name for each in fields(Shape)}, "its shape")
    _demand(all(type(side) is int and 0 < side < SIDES for side in sides.values()), "its shape")
    shape = Shape(**sides)
    classes = value["classes"]
    _demand(isinstance(classes, list) and all(isinstance(name, str) for name in classes), "its classes")
    _demand(len(classes) == len({*classes}) == shape.classes, "its classes")
    for key, least in (("mean", None), ("std", 0)):
        _demand(isinstance(value[key], list) and len(value[key]) == shape.channels, f"its {key}")
        _demand(all(_is_number(number) and (least is None or number > least) for number in value[key]), f"its {key}")
    for key in ("role", "data"):
        _demand(_is_word(value[key]), f"its {key}")
    _demand(isinstance(value["model"], dict) and _is_word(value["model"].get("name")), "its model")
    _demand(_plain_values(value["model"]) <= VALUES, "its model")
    trained = value["trained_on"]
    _demand(isinstance(trained, dict) and _plain_values(trained) <= VALUES, "its trained_on")
    labels = trained.get("labels", 0)
    _demand(_is_count(labels) and (not labels or _is_word(trained.get("data"))), "its trained_on")
    metrics = value["metrics"]
    _demand(isinstance(metrics, dict) and all(type(v) in (int, float) for v in metrics.values()), "its metrics")
    size = value.get("size")
    _demand(size is None or (isinstance(size, list) and len(size) == 2), "its size")
    _demand(size is None or all(type(side) is int and 0 < side < SIDES for side in size), "its size")
    told: dict[str, Any] = {key: tuple(value[key]) for key in ("classes", "mean", "std")}
    told["size"] = tuple(size) if size else None
    if "preparation" in value:
        told["preparation"] = _preparation(value["preparation"])
    if value.get("calibration") is not None:
        told["calibration"] = _calibration(value["calibration"])
    return Card(**{**value, "shape": shape, **told})


def _preparation(value: Any) -> Preparation:
    what = "its preparation"
    _demand(_has_keys(value, Preparation), what)
    for key, hint in get_type_hints(Preparation).items():
        if key in ("resize", "interpolation"):
            _demand(value[key] in get_args(hint), what)
    colour, ranges = value["background"], value["ranges"]
    _demand(type(value["side"]) is int and 0 <= value["side"] < SIDES, what)
    _demand(isinstance(colour, list) and len(colour) == 3 and all(level in range(256) for level in colour), what)
    _demand(isinstance(ranges, dict) and {*ranges} <= KINDS and all(map(_is_range, ranges.values())), what)
    spans = {kind: (float(low), float(high)) for kind, (low, high) in ranges.items()}
    return Preparation(**{**value, "background": tuple(colour), "ranges": spans})


def _calibration(value: Any) -> Calibration:
    what = "its calibration"
    value = {"sets": [], **value} if isinstance(value, dict) else value  # which a card may lack
    _demand(_has_keys(value, Calibration), what)
    _demand(_is_number(value["temperature"]) and value["temperature"] > 0, what)
    _demand(_is_count(value["images"]) and value["images"] > 0 and _is_share(value["threshold"]), what)
    rows = [value["ece"], *value["curve"]] if isinstance(value["curve"], list) else []
    _demand(1 < len(rows) <= VALUES and all(isinstance(row, list) and all(map(_is_share, row)) for row in rows), what)
    _demand(len(value["ece"]) == 2 and all(len(row) == 3 for row in value["curve"]), what)
    curve = tuple((low, answered, right) for low, answered, right in value["curve"])
    sets = value["sets"]
    _demand(isinstance(sets, list) and len(sets) <= VALUES and all(isinstance(row, list) for row in sets), what)
    _demand(all(len(row) == 2 and all(map(_is_share, row)) for row in sets), what)
    told = {"ece": tuple(value["ece"]), "curve": curve, "sets": tuple((share, low) for share, low in sets)}
    return Calibration(**{**value, **told})


def _has_keys(value: Any, kind: type[Part]) -> bool:
    return isinstance(value, dict) and {*value} == {each.name for each in fields(kind)}


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] <= value[1]


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _demand(sound: bool, what: str) -> None:
    if not sound:
        raise ValueError(what)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _plain_values(value: Any, depth: int = 5) -> int:
    """How many values there are below this one, itself included. Raises ValueError for what no argument is."""
    _demand(depth > 0, "its model")
    if isinstance(value, Mapping):
        _demand(all(_is_word(key) for key in value), "its model")
        return 1 + sum(_plain_values(each, depth - 1) for each in value.values())
    if isinstance(value, list):
        return 1 + sum(_plain_values(each, depth - 1) for each in value)
    _demand(
        value is None or isinstance(value, bool) or value == "" or _is_word(value) or _is_number(value), "its model"
    )
    return 1
