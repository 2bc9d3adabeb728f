"""What people are given who are asked for labels in a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdal_cli.images.shown import Shown, shown
from kdal_cli.lab.lab import Lab
from kdal_cli.labels.desk import Desk
from kdal_cli.report.contact import contact_png
from kdal_cli.values import at_home


def desk(lab: Lab, section: Mapping[str, Any]) -> Desk:
    """The desk of a run. section: `data` of its configuration, which says where image files lie if there are any."""
    train, root = lab.data.train, section.get("root")
    home = at_home(root) if train.paths and isinstance(root, str | Path) else None

    def picture(id: int) -> Shown:
        return shown(train.pixels[id], home / train.paths[id] if home is not None else None)

    def sheet(ids: Sequence[int], names: Sequence[str]) -> bytes:
        return contact_png(train.pixels[list(ids)], names, title=f"{lab.data.name}: what are these?")

    return Desk(lab.run.folder / "asking", lab.data.classes, train.paths, picture, sheet, lab.display.say)
