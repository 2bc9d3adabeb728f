"""What people work with who are asked for labels: the folder of a run where questions lie, class names, pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdal_cli.errors import UserError, printable
from kdal_cli.images.shown import Shown
from kdal_cli.labels.oracle import TEACHER

LONGEST_NAME = 200


def refuse_name(annotator: str) -> None:
    """Raise UserError for what nobody is called who answers: the ledger tells people and teachers apart by it."""
    if not annotator.strip() or annotator == TEACHER or len(annotator) > LONGEST_NAME or not annotator.isprintable():
        cure = f"a name of up to {LONGEST_NAME} letters that is not '{TEACHER}'"
        raise UserError(f"oracle.annotator={printable(annotator)}", cure=cure)


@dataclass(frozen=True)
class Desk:
    """folder: `asking/` of the run. paths: the file of each image by its id, or empty.

    picture: of an image, by its id. sheet: a contact sheet of images, with a name below each. say: tells the user.
    """

    folder: Path
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    picture: Callable[[int], Shown]
    sheet: Callable[[Sequence[int], Sequence[str]], bytes]
    say: Callable[[str], None]
