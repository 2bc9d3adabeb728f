"""YAML from outside, measured before it is built: a file is data, and so is its size.

Bytes are bounded before they are read, nodes and depth as the parser meets them. An alias counts as all that it stands
for, because OmegaConf copies it: a few hundred bytes of nested aliases are millions of nodes.
"""

import os
import stat
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from kdal_cli.errors import UserError

BYTES = 1 << 18
"""Of a file. Ours have 4 KB at most, the configuration that a run saves 10 KB."""

NODES = 10_000
DEPTH = 32


def read_yaml(path: Path) -> tuple[str, Any]:
    """(text, configuration of OmegaConf) of a file. Raises UserError, naming the file, for what is none or too much."""
    text = _text(path)
    try:
        _measure(text, path)
        return text, OmegaConf.create(text)
    except UserError:
        raise
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"not valid YAML{line}", where=path, cure=error.problem or "") from None
    except Exception as error:  # whatever a reader of YAML stumbles over is in the file
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError("not a valid configuration", where=path, cure=reason[0]) from error


def _text(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would keep us waiting
        with os.fdopen(handle, "rb") as file:
            regular = stat.S_ISREG(os.fstat(handle).st_mode)
            data = file.read(BYTES + 1) if regular else b""
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from None
    if not regular:
        raise UserError("not a file", where=path, cure="a YAML file is needed")
    if len(data) > BYTES:
        raise UserError("this file is too large for a configuration", where=path, cure=f"at most {BYTES:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"this is not text, from byte {error.start} on", where=path, cure="UTF-8 is needed") from None


def _measure(text: str, path: Path) -> None:
    """Raises UserError when the nodes of a text are too many or too deep, or hold themselves."""
    nodes, sizes, above = 0, {}, []  # sizes: {anchor: nodes}; above: (anchor, nodes before it) of what is open
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            nodes += sizes.get(event.anchor, NODES)  # one that is not closed yet holds itself
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            sizes.pop(event.anchor, None)
            above.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = above.pop()
            sizes[anchor] = nodes - before
        if nodes >= NODES or len(above) > DEPTH:
            cure = f"fewer than {NODES:,} values, at most {DEPTH} one within the other; aliases count as often as used"
            raise UserError("this is too much for a configuration", where=path, cure=cure)
