"""Helpers that torchrun has started, on one machine or several: every process of the job runs the same command.

Number 0 composes, owns the run folder and the screen, and sends its calls to the others, which serve until it is over.
Calls and answers travel by gloo; what must be heard outside of a call (who has come, failed, or still lives) is in the
store that torchrun keeps.
"""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from itertools import count
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from kdal_cli.devices import collectives, pulse
from kdal_cli.devices.collectives import PATIENCE, Deserted
from kdal_cli.devices.parcel import RECEIVED, Carry, Lent, Place, pack, unpack
from kdal_cli.devices.team import GRACE, Answer, answered, take_seat
from kdal_cli.errors import MachineError, UserError

ARRIVAL = timedelta(minutes=30)
"""How long the first of the processes waits for the last."""

FAREWELL = timedelta(seconds=5)
"""How long number 0 keeps a store for others that leave."""

CHUNK = 64 << 20
"""Bytes of images that are sent at a time."""

OVER = b"over"

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
"""What torchrun says in the environment of a process, in numbers."""


@dataclass(frozen=True)
class Launch:
    """What torchrun tells a process. number: among those of its machine, of which there are `beside`."""

    rank: int
    size: int
    number: int
    beside: int
    address: str
    port: int

    @classmethod
    def of(cls, environment: dict[str, str]) -> "Launch | None":
        """None where torchrun has not started this process, or it alone. Raises UserError for what is no number."""
        if not all(name in environment for name in (*NAMES, "MASTER_ADDR")):
            return None
        try:
            rank, size, number, beside, port = (int(environment[name]) for name in NAMES)
        except ValueError:
            told = ", ".join(f"{name}={environment[name]}" for name in NAMES)
            raise UserError(told, cure="whole numbers, as torchrun sets them") from None
        return cls(rank, size, number, beside, environment["MASTER_ADDR"], port) if size > 1 else None

    @property
    def hosts(self) -> bool:
        """Whether this process keeps the store, which the agents of torchrun do otherwise."""
        return self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"

    @cached_property
    def store(self) -> Any:
        """For the group and for this thread."""
        return self.connected(self.hosts)

    def connected(self, hosts: bool = False) -> Any:
        """The store, through a connection of its own. Raises MachineError where nobody answers."""
        try:
            store = dist.TCPStore(self.address, self.port, None, hosts, ARRIVAL)  # pyright: ignore[reportPrivateImportUsage]
        except (RuntimeError, OSError) as error:
            raise MachineError(f"nobody answers at {self.address}:{self.port}: {str(error).splitlines()[0]}") from error
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return dist.PrefixStore(f"kdal/{again}", store)  # pyright: ignore[reportPrivateImportUsage]


@cache
def launch() -> Launch | None:
    """How this process was launched, where torchrun did it. What it starts itself is on its own again."""
    mine = Launch.of(dict(os.environ))
    for name in NAMES:
        os.environ.pop(name, None)
    return mine


class Launched:
    """The crew that torchrun has started. It serves one team after the other, and cannot be started anew."""

    def __init__(self, mine: Launch) -> None:
        self.launch = mine
        self.is_gone = False
        self._has_met = False

    @property
    def beyond(self) -> Carry | None:
        return self._carry if self.launch.size > self.launch.beside else None

    def recruit(self, size: int, kind: str) -> "Launched":
        """Number 0 and the others meet, the first time. Raises MachineError when they have parted."""
        if self.is_gone:
            raise MachineError("the processes that torchrun started have ended", cure="start torchrun again and resume")
        if not self._has_met:
            self.launch.store.set("begin", kind)
            collectives.meet(self.launch.store, kind, size, 0, messages=True)
            self._has_met = True
            threading.Thread(target=_live, args=(self.launch, range(1, size)), daemon=True).start()
        return self

    def meet(self) -> None:
        """They have met, or they could not be told to."""

    def tell(self, parcel: bytes) -> None:
        _broadcast(torch.frombuffer(bytearray(parcel), dtype=torch.uint8))

    def hear(self, seconds: float | None = None) -> list[Answer]:
        if seconds is None:
            with suppress(Deserted):
                return [unpack(_received(rank)) for rank in range(1, self.launch.size)]
        return self._failures(GRACE if seconds is None else seconds)

    def loss(self) -> str:
        return "a process of another rank is gone"

    def dismiss(self) -> None:
        self.is_gone = True
        with suppress(Exception):
            self.launch.store.set("over", OVER)
        with suppress(Exception):
            collectives.leave()

    def leave(self) -> None:
        """The next team of this process will need them."""

    def _failures(self, seconds: float) -> list[Answer]:
        """What helpers said that could not go on, once one has, or after so many seconds."""
        until = time.monotonic() + seconds
        while True:
            with suppress(RuntimeError):
                failed = [
                    key for rank in range(1, self.launch.size) if self.launch.store.check([key := f"failed/{rank}"])
                ]
                if failed:
                    return [unpack(self.launch.store.get(key)) for key in failed]
            if time.monotonic() > until:
                return [(None, Deserted())]
            time.sleep(0.1)

    def _carry(self, place: Place, pixels: Tensor) -> None:
        """Have every helper reach these pixels, and send them where one does not."""
        self.tell(pack((_reaches, (place,)), Lent()))
        if all(there for there, _ in self._heard()):
            return
        self.tell(pack((_take, (place,)), Lent()))
        for chunk in pixels.reshape(-1).split(CHUNK):
            _follow(chunk.clone())
        self._heard()

    def _heard(self) -> list[Answer]:
        """The answers, none of which is an error."""
        told = self.hear()
        for _, error in told:
            if error is not None:
                raise error
        return told


@cache
def crew() -> Launched | None:
    """The processes beside this one, number 0, where torchrun has started any."""
    mine = launch()
    return Launched(mine) if mine is not None and mine.rank == 0 else None


def over() -> None:
    """This process, number 0, has nothing more to do, and whoever serves it may end too."""
    mine = launch()
    if mine is None:
        return
    with suppress(Exception):  # they may have ended, and torchrun with them
        mine.store.set("over", OVER)
        if not mine.store.check(["begin"]):
            mine.store.set("begin", OVER)
        if mine.hosts:
            mine.store.wait([f"left/{rank}" for rank in range(1, mine.size)], FAREWELL)
    collectives.leave()


# In a helper.


def serve(mine: Launch) -> NoReturn:
    """Do what number 0 sends, call after call, until it is over. Signals are for number 0 to hear."""
    pulse.hang_on(signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    take_seat(mine.rank, mine.number)
    threading.Thread(target=_live, args=(mine, range(1)), daemon=True).start()
    kind = _begun(mine)
    if kind == "cuda":
        torch.cuda.set_device(mine.number)
    collectives.meet(mine.store, kind, mine.size, mine.rank, messages=True)
    try:
        while True:
            answer, failed = answered(bytes(_broadcast(None).numpy()))
            if failed:
                mine.store.set(f"failed/{mine.rank}", answer)
                os._exit(1)
            _send(answer)
    except Deserted:
        _leave(mine.store, mine.rank)


def _begun(mine: Launch) -> str:
    """The kind of devices, once number 0 knows it."""
    mine.store.wait(["begin"], PATIENCE)
    said = mine.store.get("begin")
    if said == OVER:
        _leave(mine.store, mine.rank)
    return said.decode()


def _leave(store: Any, rank: int) -> NoReturn:
    """End: well when it is over, and as after a failure of the machine when number 0 is gone."""
    with suppress(RuntimeError):
        if store.check(["over"]):
            store.set(f"left/{rank}", OVER)
            os._exit(0)
    os._exit(MachineError.exit_code)


def _reaches(place: Place) -> bool:
    with suppress(OSError, ValueError):
        place.pixels()
        return True
    return False


def _take(place: Place) -> None:
    """Receive the pixels of a place, and keep them where they were out of reach."""
    pixels = torch.empty(place.shape, dtype=torch.uint8)
    for chunk in pixels.view(-1).split(CHUNK):
        _follow(chunk)
    if not _reaches(place):
        RECEIVED[place] = pixels


# Between processes, by gloo.


def _broadcast(message: Tensor | None) -> Tensor:
    """Number 0 sends bytes, the others receive them."""
    size = torch.tensor([0 if message is None else len(message)])
    _follow(size)
    message = torch.empty(int(size), dtype=torch.uint8) if message is None else message
    _follow(message)
    return message


def _follow(values: Tensor) -> None:
    try:
        dist.broadcast(values, 0)
    except RuntimeError as error:
        raise Deserted from error


def _send(answer: bytes) -> None:
    try:
        dist.send(torch.tensor([len(answer)]), 0)
        dist.send(torch.frombuffer(bytearray(answer), dtype=torch.uint8), 0)
    except RuntimeError as error:
        raise Deserted from error


def _received(rank: int) -> bytes:
    size = torch.tensor([0])
    try:
        dist.recv(size, rank)
        answer = torch.empty(int(size), dtype=torch.uint8)
        dist.recv(answer, rank)
    except RuntimeError as error:
        raise Deserted from error
    return bytes(answer.numpy())


def _live(mine: Launch, others: range) -> None:
    """Give signs of life, and end this process when one of the others gives none, or, to a helper, when it is over."""
    store, heard, when = mine.connected(), dict.fromkeys(others, b""), dict.fromkeys(others, time.monotonic())
    for beat in count(1):
        try:
            store.set(f"alive/{mine.rank}", str(beat))
            if mine.rank and store.check(["over"]):
                _leave(store, mine.rank)
            for rank in others:
                said = store.get(key) if store.check([key := f"alive/{rank}"]) else b""
                if said != heard[rank]:
                    heard[rank], when[rank] = said, time.monotonic()
        except RuntimeError:
            _give_up(mine, "the store of torchrun is gone")
        if time.monotonic() - (last := min(when.values())) > pulse.STILL:
            silent = min(rank for rank in others if when[rank] == last)
            _give_up(mine, f"process {silent} has stood still for {pulse.STILL:.0f} s")
        time.sleep(pulse.EVERY)


def _give_up(mine: Launch, reason: str) -> NoReturn:
    """Nothing here can interrupt a wait for another machine; what is on disk is whole at every instant."""
    if not mine.rank:
        sys.stderr.write(f"kdal: error: {MachineError(reason, where='torchrun', cure='resume the run')}\n")
        sys.stderr.flush()
    os._exit(MachineError.exit_code)
