"""The folder is the registry: `name: margin` of a sampler is `kdal_cli/samplers/margin.py`, function `margin`.

A name with a colon, `my_pkg.my_mod:thing`, is the user's own code; its top package must be in `trust`, because a
configuration file that can name any code can run any code.
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from kdal_cli.errors import UserError, nearest


def resolve(package: ModuleType, name: object, trust: Sequence[str], where: str) -> Callable[..., Any]:
    """The function `name` of the module `name`, or its class in CamelCase. Raises UserError for what is not there."""
    known = names(package)
    if isinstance(name, str) and ":" in name:
        return _own_code(name, trust, where)
    if not isinstance(name, str) or name not in known:
        raise UserError(f"{where}.name={name}", cure=nearest(str(name), known))
    module = importlib.import_module(f"{package.__name__}.{name}")
    camel = "".join(word.capitalize() for word in name.split("_"))
    return getattr(module, name, None) or getattr(module, camel)


def names(package: ModuleType) -> list[str]:
    """Every name that a registry holds: its modules, without those that start with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def is_class(target: Callable[..., Any]) -> bool:
    return inspect.isclass(target)


def _own_code(name: str, trust: Sequence[str], where: str) -> Callable[..., Any]:
    path, _, attribute = name.partition(":")
    top = path.split(".")[0]
    if top not in trust:
        raise UserError(f"{where}.name={name} is code from outside", cure=f"say that you trust it: trust=[{top}]")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last: a file of this folder takes the place of no package that is installed
    cure = "package.module:name, importable from this folder"
    try:
        thing = getattr(importlib.import_module(path), attribute)
    except Exception as error:  # other people's code can raise anything
        raise UserError(f"{where}.name={name}: {error}", cure=cure) from None
    if not callable(thing):
        raise UserError(f"{where}.name={name}: {attribute} is a {type(thing).__name__}", cure=cure)
    return thing
