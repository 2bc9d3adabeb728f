"""Several processes that work as one, a device each. Number 0 runs the job and takes every decision; the others help.

Helpers are started when they are first needed, do the calls that they are sent, each beside the same call here, and end
when nobody is left to send any. Inside a call the processes average tensors through torch.distributed.
"""

import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from torch import Tensor

from kdal_cli.devices import collectives, pulse
from kdal_cli.devices.collectives import Deserted
from kdal_cli.devices.parcel import Lent, pack, unpack
from kdal_cli.errors import KdalError, MachineError

HELPER = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from kdal_cli.devices.pulse import beat; beat(int(sys.argv[2])); "
    "from kdal_cli.devices.team import help_out; help_out(int(sys.argv[1]))"
)
"""What a helper runs. It finds the modules that this process finds, those of the user among them."""

GRACE = 5.0
"""Seconds in which a helper that fails says so."""

Settle = Callable[[int], None]
"""Makes a process ready to compute as the one of that number."""


class Team:
    """`size` processes on devices of one `kind`, cpu or cuda, of which this is number `rank`; one alone is a team too.

    In a parcel it stands for the team of whoever opens that. settle: makes a process ready to compute as number `rank`.
    """

    def __init__(self, size: int = 1, kind: str = "cpu", settle: Settle = lambda rank: None, rank: int = 0) -> None:
        self.size, self.kind, self.settle, self.rank = size, kind, settle, rank
        self._helpers: list[_Helper] = []
        self._watchers: list[threading.Thread] = []
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
        the helpers are gone afterwards, and new ones start with the next call.
        """
        answers: list[Any] = []
        if self.size == 1 or self.rank:
            yield answers
            return
        parcel = pack((work, args), self._lent)
        try:
            if not self._helpers:
                self._start()
            self._tell(parcel)
            yield answers
            answers += self._answers()
        except Deserted:
            try:
                self._answers(GRACE)  # raises why
            finally:
                self.close()
            raise
        except BaseException:
            self.close()
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
        """Let the helpers go: they hold nothing that is not here too."""
        helpers, self._helpers = self._helpers, []
        for helper in helpers:
            helper.process.kill()
        for helper in helpers:
            helper.process.wait()
            helper.line.close()
        while self._watchers:
            self._watchers.pop().join()  # nothing is left to listen to
        if helpers:
            collectives.leave()
        self._lent.close()

    def _start(self) -> None:
        for rank in range(1, self.size):
            self._helpers.append(_Helper.start())
            self._watchers.append(threading.Thread(target=self._watch, args=(self._helpers[-1],), daemon=True))
            self._watchers[-1].start()
            self._helpers[-1].tell(pack((_join, (self.size, self.kind, self.settle, rank)), self._lent))
        self._answers()
        with tempfile.TemporaryDirectory(prefix="kdal-") as folder:  # nobody else may read it
            meeting = partial(collectives.meet, f"{folder}/store", self.kind, self.size)
            self._tell(pack((_meet, (self, meeting)), self._lent))
            _meet(self, meeting)
            self._answers()

    def _tell(self, parcel: bytes) -> None:
        for helper in self._helpers:
            helper.tell(parcel)

    def _answers(self, seconds: float | None = None) -> list[Any]:
        """What each helper answers to the last call. Raises what one of them raised, or how it ended instead."""
        told = [helper.hear(seconds) for helper in self._helpers]
        errors = [error for _, error in told if error is not None]
        if errors:
            reason = next((error for error in errors if not isinstance(error, Deserted)), None) or self._loss()
            self.close()
            raise reason
        return [answer for answer, _ in told]

    def _loss(self) -> MachineError:
        """A helper that has ended by itself, in words."""
        still = [rank for rank, helper in enumerate(self._helpers, 1) if helper.still.is_set()]
        if still:
            who = f"process {still[0]} has stood still for {pulse.STILL:.0f} s"
            return MachineError(who, where=f"devices={self.size}", cure="resume the run")
        codes = {rank: helper.process.poll() for rank, helper in enumerate(self._helpers, 1)}
        ended = sorted((code, rank) for rank, code in codes.items() if code is not None)
        who = f"process {ended[0][1]} ended with exit code {ended[0][0]}" if ended else "the processes lost each other"
        return MachineError(who, where=f"devices={self.size}", cure="resume the run")

    def _watch(self, helper: "_Helper") -> None:
        """End a helper that stands still, and break off what this process waits for on its GPU when one is gone.

        Between CPUs a wait for one that has ended fails by itself; NCCL would wait for ever.
        """
        if pulse.stands_still(helper.pulse):
            helper.still.set()
            helper.process.kill()
        if self.kind == "cuda" and helper in self._helpers:
            collectives.abort()


@dataclass(frozen=True, eq=False)
class _Helper:
    """A process, the pipe to it, and its sign of life. still: set when there was none any more."""

    process: subprocess.Popen
    line: Connection
    pulse: int
    still: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def start(cls) -> "_Helper":
        """In a session of its own, where it hears no Ctrl-C: number 0 does, and decides."""
        line, theirs = Pipe()
        heard, beats = os.pipe()
        with theirs, os.fdopen(beats):
            words = [sys.executable, "-P", "-c", HELPER, str(theirs.fileno()), str(beats), *sys.path]
            none, handles = subprocess.DEVNULL, [theirs.fileno(), beats]
            process = subprocess.Popen(words, pass_fds=handles, stdin=none, stdout=none, start_new_session=True)
        return cls(process, line, heard)  # pyright: ignore[reportArgumentType] (a PipeConnection is that of Windows)

    def tell(self, parcel: bytes) -> None:
        try:
            self.line.send_bytes(parcel)
        except OSError:
            raise Deserted from None

    def hear(self, seconds: float | None) -> tuple[Any, Exception | None]:
        """(answer, error) to the last call; Deserted is the error of a helper that has ended, or is silent so long."""
        try:
            if self.line.poll(seconds):
                return unpack(self.line.recv_bytes())
        except (EOFError, OSError):
            self.process.wait()
        return None, Deserted()


def help_out(handle: int) -> None:
    """All that a helper does: the calls that come through the pipe `handle`, one after the other.

    After an error it ends, so that whoever waits for it in a collective is told.
    """
    line, calls = Connection(handle), SimpleQueue()
    threading.Thread(target=_listen, args=(line, calls), daemon=True).start()
    while True:
        answer, error = None, None
        try:
            work, args = unpack(calls.get())
            answer = work(*args)
        except Exception as raised:
            error = _portable(raised)
        line.send_bytes(pack((answer, error), Lent()))
        if error is not None:
            os._exit(1)


def _listen(line: Connection, calls: SimpleQueue) -> None:
    """Pass on what comes, and end the process when nothing can come any more, whatever it is doing."""
    with suppress(EOFError, OSError):
        while True:
            calls.put(line.recv_bytes())
    os._exit(0)


def _portable(error: Exception) -> Exception:
    """An error that can be raised in another process, with where it came from as a note for `--debug`."""
    if not isinstance(error, KdalError | Deserted):
        told = "".join(traceback.format_exception(error))
        reason = (str(error).splitlines() or [""])[0]
        error = MachineError(f"process {_here().rank} of devices={_here().size}: {type(error).__name__}: {reason}")
        error.add_note(told)
    return error.with_traceback(None)


_mine = Team()
"""The team that a helper belongs to."""


def _here() -> Team:
    return _mine


def _join(size: int, kind: str, settle: Settle, rank: int) -> None:
    global _mine
    _mine = Team(size, kind, settle, rank)
    settle(rank)


def _meet(team: Team, meeting: Callable[[int], None]) -> None:
    meeting(team.rank)
