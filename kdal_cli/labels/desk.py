"""What people work with who are asked for labels: the folder of a run where questions lie, class names, pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdal_cli.images.shown import Shown

CANNOT_TELL, NONE_OF_THESE = "cannot tell", "none of these"
UNDECIDED = (CANNOT_TELL, NONE_OF_THESE)
"""What can be said of an image instead of a class. It is asked about no more, and has no label."""


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
