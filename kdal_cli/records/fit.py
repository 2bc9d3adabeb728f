"""Weights held against an architecture: the same names, shapes and kinds of number, or a line that says what differs.

Weights from elsewhere may carry one prefix on all names (`module.`, `net.`, `_orig_mod.`, any of them within another),
counters that no network reads, and other floating types. All or nothing: a network is never filled in part.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from kdal_cli.errors import UserError, printable

BOOKKEEPING = ("total_ops", "total_params", "n_averaged")
"""Tensors that thop and AveragedModel put among the weights, and no network has."""

COUNTER = "num_batches_tracked"
"""Of batch-norm, which reads it only where it has no momentum; torch itself does not ask for it."""

FEW = 3
"""Modules that a line names of each kind."""

State = Mapping[str, Tensor]


def fit(theirs: State, ours: State, network: str, where: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """(a state dict for the architecture whose state dict is `ours`, what was done to the names and numbers).

    network: the architecture in words. Raises UserError unless every name, shape and kind of number agrees.
    """
    found, notes = renamed(theirs, ours)
    _refuse_names(found, ours, network, where)
    found = {name: found.get(name, ours[name]) for name in ours}
    wrong = [
        f"{printable(name)} is {_size(found[name])}, not {_size(ours[name])}"
        for name in ours
        if found[name].shape != ours[name].shape
    ]
    if wrong:
        refuse(_listed(wrong), theirs, network, where)
    for name, tensor in found.items():
        if _kind(tensor) != _kind(ours[name]):
            what = f"{printable(name)} holds {_type(tensor)}, and {_type(ours[name])} is needed"
            raise UserError(f"checkpoint: {what}", where=where, cure="save floating-point weights: model.float()")
    types = {_type(found[n]): _type(ours[n]) for n in ours if found[n].dtype != ours[n].dtype and _floats(ours[n])}
    return found, (*notes, *(f"{old} as {new}" for old, new in types.items()))


def refuse_other_names(theirs: State, ours: State, network: str, where: Path) -> None:
    """Raise UserError unless every name agrees, whatever the shapes, which hang on images that are not there yet."""
    _refuse_names(renamed(theirs, ours)[0], ours, network, where)


def renamed(theirs: State, ours: State) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """(their tensors under our names as far as that goes, what was done): without bookkeeping and one common prefix.

    Of all that the names begin with in common, what goes is what leaves the most names of ours.
    """
    kept = without_bookkeeping(theirs)
    prefixes = [""]
    for parts in zip(*(name.split(".")[:-1] for name in kept), strict=False):
        if len({*parts}) > 1:
            break
        prefixes.append(f"{prefixes[-1]}{parts[0]}.")
    prefix = max(prefixes, key=lambda each: sum(name.removeprefix(each) in ours for name in kept))
    notes = [f"without the prefix {printable(prefix)}"] if prefix else []
    if len(kept) < len(theirs):
        leaves = sorted({name.rpartition(".")[2] for name in theirs if name not in kept})
        notes.append(f"without {', '.join(leaves)}")
    return {name.removeprefix(prefix): tensor for name, tensor in kept.items()}, tuple(notes)


def without_bookkeeping(state: State) -> dict[str, Tensor]:
    """A state dict without the numbers that tools keep in it."""
    return {name: tensor for name, tensor in state.items() if not _is_bookkeeping(name, tensor)}


def _is_bookkeeping(name: str, tensor: Tensor) -> bool:
    """A counter that was converted with all the rest, and may have overflown, is none any more."""
    leaf = name.rpartition(".")[2]
    return leaf in BOOKKEEPING or (leaf == COUNTER and _floats(tensor))


def _refuse_names(found: State, ours: State, network: str, where: Path) -> None:
    missing = [name for name in ours if name not in found and not name.endswith(COUNTER)]
    extra = [name for name in found if name not in ours]
    parts = [
        f"{word} {places(names, other)}"
        for word, names, other in (("lacks", missing, found), ("has besides", extra, ours))
        if names
    ]
    if parts:
        refuse(f"it {' and '.join(parts)}", found, network, where)


def refuse(what: str, theirs: State, network: str, where: Path) -> None:
    cure = f"name the architecture and the classes it was trained with; the file has {_contents(theirs)}"
    raise UserError(f"checkpoint is not one of {network}: {what}", where=where, cure=cure)


def places(names: Iterable[str], other: State) -> str:
    """Where names lie that the `other` side has not: the whole module where it has nothing below, else the tensors."""
    known = {path for name in other for path in _above(name)}
    counts: dict[str, int] = {}
    for name in names:
        place = next((path for path in _above(name) if path not in known), name)
        counts[place] = counts.get(place, 0) + 1
    return _listed([printable(place) + (f" ({count} tensors)" if count > 1 else "") for place, count in counts.items()])


def _above(name: str) -> list[str]:
    """layer1.0.conv1.weight -> layer1, layer1.0, layer1.0.conv1"""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _contents(state: State) -> str:
    """56 tensors, conv1 (weight 16×1×3×3), bn1 (weight 16, bias 16, …), layer1.0.conv1 (weight 16×16×3×3), …"""
    modules: dict[str, list[str]] = {}
    for name, tensor in state.items():
        path, _, leaf = name.rpartition(".")
        if leaf != COUNTER:
            modules.setdefault(path, []).append(f"{printable(leaf)} {_size(tensor)}")
    shown = [f"{printable(path)} ({_listed(leaves, 2)})" for path, leaves in modules.items()]
    return f"{len(state)} tensors, {_listed(shown)}"


def _listed(words: list[str], most: int = FEW) -> str:
    return f"{', '.join(words[:most])}{', …' if len(words) > most else ''}"


def _floats(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def _kind(tensor: Tensor) -> str:
    """Between types of one kind weights may be converted; between kinds they may not."""
    if tensor.dtype == torch.bool:
        return "bool"
    return "float" if _floats(tensor) else "complex" if tensor.is_complex() else "integer"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _size(tensor: Tensor) -> str:
    return "×".join(str(side) for side in tensor.shape) or "a scalar"
