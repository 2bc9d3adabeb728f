"""How a command ends: an exit code, and at most one line on stderr."""

import sys
from collections.abc import Callable

from kdal_cli.errors import KdalError, Stopped, Waiting
from kdal_cli.plain import clean, clean_lines


class Escape(BaseException):
    """An error on its way out of Hydra, which would print a line of its own about an Exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def guarded(work: Callable[[], None], debug: bool) -> int:
    """Run `work` and turn every way it can end into an exit code."""
    try:
        work()
        sys.stdout.flush()
    except Stopped as stop:
        return say(f"kdal: {stop}", 128 + stop.signal)
    except KeyboardInterrupt:
        return say("kdal: stopped", 130)
    except Exception as error:
        if debug:
            import traceback

            sys.stderr.write(clean_lines(traceback.format_exc()))
        return tell(error)
    return 0


def tell(error: Exception) -> int:
    """Say an error in one line, once, and return the exit code it means."""
    known = isinstance(error, KdalError)
    if not getattr(error, "told", False):
        reason = str(error).strip().splitlines()
        unknown = f"{type(error).__name__}: {reason[0] if reason else ''}: a fault of kdal; --debug shows where"
        say(f"kdal: {'' if isinstance(error, Waiting) else 'error: '}{error if known else unknown}", 0)
        error.told = True  # type: ignore[attr-defined]
    return error.exit_code if known else 1


def say(line: str, code: int) -> int:
    """A line on stderr, without what commands a terminal: names and files from outside have their words in it."""
    sys.stderr.write(clean(line) + "\n")
    return code
