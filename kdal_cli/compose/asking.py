"""What people are given who are asked for labels in a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdal_cli.errors import UserError
from kdal_cli.images.shown import Shown, shown
from kdal_cli.lab.lab import Lab
from kdal_cli.labels.desk import Desk
from kdal_cli.report.contact import contact_png
from kdal_cli.values import at_home

PRICES = ("price", "price_per_hour")


def asked_on(section: Mapping[str, Any], page: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The section of an oracle, or that of a page in its place, where people are to be asked on one.

    page: settings of it. Raises UserError for an oracle that asks nobody.
    """
    if page is None:
        return section
    if section.get("name") == "simulated":
        cure = "choose one when a run is started: oracle=page"
        raise UserError("nobody is asked for the labels of this run", where="oracle=simulated", cure=cure)
    kept = section if section.get("name") == "page" else {key: section[key] for key in PRICES if key in section}
    return {**kept, **({"annotator": section["annotator"]} if "annotator" in section else {}), "name": "page", **page}


def may_differ(section: Mapping[str, Any]) -> bool:
    """Whether an oracle may say something else when it is asked about an image again: one simulated one does not."""
    person = section.get("person") if section.get("name") == "mixed" else section
    person = person if isinstance(person, Mapping) else {"name": person}
    return person.get("name") != "simulated" or isinstance(person.get("noise"), Sequence)


def desk(lab: Lab, section: Mapping[str, Any]) -> Desk:
    """The desk of a run. section: `data` of its configuration, which says where image files lie if there are any."""
    train, root, table = lab.data.train, section.get("root"), section.get("path")
    if root is None and isinstance(table, str | Path):
        root = at_home(table).parent  # a table of files whose paths start beside it
    home = at_home(root) if train.paths and isinstance(root, str | Path) else None

    def picture(id: int) -> Shown:
        return shown(train.pixels[id], home / train.paths[id] if home is not None else None)

    def sheet(ids: Sequence[int], names: Sequence[str]) -> bytes:
        return contact_png(train.pixels[list(ids)], names, title=f"{lab.data.name}: what are these?")

    return Desk(lab.run.folder / "asking", lab.data.classes, train.paths, picture, sheet, lab.display.say)
