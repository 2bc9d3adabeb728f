"""What a finished run was about, read from its folder: its configuration, and its images where they are here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdal_cli.compose import parts
from kdal_cli.compose.framing import framed
from kdal_cli.dataset import ImageData
from kdal_cli.errors import KdalError, UserError
from kdal_cli.images.split import Ids
from kdal_cli.lab.asking import answered
from kdal_cli.lab.lab import fingerprint
from kdal_cli.labels.ledger import Ledger
from kdal_cli.records import seals
from kdal_cli.types import Watcher

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Finished:
    """A run folder. config, about: what its manifest says. data, ids: None where the images are not here."""

    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    data: ImageData | None = None
    ids: Ids | None = None


def run_of(checkpoint: Path) -> Path | None:
    """The run folder that a checkpoint lies in; None where it lies elsewhere."""
    return next((folder for folder in checkpoint.parents[:3] if (folder / MANIFEST).is_file()), None)


def finished(
    folder: Path, changes: Mapping[str, Any], trust: Sequence[str], watcher: Watcher, crop: float | None = None
) -> Finished:
    """A run, with its images where they can be read. changes: keys of `data` that are other here, such as its root.

    crop: how much of photographs its network sees, where the configuration does not say.

    Raises UserError for a damaged manifest, and for images that are not those of the run.
    """
    manifest = seals.read_object(folder / MANIFEST)
    config = manifest.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("data"), dict):
        raise UserError("this manifest is damaged", where=folder / MANIFEST, cure="restore it from a copy")
    # where decoded images are kept is not taken from a folder that may be anybody's
    section = {key: value for key, value in config["data"].items() if key != "store"} | dict(changes)
    try:
        data, ids = parts.data(section, trust, watcher)
    except KdalError as error:
        if changes:
            raise
        watcher.say(f"the images of this run are not here ({error}): nothing is measured on them")
        return Finished(folder, config, manifest)
    data = framed(data, section, crop)
    if fingerprint(data) != manifest.get("data_sha256"):
        cure = "put back what they were, or name where they lie: data.root=…"
        raise UserError("these are not the images of the run", where=folder, cure=cure)
    return Finished(folder, config, manifest, answered(data, Ledger.look(folder / "ledger.jsonl")), ids)
