"""Weights that usual trainers and model hubs leave: found in their wrappings, read without running anything.

What comes back is a state dict with the names it has in the file; `kdal_cli.records.fit` holds them against an
architecture.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kdal_cli.errors import UserError, printable
from kdal_cli.records import torchfile
from kdal_cli.records.pickled import Opaque, Stored, Unreadable

AVERAGED = ("state_dict_ema", "model_ema", "ema")
"""What trainers call weights that were averaged over the steps."""

PLAIN = ("state_dict", "model_state_dict", "model", "net")
"""What they call the weights themselves."""

SAVE = "save model.state_dict()"

DEPTH = 3
"""So many wrappings may lie around a state dict."""


def read(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """(weights, what is to be said of them) of a file of `torch.save`.

    Raises UserError when it is none, is damaged, holds no state dict, or calls functions.
    """
    try:
        with torchfile.opened(path) as saved:
            found, notes = unwrap(saved.content)
            return saved.load(found), notes
    except Unreadable as error:
        raise UserError(f"checkpoint cannot be read: {error}", where=path, cure=SAVE) from None
    except Exception as error:  # a damaged archive can raise anything
        raise UserError("checkpoint cannot be read: it is damaged", where=path, cure="use another copy") from error


def unwrap(content: Any) -> tuple[Mapping[str, Stored], tuple[str, ...]]:
    """The state dict in what was saved, and where it was. Of plain and averaged weights the latter, as timm takes them.

    Raises Unreadable when there is none, or when it is open which one is meant.
    """
    notes: tuple[str, ...] = ()
    for _ in range(DEPTH):
        if _is_state(content):
            break
        if isinstance(content, Opaque):
            raise Unreadable("it holds a whole object, not its state dict")
        inner = content if isinstance(content, Mapping) else {}
        states = {key: value for key, value in inner.items() if isinstance(key, str) and _holds_state(value)}
        named = [key for key in (*AVERAGED, *PLAIN) if key in states] or [*states]
        if not named:
            raise Unreadable("it holds no state dict")
        first = named[0]
        if first not in AVERAGED + PLAIN and len(named) > 1:
            raise Unreadable(f"it holds several state dicts: {', '.join(map(printable, named[:5]))}")
        besides = [key for key in named[1:] if key in AVERAGED + PLAIN]
        if besides or first in AVERAGED:
            kind = "averaged weights" if first in AVERAGED else "weights"
            notes += (f"its {kind}, {first}" + (f", not {' or '.join(besides)}" if besides else ""),)
        content = states[first]
    if not _is_state(content):
        raise Unreadable("it holds no state dict")
    return content, notes


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(key, str) and isinstance(tensor, Stored) for key, tensor in value.items())
    )


def _holds_state(value: Any, depth: int = DEPTH - 1) -> bool:
    """Whether a value is a state dict, or one lies in it under a name that is known."""
    if _is_state(value) or depth == 0 or not isinstance(value, Mapping):
        return _is_state(value)
    return any(_holds_state(value.get(key), depth - 1) for key in (*AVERAGED, *PLAIN))
