"""Folders for what is computed once for its configuration and shared: one process computes, the others wait."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kdal_cli.errors import UserError
from kdal_cli.records.files import folder_below, opened


@contextmanager
def locked(folder: Path, what: str, setting: str) -> Iterator[None]:
    """A folder below its store, made where it is missing, for this process alone.

    what: is to be kept there, in words; setting: the key of the store. Raises UserError where that cannot be.
    """
    with ExitStack() as stack:
        try:
            lock = folder_below(folder.parent, folder.name) / ".lock"
            handle = stack.enter_context(opened(lock, os.O_RDWR | os.O_CREAT))
        except OSError as error:
            cure = f"choose another {setting}"
            raise UserError(f"cannot keep {what} here: {error.strerror}", where=folder, cure=cure) from None
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
