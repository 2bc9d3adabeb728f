"""Of many cases of one kind a part runs always, and all of them with `make test-all`."""

from collections.abc import Sequence
from typing import Any

import pytest


def some(cases: Sequence[Any], of: int = 3) -> list[Any]:
    """Every so many of the cases, which may be tuples of arguments; the others are slow."""
    return [case if place % of == 0 else _slow(case) for place, case in enumerate(cases)]


def _slow(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
