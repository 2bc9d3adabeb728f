"""A sign of life: a helper beats once a second, and number 0 ends one that is not heard of any more.

A process that has died is noticed by its pipe. One that stands still, because somebody has stopped it or the machine
has no memory for it, is noticed by nothing else: the others would wait for it for ever. Standard library only, so that
the first beat comes before the imports that take seconds.
"""

import ctypes
import os
import select
import signal
import threading
import time
from contextlib import suppress

EVERY = 1.0
"""Seconds from beat to beat."""

STILL = 60.0
"""Seconds without a beat after which a helper is given up."""

GRACE = 5.0
"""Seconds for one more, after a time in which number 0 may have stood still itself."""

PR_SET_PDEATHSIG = 1
"""See prctl(2)."""


def beat(pulse: int) -> None:
    """Beat from now on, in a thread of its own; and end with the process that has started this one, however it ends."""
    hang_on(signal.SIGKILL)
    threading.Thread(target=_beat, args=(pulse,), daemon=True).start()


def hang_on(number: int) -> None:
    """Be sent this signal when the process that has started this one ends."""
    with suppress(AttributeError, OSError):  # Linux has it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def stands_still(pulse: int) -> bool:
    """Listen until a helper is not heard any more: True when it is silent, False when it has ended. Closes `pulse`."""
    try:
        while _heard(pulse, STILL) or _heard(pulse, GRACE):
            if not os.read(pulse, 4096):
                return False
        return True
    finally:
        os.close(pulse)


def _heard(pulse: int, seconds: float) -> bool:
    return bool(select.select([pulse], [], [], seconds)[0])


def _beat(pulse: int) -> None:
    with suppress(OSError):
        while True:
            os.write(pulse, b".")
            time.sleep(EVERY)
