"""The labels that a finished run has paid for: what is done to its student later sees these, and no others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.lab.lab import Lab
from kdal_cli.labels.ledger import Ledger
from kdal_cli.records import seals
from kdal_cli.streams import Streams
from kdal_cli.types import Examples

LEDGER, LABELLED = "ledger.jsonl", "labelled.json"
"""Where a run of active learning, and one of `kdal compress`, say what they learnt from."""


def paid(folder: Path, lab: Lab) -> Examples:
    """The pool of this data, the images first that a run bought labels for, or was given them.

    Raises UserError where the run is of other images, or does not say what it learnt from.
    """
    manifest = seals.read_object(folder / "manifest.json")
    if manifest.get("data_sha256") != lab.fingerprint:
        cure = "leave data out: it is that of the run; data.root=… where it lies elsewhere now"
        raise UserError(f"that run is of other images than data={lab.data.name}", where=folder, cure=cure)
    stage, config = manifest.get("stage"), manifest.get("config")
    if stage == "al-loop":
        ids, labels = Ledger.look(folder / LEDGER).bought()
    elif stage == "compress":
        ids, labels = _written(folder / LABELLED)
    elif stage == "distill" and isinstance(config, Mapping):
        return given(lab, config.get("labels"), Streams(config.get("seed", 0)))
    elif stage == "train-teacher":
        ids = lab.ids.teacher
        labels = lab.data.train.labels.of(ids)
    else:
        raise UserError("this run trained no network", where=folder, cure="a run of distill or al-loop")
    known = bool(torch.isin(ids, torch.cat([lab.pool, lab.ids.teacher])).all())
    if not known or not bool(((labels >= 0) & (labels < len(lab.data.classes))).all()):
        raise UserError("that run has labels of images that are not in this pool", where=folder, cure="leave data out")
    return Examples(torch.cat([ids, lab.pool[~torch.isin(lab.pool, ids)]]), labels)


def given(lab: Lab, labels: int | None, streams: Streams) -> Examples:
    """The pool, the labelled images first: of those whose labels are known all, or as many as are wanted, drawn."""
    known = lab.labelled
    count = len(known) if labels is None else min(labels, len(known))
    order = torch.arange(len(lab.pool))
    if count < len(lab.pool):
        order = torch.randperm(len(lab.pool), generator=streams.at("labelled"))
    ids = lab.pool[order]
    labelled = torch.isin(ids, known)
    labelled &= labelled.cumsum(0) <= count
    return Examples(torch.cat([ids[labelled], ids[~labelled]]), lab.data.train.labels.of(ids[labelled]))


def write_down(examples: Examples, lab: Lab) -> None:
    """Leave in the run folder what the run learns from, for whoever goes on with its student."""
    rows: dict[str, Any] = {"ids": examples.labelled_ids.tolist(), "labels": examples.labels.tolist()}
    seals.write_json(lab.run.folder / LABELLED, rows)


def _written(path: Path) -> tuple[Tensor, Tensor]:
    """(ids (M,), labels (M,)). Raises UserError for a file that is damaged."""
    content = seals.read_object(path) if path.is_file() else {}
    ids, labels = content.get("ids"), content.get("labels")
    both = (ids, labels)
    if not all(isinstance(row, list) and all(type(one) is int and 0 <= one < 2**53 for one in row) for row in both):
        raise UserError("what this run learnt from is missing or damaged", where=path, cure="restore it from a copy")
    assert isinstance(ids, list)
    assert isinstance(labels, list)
    if len(ids) != len(labels) or len(ids) != len({*ids}):
        raise UserError("this file is damaged", where=path, cure="restore it from a copy")
    return torch.tensor(ids, dtype=torch.int64), torch.tensor(labels, dtype=torch.int64)
