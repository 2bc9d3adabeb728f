"""Helpers on this machine: processes that number 0 starts itself, and reaches through a pipe each."""

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue

import torch.distributed as dist

from kdal_cli.devices import collectives, pulse
from kdal_cli.devices.collectives import Deserted
from kdal_cli.devices.parcel import Lent, pack, unpack
from kdal_cli.devices.team import Answer, answered, meet, take_seat

HELPER = (
    "import sys; sys.path[:] = sys.argv[4:]; "
    "from kdal_cli.devices.pulse import beat; beat(int(sys.argv[2])); "
    "from kdal_cli.devices.piped import help_out; help_out(int(sys.argv[1]), int(sys.argv[3]))"
)
"""What a helper runs. It finds the modules that this process finds, those of the user among them."""


class Piped:
    """The crew of a team on one machine. New helpers can be started whenever these are gone."""

    beyond = None

    def __init__(self, size: int, kind: str) -> None:
        self.size, self.kind = size, kind
        self.helpers = [Helper.start(rank) for rank in range(1, size)]
        self._watchers = [threading.Thread(target=self._watch, args=(each,), daemon=True) for each in self.helpers]
        for watcher in self._watchers:
            watcher.start()

    def meet(self) -> None:
        with tempfile.TemporaryDirectory(prefix="kdal-") as folder:  # nobody else may read it
            meeting = partial(_meet_here, f"{folder}/store", self.kind, self.size)
            self.tell(pack((meet, (meeting,)), Lent()))
            meet(meeting)
            for _, error in self.hear():
                if error is not None:
                    raise error

    def tell(self, parcel: bytes) -> None:
        for helper in self.helpers:
            helper.tell(parcel)

    def hear(self, seconds: float | None = None) -> list[Answer]:
        return [helper.hear(seconds) for helper in self.helpers]

    def loss(self) -> str:
        still = [rank for rank, helper in enumerate(self.helpers, 1) if helper.still.is_set()]
        if still:
            return f"process {still[0]} has stood still for {pulse.STILL:.0f} s"
        codes = {rank: helper.process.poll() for rank, helper in enumerate(self.helpers, 1)}
        ended = sorted((code, rank) for rank, code in codes.items() if code is not None)
        return f"process {ended[0][1]} ended with exit code {ended[0][0]}" if ended else "the processes lost each other"

    def dismiss(self) -> None:
        """Let the helpers go: they hold nothing that is not here too."""
        helpers, self.helpers = self.helpers, []
        for helper in helpers:
            helper.process.kill()
        for helper in helpers:
            helper.process.wait()
            helper.line.close()
        while self._watchers:
            self._watchers.pop().join()  # nothing is left to listen to
        if helpers:
            collectives.leave()

    leave = dismiss

    def _watch(self, helper: "Helper") -> None:
        """End a helper that stands still, and break off what this process waits for on its GPU when one is gone.

        Between CPUs a wait for one that has ended fails by itself; NCCL would wait for ever.
        """
        if pulse.stands_still(helper.pulse):
            helper.still.set()
            helper.process.kill()
        if self.kind == "cuda" and helper in self.helpers:
            collectives.abort()


@dataclass(frozen=True, eq=False)
class Helper:
    """A process, the pipe to it, and its sign of life. still: set when there was none any more."""

    process: subprocess.Popen
    line: Connection
    pulse: int
    still: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def start(cls, rank: int) -> "Helper":
        """In a session of its own, where it hears no Ctrl-C: number 0 does, and decides."""
        line, theirs = Pipe()
        heard, beats = os.pipe()
        with theirs, os.fdopen(beats):
            words = [sys.executable, "-P", "-c", HELPER, str(theirs.fileno()), str(beats), str(rank), *sys.path]
            none, handles = subprocess.DEVNULL, [theirs.fileno(), beats]
            process = subprocess.Popen(words, pass_fds=handles, stdin=none, stdout=none, start_new_session=True)
        return cls(process, line, heard)  # pyright: ignore[reportArgumentType] (a PipeConnection is that of Windows)

    def tell(self, parcel: bytes) -> None:
        try:
            self.line.send_bytes(parcel)
        except OSError:
            raise Deserted from None

    def hear(self, seconds: float | None) -> Answer:
        """(answer, error) to the last call; Deserted is the error of a helper that has ended, or is silent so long."""
        try:
            if self.line.poll(seconds):
                return unpack(self.line.recv_bytes())
        except (EOFError, OSError):
            self.process.wait()
        return None, Deserted()


def help_out(handle: int, rank: int) -> None:
    """All that helper number `rank` does: the calls that come through the pipe `handle`, one after the other.

    After an error it ends, so that whoever waits for it in a collective is told.
    """
    take_seat(rank, rank)
    line, calls = Connection(handle), SimpleQueue()
    threading.Thread(target=_listen, args=(line, calls), daemon=True).start()
    while True:
        answer, failed = answered(calls.get())
        line.send_bytes(answer)
        if failed:
            os._exit(1)


def _listen(line: Connection, calls: SimpleQueue) -> None:
    """Pass on what comes, and end the process when nothing can come any more, whatever it is doing."""
    with suppress(EOFError, OSError):
        while True:
            calls.put(line.recv_bytes())
    os._exit(0)


def _meet_here(store: str, kind: str, size: int, rank: int) -> None:
    """Through a file, and over the loopback interface; from then on nobody looks into it."""
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
    collectives.meet(dist.FileStore(store, size), kind, size, rank)  # pyright: ignore[reportPrivateImportUsage]
