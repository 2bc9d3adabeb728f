"""Weights of another task for an architecture: its body as it is in the file, and a head of its own.

All of the body or nothing: a network is never filled in part. What the file has besides (another head, a projector, a
momentum encoder) is left out and named.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kdal_cli.records.fit import COUNTER, State, fit, places, refuse, without_bookkeeping

DEEPEST = 4
"""A prefix has no more parts: `module.model.backbone.body.`"""


@dataclass(frozen=True)
class Transfer:
    """weights: under the names of the architecture, those of its head only where the file has one of that shape.

    head: whether it has. left_out: in words, what else is in the file. notes: what was done to names and numbers.
    """

    weights: dict[str, Tensor]
    head: bool
    left_out: str
    notes: tuple[str, ...]


def transfer(theirs: State, ours: State, head: str, network: str, where: Path, *, keep_head: bool = True) -> Transfer:
    """What of a file goes into the architecture whose state dict is `ours`, and whose last layer is module `head`.

    network: the architecture in words. keep_head: whether the file's own may be taken, its classes being the same.
    Raises UserError unless every name, shape and kind of number of the body agrees.
    """
    named, prefix = _below_a_prefix(without_bookkeeping(theirs), ours)
    own = {name: tensor for name, tensor in ours.items() if name.startswith(f"{head}.")}
    kept = keep_head and all(name in named and named[name].shape == tensor.shape for name, tensor in own.items())
    body = {name: tensor for name, tensor in ours.items() if kept or name not in own}
    found = {name: tensor for name, tensor in named.items() if name in body}
    _refuse_lack(body, named, network, where)
    weights, notes = fit(found, body, network, where)
    rest = [name for name in named if name not in body and not name.endswith(COUNTER)]
    renamed = (f"without the prefix {prefix}",) if prefix else ()
    return Transfer(weights, kept, places(rest, weights) if rest else "", (*renamed, *notes))


def refuse_other_body(
    theirs: State, ours: State, head: str, network: str, where: Path, fixed: Mapping[str, bool]
) -> None:
    """Raise UserError unless the names of a body agree, and the shapes of those tensors that are `fixed`.

    The shapes of others hang on images that are not there yet.
    """
    named, _ = _below_a_prefix(without_bookkeeping(theirs), ours)
    body = {
        name: tensor if fixed[name] or name not in named else named[name]
        for name, tensor in ours.items()
        if not name.startswith(f"{head}.")
    }
    _refuse_lack(body, named, network, where)
    fit({name: tensor for name, tensor in named.items() if name in body}, body, network, where)


def _refuse_lack(body: State, named: State, network: str, where: Path) -> None:
    missing = [name for name in body if name not in named and not name.endswith(COUNTER)]
    if missing:
        refuse(f"it lacks {places(missing, named)}", named, network, where)


def digest(weights: State) -> str:
    """SHA-256 of tensors with their names, types and shapes."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _below_a_prefix(theirs: State, ours: State) -> tuple[dict[str, Tensor], str]:
    """(their tensors by the names that they have below one prefix, that prefix), which leaves most names of ours.

    Names that do not begin with it stay as they are; where two are the same then, the one below the prefix counts.
    """
    prefixes = {""}
    for name in theirs:
        parts = name.split(".")[:-1]
        prefixes |= {".".join(parts[:length]) + "." for length in range(1, min(len(parts), DEEPEST) + 1)}
    below = {prefix: sum(prefix + name in theirs for name in ours) for prefix in prefixes}
    prefix = max(sorted(prefixes, key=len), key=lambda each: below[each])
    others = {name: tensor for name, tensor in theirs.items() if not name.startswith(prefix)}
    return others | {name.removeprefix(prefix): theirs[name] for name in theirs if name.startswith(prefix)}, prefix
