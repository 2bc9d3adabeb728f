"""What can go wrong, and the exit code it means. Standard library only: the console script imports it first."""

from collections.abc import Iterable


class KdalError(Exception):
    """An error that is told to the user in one line, `kdal: error: <what> (<where>): <what to do>`."""

    exit_code = 1
    told = False
    """Whether the line is on stderr already, as it is for a job of a sweep when it ends."""

    def __init__(self, what: str, *, where: object = "", cure: str = "") -> None:
        super().__init__(what)  # with the others an error could not come back from another process
        self.what, self.where, self.cure = what, str(where), cure

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        cure = f": {self.cure}" if self.cure else ""
        return " ".join(f"{self.what}{place}{cure}".split())


class UserError(KdalError):
    """The user's input, configuration, data or checkpoint is wrong. Nothing was bought, nothing overwritten."""

    exit_code = 2


class MachineError(KdalError):
    """The machine failed: disk, memory, a loss that is not finite. The run can be resumed."""

    exit_code = 3


class InUse(KdalError):
    """Another process holds the run folder."""

    exit_code = 4


class Waiting(KdalError):
    """A person has still to answer. What was asked is on disk, and the run goes on when it is resumed."""

    exit_code = 5


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end; what is finished is on disk. Not an Exception: a sweep must not go on."""

    def __init__(self, what: str, *, signal: int = 15) -> None:
        super().__init__(what)
        self.signal = signal


FEW = 40
"""Names that a line of an error still has room for."""


def nearest(word: str, known: Iterable[str]) -> str:
    """What to do about a name that is not there: the nearest one that is, and all of them where they are few."""
    import difflib  # takes longer than all else that a command needs to hear a signal

    names = sorted(map(str, known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    guess = f"did you mean {close[0]!r}?" if close else ""
    listed = f"known: {', '.join(names) or 'none'}" if len(names) <= FEW else "--help lists what is known"
    return f"{guess} {listed}".strip()


def printable(text: object, length: int = 60) -> str:
    """A name out of a file, fit for one line of a terminal: what does not print is `?`, and its end is cut."""
    shown = "".join(char if char.isprintable() else "?" for char in str(text)[: length + 1])
    return shown if len(shown) <= length else shown[: length - 1] + "…"
