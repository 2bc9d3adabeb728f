"""The standard streams and the locale: whatever they are, no command ends because of them."""

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from kdal_cli.errors import MachineError

if TYPE_CHECKING:
    from typing_extensions import Buffer

GONE = (errno.EPIPE, errno.EIO)
"""What writing to a pipe without a reader, or to a terminal that was closed, ends with."""


class Unread(io.FileIO):
    """A stream that leads nowhere from the moment on when its reader is gone, as with `| head`.

    Raises MachineError, once, when it is a file that cannot be written, on a full disk for example.
    """

    def write(self, data: "Buffer") -> int:
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno not in GONE:
                raise MachineError(f"cannot write what is said: {error.strerror}", cure="make room") from None
        return super().write(data)


def settle() -> None:
    """Read and write names and files as UTF-8, and let nothing that is said end the command.

    The streams keep their encoding; a character that they cannot show is replaced. In a locale that is not UTF-8 Python
    is started again in its UTF-8 mode: it decides at its start how names of files are read.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding if sys.stdout else 'ascii'}:replace")
        os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    _open_all()
    sys.stdout, sys.stderr = _lasting(sys.stdout, 1, "replace"), _lasting(sys.stderr, 2, "backslashreplace")


def _open_all() -> None:
    """Open what was closed, as with `>&-`: a file of ours would get its number, and what is printed would go there."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


def _lasting(stream: TextIO | None, number: int, errors: str) -> TextIO:
    encoding = stream.encoding if stream else "utf-8"
    lines = os.isatty(number) or number == 2
    raw = io.BufferedWriter(Unread(number, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding=encoding, errors=errors, line_buffering=lines)
