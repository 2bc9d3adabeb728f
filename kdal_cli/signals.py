"""Signals that ask a command to end, from its first moment to its last. Standard library only: it is imported first.

Python can only raise an exception between two of its own steps. An import may take it for a failed one, a library may
swallow it, and a computation of a minute keeps it waiting. So a command that is told to stop while it imports, or
before there is any work to put down, ends on the spot; one that has not ended `PATIENCE` seconds later ends all the
same. What is on disk is whole at every instant, as it is for a kill.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from kdal_cli.errors import Stopped
from kdal_cli.plain import clean

ASKING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"))

PATIENCE = 8.0
"""Seconds after which a command that was asked to end does so, whatever it is doing."""

Advice = Callable[[], str]
"""The command that goes on with what is stopped now; empty where there is nothing to go on with."""

undo: list[Callable[[], object]] = []
"""What takes away, when a command ends on the spot, what it would leave behind without having begun."""

_advice: list[Advice] = []
"""Of the work under way, the innermost last."""

_asked: list[int] = []
"""The signals that came."""


def listen() -> None:
    """Hear the signals that would end this process, from now on; one that is ignored, as nohup asks, stays so."""
    _install()
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_insist, args=(read,), daemon=True).start()


@contextmanager
def heard(advice: Advice = lambda: "") -> Iterator[None]:
    """Work that a signal stops by raising Stopped, with the command that goes on. Needs no `listen`."""
    if _asked:  # something has swallowed it
        raise Stopped(_words(_asked[-1]), signal=_asked[-1])
    replaced = _install() if threading.current_thread() is threading.main_thread() else {}
    _advice.append(advice)
    try:
        yield
    finally:
        _advice.pop()
        for number, handler in replaced.items():
            signal.signal(number, handler)


def over(code: int) -> None:
    """The work is done and told: a signal that comes while Python takes itself apart changes nothing of that."""
    for number in ASKING:
        if signal.getsignal(number) is _stop:
            signal.signal(number, lambda *_: os._exit(code))


def _install() -> dict[int, Any]:
    """Hear what nobody hears yet; returns {signal: who did before}."""
    silent = (signal.SIG_DFL, signal.default_int_handler)
    return {n: signal.signal(n, _stop) for n in ASKING if signal.getsignal(n) in silent}


def _stop(number: int, frame: FrameType | None) -> None:
    _asked.append(number)
    if not _advice or len(_asked) > 1 or _imports(frame):
        _leave(number)
    raise Stopped(_words(number), signal=number)


def _insist(pipe: int) -> None:
    """Wait for a signal, and see to it that it is obeyed."""
    while (number := os.read(pipe, 1)[0]) not in ASKING:
        pass
    time.sleep(PATIENCE)
    _leave(number)


def _leave(number: int) -> None:
    """End on the spot, with the one line that there is to say."""
    for take_away in undo:
        with suppress(Exception):
            take_away()
    with suppress(OSError):
        os.write(2, f"kdal: {clean(_words(number))}\n".encode(errors="replace"))
    os._exit(128 + number)


def _words(number: int) -> str:
    go_on = _advice[-1]() if _advice else ""
    return f"stopped by {signal.Signals(number).name}; go on with: {go_on}" if go_on else "stopped"


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported by what runs."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
