"""Several processes that work as one, a device each. Number 0 runs the job and takes every decision; the others help.

Helpers do the calls that they are sent, each beside the same call here, and end when nobody is left to send any. Inside
a call the processes average tensors through torch.distributed. How helpers come and are reached is the business of a
crew: `piped` starts them on this machine, `launched` has been given them by torchrun, on any number of machines.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor

from kdal_cli.devices import collectives
from kdal_cli.devices.collectives import Deserted
from kdal_cli.devices.parcel import RECEIVED, Carry, Lent, pack, unpack
from kdal_cli.errors import KdalError, MachineError

GRACE = 5.0
"""Seconds in which a helper that fails says so."""

Settle = Callable[[int], None]
"""Makes a process ready to compute on the device of that number of its machine."""

Answer = tuple[Any, Exception | None]
"""(answer, error) of a helper to a call; Deserted is the error of one that has ended, or was silent too long."""


class Crew(Protocol):
    """The helpers of a team, as number 0 reaches them."""

    @property
    def beyond(self) -> Carry | None:
        """Sees that helpers on other machines have the same images; none where there is one machine."""
        ...

    def meet(self) -> None:
        """Have all processes ready for collectives; those that have met already need not meet again."""
        ...

    def tell(self, parcel: bytes) -> None:
        """Send a call to all. Raises Deserted where one is gone."""
        ...

    def hear(self, seconds: float | None = None) -> list[Answer]:
        """What each answers to the last call. seconds: the longest wait for each."""
        ...

    def loss(self) -> str:
        """In words, how one was lost."""
        ...

    def dismiss(self) -> None:
        """End the helpers, whatever they are doing."""
        ...

    def leave(self) -> None:
        """The team is not needed any more; nobody is in a call."""
        ...


Recruit = Callable[[int, str], Crew]
"""The helpers of a team of that size on devices of that kind."""


class Team:
    """`size` processes on devices of one `kind`, cpu or cuda, of which this is number `rank`; one alone is a team too.

    In a parcel it stands for the team of whoever opens that. settle: makes a process ready to compute. recruit: finds
    the helpers when they are first needed.
    """

    def __init__(
        self,
        size: int = 1,
        kind: str = "cpu",
        settle: Settle = lambda number: None,
        rank: int = 0,
        recruit: Recruit | None = None,
    ) -> None:
        self.size, self.kind, self.settle, self.rank, self.recruit = size, kind, settle, rank, recruit
        self._crew: Crew | None = None
        self._lent = Lent()

    def __reduce__(self) -> tuple[Callable[[], "Team"], tuple[()]]:
        return _here, ()

    @property
    def address(self) -> tuple[int, ...]:
        """What tells the randomness of a helper from that of number 0, which is that of one process alone."""
        return (self.rank,) if self.rank else ()

    @contextmanager
    def helping(self, work: Callable[..., Any], *args: Any) -> Iterator[list[Any]]:
        """Have the helpers do `work(*args)` while this block does the same here. Their answers are there at its end.

        In a helper, and in a process alone, nothing happens. An error in a helper is raised here; whatever goes wrong,
        the helpers are gone afterwards.
        """
        answers: list[Any] = []
        if self.size == 1 or self.rank or self.recruit is None:
            yield answers
            return
        parcel = pack((work, args), self._lent)  # what cannot be sent is refused before anybody starts
        try:
            crew = self._crew
            if crew is None:
                crew = self._gather(self.recruit)
                parcel = pack((work, args), self._lent) if crew.beyond else parcel  # with images for other machines
            crew.tell(parcel)
            yield answers
            answers += self._answers()
        except Deserted:
            try:
                self._answers(GRACE)  # raises why
            finally:
                self._dismiss()
            raise
        except BaseException:
            self._dismiss()
            raise

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in place."""
        if self.size > 1:
            collectives.average(tensors, self.size)

    def follow(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by that of number 0, in place."""
        if self.size > 1:
            collectives.follow(tensors)

    def close(self) -> None:
        """Leave the helpers, who hold nothing that is not here too."""
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.leave()
        self._lent.close()

    def _dismiss(self) -> None:
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.dismiss()
        self._lent.close()

    def _gather(self, recruit: Recruit) -> Crew:
        """The helpers, ready to compute and to average."""
        self._crew = crew = recruit(self.size, self.kind)
        self._lent.beyond = crew.beyond
        crew.tell(pack((_join, (self.size, self.kind, self.settle)), self._lent))
        self._answers()
        crew.meet()
        return crew

    def _answers(self, seconds: float | None = None) -> list[Any]:
        """What each helper answers to the last call. Raises what one of them raised, or how it ended instead."""
        if self._crew is None:
            return []
        told = self._crew.hear(seconds)
        errors = [error for _, error in told if error is not None]
        if errors:
            reason = next((error for error in errors if not isinstance(error, Deserted)), None)
            lost = MachineError(self._crew.loss(), where=f"devices={self.size}", cure="resume the run")
            self._dismiss()
            raise reason or lost
        return [answer for answer, _ in told]


# In a helper.

_seat = (0, 0)
"""(number in the team, number of its device on this machine) of this process."""

_mine = Team()
"""The team that this process helps."""


def take_seat(rank: int, device: int) -> None:
    """Say which helper this is, before it does anything."""
    global _seat
    _seat = rank, device


def answered(parcel: bytes) -> tuple[bytes, bool]:
    """(a parcel with the answer to a call and its error, whether it failed)."""
    answer, error = None, None
    try:
        work, args = unpack(parcel)
        answer = work(*args)
    except Exception as raised:
        error = _portable(raised)
    return pack((answer, error), Lent()), error is not None


def meet(meeting: Callable[[int], None]) -> None:
    meeting(_seat[0])


def _here() -> Team:
    return _mine


def _join(size: int, kind: str, settle: Settle) -> None:
    global _mine
    rank, device = _seat
    RECEIVED.clear()  # images of the team before
    _mine = Team(size, kind, settle, rank)
    settle(device)


def _portable(error: Exception) -> Exception:
    """An error that can be raised in another process, with where it came from as a note for `--debug`."""
    if not isinstance(error, KdalError | Deserted):
        told = "".join(traceback.format_exception(error))
        reason = (str(error).splitlines() or [""])[0]
        error = MachineError(f"process {_here().rank} of devices={_here().size}: {type(error).__name__}: {reason}")
        error.add_note(told)
    return error.with_traceback(None)
