"""How much memory each image file named on the command line takes to decode: a process of its own for each.

    python memory.py SIZE ROOM,ROOM,… FILE…

SIZE: of the square. ROOM: bytes that `opened` allows. Prints a line for each room and file: bytes taken at most, and
what came of it.
"""

import os
import sys
from pathlib import Path

from PIL import Image

from kdal_cli.images import opening
from kdal_cli.images.decode import Picture, Reading, decode
from kdal_cli.images.listing import Entry


def peak() -> int:
    """Bytes that this process has had at most since the last call of `forget`."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def forget() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(path: Path, size: int) -> None:
    reading = Reading(size, 3, max_pixels=10**9)
    ranges = {"integer": (0.0, 65535.0), "float": (0.0, 1.0)}
    forget()
    before = peak()
    with opening.quietly():
        answer = decode(path.parent, Entry(path.name, 0, path.stat().st_size, 0), reading, ranges)
    print(peak() - before, "read" if isinstance(answer, Picture) else answer, flush=True)


if __name__ == "__main__":
    size, rooms, *names = sys.argv[1:]
    Image.init()
    for room in rooms.split(","):
        opening.ROOM = int(room)
        for name in names:
            child = os.fork()
            if not child:
                measure(Path(name), int(size))
                os._exit(0)
            os.waitpid(child, 0)
