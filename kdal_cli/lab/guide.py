"""Who teaches a training, and where the answers are kept that it is given."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from kdal_cli.devices.precision import Precision
from kdal_cli.errors import MachineError
from kdal_cli.images.augment import ENDLESS, Resident
from kdal_cli.lab.blueprint import Blueprint
from kdal_cli.lab.lab import Lab
from kdal_cli.lab.teacher import Manner
from kdal_cli.network import Network
from kdal_cli.records.files import folder_below, sha256
from kdal_cli.streams import undisturbed
from kdal_cli.training.answers import FILL, Asked, CachedTeacher, LiveTeacher, Table
from kdal_cli.training.objective import Objective
from kdal_cli.training.sight import look
from kdal_cli.types import Batch, Output

FORMAT = 1
"""Raised when a table of answers would be written in another way than before."""

LIMIT = 4 << 30
"""Bytes that a table of answers may grow to."""


@dataclass(frozen=True)
class Guide:
    """Who teaches one training: a frozen `teacher`, a network made after `peer` that learns beside it, or nobody.

    asked: what the loss reads of the teacher's answers. shelf: the folder for tables of them, which outlive the run;
    without one they are kept in memory, for one training.
    """

    manner: Manner = field(default_factory=Manner)
    teacher: Network | None = None
    peer: Blueprint | None = None
    asked: Asked = "everything"
    shelf: Path | None = None

    def taught_by(self, network: Network) -> "Guide":
        """The same with another teacher, one of this run."""
        return replace(self, teacher=network, shelf=None)


def shelf(lab: Lab, network: Network, store: Path) -> Path:
    """The folder for answers of this teacher about this data, on a device and a torch like this one."""
    digest = hashlib.sha256(repr(network).encode())
    for tensor in (*network.parameters(), *network.buffers()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    engine = lab.engine.describe()
    made_by = {"format": FORMAT, "device": engine["name"], "torch": torch.__version__}
    return store / "answers" / sha256({"teacher": digest.hexdigest(), "data": lab.fingerprint, **made_by})[:16]


def answers(
    lab: Lab, guide: Guide, images: Resident, wanted: Precision, mixes: str | None = None
) -> LiveTeacher | CachedTeacher | None:
    """The teacher as a training asks it, about views of `images`, computing in a precision: live, or with a table.

    mixes: the settings that mix images, where some do.
    """
    if guide.teacher is None:
        return None
    clean = guide.manner.view == "clean"
    precision = lab.engine.precision(wanted, guide.teacher, lab.train.whole(lab.pool[:FILL]))
    live = LiveTeacher(guide.teacher, lab.engine, precision, clean=lab.train if clean else None)
    if why_live(lab, guide, images, mixes):
        return live
    augment, path = images.augment, None
    if guide.shelf is not None:
        view = "clean" if clean else augment.spelt
        path = _made(guide.shelf) / f"{view}_{guide.asked}_{precision}.rows"
    return CachedTeacher(live, images, Table(len(images) * views_of(guide, images), _width(lab, guide), path))


def _made(shelf: Path) -> Path:
    """The folder of a shelf in its store, `answers/<hash>`, made where it is missing."""
    try:
        return folder_below(shelf.parent.parent, *shelf.parts[-2:])
    except OSError as error:
        cure = "make room; or teacher.cache=off"
        raise MachineError(f"cannot keep the teacher's answers: {error.strerror}", where=shelf, cure=cure) from error


def why_live(lab: Lab, guide: Guide, images: Resident, mixes: str | None = None) -> str | None:
    """Why a teacher is asked at every step, or None where its answers are kept."""
    if guide.manner.cache == "off":
        return "teacher.cache=off"
    if mixes:
        return f"{mixes} shows it mixtures that come once"
    if guide.asked == "everything":
        return "the loss looks inside it"
    if views_of(guide, images) == ENDLESS:
        return "its views are drawn anew each time (data.augment.views=16 keeps so many of each image)"
    size = 2 * len(images) * views_of(guide, images) * (_width(lab, guide) + 1)
    return f"all its answers would take {size / 2**30:.0f} GiB" if size > LIMIT else None


def told(lab: Lab, guide: Guide, images: Resident, mixes: str | None = None) -> str:
    """Where the answers of a teacher come from, in words."""
    reason = why_live(lab, guide, images, mixes)
    return f"it is asked at every step: {reason}" if reason else f"its answers are kept in {guide.shelf or 'memory'}"


def asked(objective: Objective, student: Network, teacher: Network, batch: Batch) -> Asked:
    """What a loss reads of the teacher's answers: the least that gives the same numbers.

    What is not shown is NaN, or missing. `objective` may be changed by the trial.
    """
    objective.eval()
    with torch.no_grad():
        ours, theirs = look(student, batch), teacher(batch.pixels)
    whole = _parts(objective, ours, theirs, batch)
    hidden = torch.full_like(theirs.features, torch.nan)
    if _same(whole, _parts(objective, ours, Output(theirs.logits, hidden), batch)):
        return "logits"
    if _same(whole, _parts(objective, ours, Output(theirs.logits, theirs.features), batch)):
        return "features"
    return "everything"


Parts = list[dict[str, torch.Tensor]]
"""The parts of a loss by name, of one stage after the other."""


def _parts(objective: Objective, ours: Output, theirs: Output, batch: Batch) -> Parts | None:
    """None where what is shown is not enough to compute them."""
    try:
        with undisturbed():
            torch.manual_seed(0)
            return [objective(ours, theirs, batch, 0.5, first=first) for first in {False, objective.first > 0}]
    except Exception:  # a term may be anybody's code
        return None


def _same(one: Parts | None, other: Parts | None) -> bool:
    if one is None or other is None:
        return False
    pairs = zip(one, other, strict=True)
    return all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)


def views_of(guide: Guide, images: Resident) -> int:
    """In how many views of an image a teacher is asked about it."""
    return 1 if guide.manner.view == "clean" else images.augment.count


def _width(lab: Lab, guide: Guide) -> int:
    """Numbers of one answer."""
    assert guide.teacher is not None
    if guide.asked == "logits":
        return guide.teacher.classes
    with torch.no_grad():
        return guide.teacher.classes + guide.teacher(lab.train.whole(lab.pool[:1])).features.shape[1]
