"""People fill in a table: a query becomes a CSV file beside its images, and is read back when the run is resumed."""

import csv
import io
from collections.abc import Sequence

import torch
from torch import Tensor

from kdal_cli.errors import UserError
from kdal_cli.labels.desk import Desk, refuse_name
from kdal_cli.labels.naming import NONE_OF_THESE, RULE, UNDECIDED, Spelling
from kdal_cli.labels.oracle import FIRST, Answer, NotYet, Occasion, Oracle
from kdal_cli.labels.oracles._table import LARGEST, Filled, read_table
from kdal_cli.plain import plain_cell
from kdal_cli.records.files import read_bytes, remove, shown, write_bytes
from kdal_cli.values import NonNegative

FEW = 6
"""Problems that a line of an error has room for; all of them are in a file."""

SHEET = 100
"""Images on a contact sheet."""


def files(
    desk: Desk, *, price: NonNegative = 1.0, hints: bool = False, new_classes: bool = False, annotator: str = "person"
) -> Oracle:
    """An oracle that lays out `asking/round_003.csv` and waits until each row of it has a label.

    price: of a label. hints: whether the table has what the student of the round before holds for likely, and how
    likely; whoever sees that is swayed by it, and so labels of validation and test images are asked for without.
    new_classes: whether a name is taken that is no class: such an image has no label, and the name is kept. annotator:
    who answers, as the ledger tells it.
    """
    refuse_name(annotator)

    def answer(ids: Tensor, occasion: Occasion = FIRST) -> Answer | NotYet:
        path = desk.folder / f"{occasion.name}.csv"
        asked = ids.tolist()
        if not path.exists():
            _lay_out(desk, occasion, ids, hints=hints and occasion.purpose == "train", new_classes=new_classes)
        spelling = Spelling(desk.classes, occasion.proposed) if new_classes else None
        filled = read_table(read_bytes(path, LARGEST), asked, desk.classes, spelling)
        _refuse(filled, desk, occasion)
        if missing := len(asked) - len(filled.labels):
            return NotYet(missing, f"fill in {shown(path)} and")
        told = [filled.labels[id] for id in asked]
        words = {place: said for place, said in enumerate(told) if isinstance(said, str)}
        return Answer(
            labels=torch.tensor([label for label in told if isinstance(label, int)], dtype=torch.int64),
            costs=torch.full((len(ids),), price, dtype=torch.float64),
            owner=annotator,
            undecided={place: said if said in UNDECIDED else NONE_OF_THESE for place, said in words.items()},
            proposed={place: said for place, said in words.items() if said not in UNDECIDED},
        )

    return answer


def _lay_out(desk: Desk, occasion: Occasion, ids: Tensor, *, hints: bool, new_classes: bool) -> None:
    """The images, a sheet of them, what to do, and last the table: where that is, everything is."""
    guesses = _guesses(desk, occasion, ids) if hints else None
    names, rows = [], []
    for place, id in enumerate(ids.tolist()):
        picture = desk.picture(id)
        name = f"{place + 1:0{len(str(len(ids)))}d}_id_{id}.{picture.suffix}"
        write_bytes(desk.folder / occasion.name / name, picture.data, durable=False)
        path = plain_cell(desk.paths[id]) if desk.paths else ""
        rows.append([id, name, path, picture.width, picture.height, *(guesses[place] if guesses else []), ""])
        names.append(f"id {id}")
    sheet = desk.sheet(ids.tolist()[:SHEET], names[:SHEET])
    write_bytes(desk.folder / f"{occasion.name}.png", sheet, durable=False)
    write_bytes(desk.folder / "README.txt", _what_to_do(desk.classes, new_classes=new_classes).encode(), durable=False)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["id", "image", "path", "width", "height", *(["guess", "p_guess"] if guesses else []), "label"])
    writer.writerows(rows)
    write_bytes(desk.folder / f"{occasion.name}.csv", text.getvalue().encode("utf-8-sig"))


def _guesses(desk: Desk, occasion: Occasion, ids: Tensor) -> list[list[str]] | None:
    if occasion.guess is None:
        return None
    labels, probs = (tensor.tolist() for tensor in occasion.guess(ids))
    return [[plain_cell(desk.classes[label]), f"{p:.2f}"] for label, p in zip(labels, probs, strict=True)]


def _refuse(filled: Filled, desk: Desk, occasion: Occasion) -> None:
    """Raise UserError where something in the table cannot be right; nothing is taken from such a table."""
    told, path = desk.folder / f"{occasion.name}_problems.txt", desk.folder / f"{occasion.name}.csv"
    if not filled.problems:
        remove(told)
        return
    write_bytes(told, "".join(f"{problem}\n" for problem in filled.problems).encode(errors="replace"))
    more = len(filled.problems) - FEW
    what = "; ".join(filled.problems[:FEW]) + (f"; and {more:,} more, all in {shown(told)}" if more > 0 else "")
    raise UserError(what, where=shown(path), cure="correct the table, then resume; or remove it, to have it anew")


def _what_to_do(classes: Sequence[str], *, new_classes: bool) -> str:
    """What people have to know who fill in a table."""
    names = "\n".join(f"    {name}" if name.isprintable() else f"    {name!r}" for name in classes)
    new = f"Or the name of a class that is missing here: {RULE}.\n" if new_classes else ""
    return (
        "Write the class of each image into the column `label` of the table, save it, and resume the run.\n"
        "The images of round_003.csv are in the folder round_003; round_003.png shows the first of them.\n"
        f"Where no class fits: {' or '.join(f'`{name}`' for name in UNDECIDED)}, in short `?` or `-`.\n{new}\n"
        f"The {len(classes):,} classes:\n\n{names}\n"
    )
