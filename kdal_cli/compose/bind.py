"""A signature is a schema: configuration is checked against the annotations of what it will be passed to.

Annotations understood: int, float, bool, str, Path, Literal, `X | None`, lists and tuples of these, `Annotated` with
the ranges of `kdal_cli.values`, and dataclasses, field by field. `**settings: Unpack[…]` of a TypedDict are its keys,
all of which may be left out (PEP 692).
"""

import dataclasses
import inspect
import json
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, Union, Unpack, get_args, get_origin, get_type_hints

from kdal_cli.errors import UserError, nearest
from kdal_cli.training.schedules import Schedule
from kdal_cli.values import Within, at_home


def bind(
    target: Callable[..., Any], section: Mapping[str, Any], where: str, given: int = 0, besides: Sequence[str] = ()
) -> dict[str, Any]:
    """The keyword arguments of `target` that a section of the configuration stands for, checked and converted.

    given: how many leading parameters the caller passes itself. besides: keys of the section that are somebody else's.
    where: the section's dotted key, for messages.
    Raises UserError naming key, value and what would be accepted.
    """
    parameters = dict(list(inspect.signature(target).parameters.items())[given:])
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    needed = {name: p for name, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    rest = next((hints.get(name, Any) for name, p in parameters.items() if p.kind is p.VAR_KEYWORD), None)
    shared = get_type_hints(get_args(rest)[0], include_extras=True) if get_origin(rest) is Unpack else {}
    anything, hints, accepted = rest is not None and not shared, hints | shared, [*needed, *shared]
    code = section.get("name") if "name" in besides else None
    section = {key: value for key, value in section.items() if key not in besides}
    for key in section:
        if key not in accepted and not anything:
            cure = nearest(str(key), [*accepted, *besides])
            if ":" in str(code):
                cure += f"; {where.partition('.')[0]}={code} brings no settings of another option"
            raise UserError(f"{_join(where, key)}={section[key]}", where="no such key", cure=cure)
    for name, parameter in needed.items():
        if name not in (*section, *besides) and parameter.default is inspect.Parameter.empty:
            raise UserError(f"{_join(where, name)} is missing", cure=f"set it: {_wanted(hints.get(name, Any))}")
    return {key: convert(value, hints.get(key, Any), _join(where, key)) for key, value in section.items()}


def make(target: Callable[..., Any], section: Mapping[str, Any], where: str) -> Any:
    """`target` called with a section of the configuration."""
    return target(**bind(target, section, where))


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotation wants it. Raises UserError otherwise."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint is inspect.Parameter.empty:
        return value
    if origin is Annotated:
        return _ranged(value, hint, where)
    if origin in (Union, types.UnionType):
        return _either(value, hint, where)
    if origin is Literal:
        return value if value in arguments else _refuse(value, hint, where)
    if origin in (list, tuple, Sequence):
        if not isinstance(value, list | tuple):
            return _refuse(value, hint, where)
        inner = arguments[0] if arguments else Any
        return (list if origin is list else tuple)(
            convert(item, inner, f"{where}[{i}]") for i, item in enumerate(value)
        )
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        return make(hint, value, where) if isinstance(value, Mapping) else _refuse(value, hint, where)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) <= sys.float_info.max else _refuse(value, hint, where)
    if hint is Path and isinstance(value, str | Path):
        return at_home(value)
    if hint is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if hint in (int, bool, str) and type(value) is hint:
        return value
    return _refuse(value, hint, where)


def schedule(section: Mapping[str, Any], hint: Any, where: str) -> Schedule:
    """A schedule whose ends are both values that `hint` accepts."""
    if section["schedule"] != "constant":
        section = {"start": 0.0, **section}
    ends = {key: convert(section[key], hint, _join(where, key)) for key in ("start", "end") if key in section}
    return make(Schedule, {**section, **ends}, where)


def is_schedule(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and "schedule" in value


def _ranged(value: Any, hint: Any, where: str) -> Any:
    kind, *limits = get_args(hint)
    try:
        number = convert(value, kind, where)
    except UserError:
        return _refuse(value, hint, where)  # with the range, not the kind alone
    inside = all(number in limit for limit in limits if isinstance(limit, Within))
    return number if inside else _refuse(value, hint, where)


def _either(value: Any, hint: Any, where: str) -> Any:
    choices = get_args(hint)
    if value is None:
        return None if type(None) in choices else _refuse(value, hint, where)
    rest = [choice for choice in choices if choice is not type(None)]
    if Schedule in rest and is_schedule(value):
        return schedule(value, rest[0], where)
    if len(rest) == 1:
        return convert(value, rest[0], where)
    for choice in rest:
        try:
            return convert(value, choice, where)
        except UserError:
            continue
    return _refuse(value, hint, where)


def _refuse(value: Any, hint: Any, where: str) -> Any:
    shown = json.dumps(value) if value is None or isinstance(value, bool) else value  # as it is written in YAML
    raise UserError(f"{where}={shown}", cure=f"accepted: {_wanted(hint)}")


def _wanted(hint: Any) -> str:
    """What an annotation accepts, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = " ".join(str(limit) for limit in arguments[1:] if isinstance(limit, Within))
        return f"{_wanted(arguments[0])} {limits}"
    if origin in (Union, types.UnionType):
        return " or ".join(_wanted(choice) for choice in arguments)
    if origin is Literal:
        return ", ".join(str(choice) for choice in arguments)
    if origin in (list, tuple, Sequence):
        return f"a list, each {_wanted(arguments[0])}" if arguments else "a list"
    if dataclasses.is_dataclass(hint):
        return f"a mapping of {', '.join(field.name for field in dataclasses.fields(hint))}"
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text", Path: "a path"}
    return words.get(hint, "null" if hint is type(None) else str(hint))


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else str(key)
