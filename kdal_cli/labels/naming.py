"""Class names as people type them: which one is meant, and what a new one may be called."""

import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

UNDECIDED = CANNOT_TELL, NONE_OF_THESE = "cannot tell", "none of these"
"""What can be said of an image instead of a class. It is asked about no more, and has no label."""

LONGEST_CLASS = 60
"""Letters of a proposed name."""

MARKS = " -_.,'&()+/#%"
"""What a proposed name may have besides letters and digits."""

RULE = f"up to {LONGEST_CLASS} letters, digits and {MARKS.strip()}, a letter or a digit first"

FEW = 10
"""Names that a line has room for."""


class Unnameable(ValueError):
    """This can be the name of no class."""


def folded(name: str) -> str:
    """What names have in common that differ in case, in spaces or in how accents are composed."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).split())


def is_proper(name: str) -> bool:
    """Whether somebody may have proposed a class of this name, as it is written down."""
    kinds = [unicodedata.category(char)[0] for char in name]
    return (
        0 < len(name) <= LONGEST_CLASS
        and kinds[0] in "LN"
        and all(kind in "LMN" or char in MARKS for kind, char in zip(kinds, name, strict=True))
        and name == _tidy(name)
        and folded(name) not in UNDECIDED
    )


class Spelling:
    """Names of classes and of those that were proposed: each has one spelling, that of whoever typed it first."""

    def __init__(self, classes: Sequence[str], proposed: Iterable[str] = ()) -> None:
        self.exact = {name: label for label, name in enumerate(classes)}
        self.classes: dict[str, list[int]] = {}
        for label, name in enumerate(classes):
            self.classes.setdefault(folded(name), []).append(label)
        self.proposed: dict[str, str] = {}
        for name in proposed:
            self.proposed.setdefault(folded(name), name)

    @property
    def names(self) -> list[str]:
        """Those that were proposed, in order."""
        return list(self.proposed.values())

    def meant(self, typed: str) -> int | str:
        """The class that is called so, or else the proposed name. Raises Unnameable for what cannot be one."""
        if typed in self.exact:
            return self.exact[typed]
        name = _tidy(typed)
        same = self.classes.get(folded(name), [])
        if len(same) > 1:
            raise Unnameable("several classes are called so")
        if same:
            return same[0]
        if not is_proper(name):
            raise Unnameable(f"a new class is called by {RULE}")
        return self.proposed.setdefault(folded(name), name)


def something_else(said: Mapping[int, str]) -> str:
    """In words: images that are of none of the classes, {id: what somebody called it}."""
    counts = Counter(said.values()).most_common()
    more = f", {len(counts) - FEW:,} more names" if len(counts) > FEW else ""
    named = ", ".join(f"{name} {count:,}" for name, count in counts[:FEW]) + more
    return f"{len(said):,} image{'s were' if len(said) != 1 else ' was'} said to be something else ({named})"


def gone_on(said: Mapping[int, str], run: Path, asked: int) -> str:
    """The words of a new run of the same data that knows these classes, and takes over what was answered in `run`.

    asked: about how many images of the pool, which are its seed set.
    """
    names = [name for name, _ in Counter(said.values()).most_common(FEW)]
    listed = ",".join(f'"{name}"' for name in names)  # no name has a quote, a backslash or a dollar in it
    return shlex.join([f"data.classes=[…,{listed}]", f"budget.initial={asked}", f"oracle.answers={run}"])


def _tidy(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())
