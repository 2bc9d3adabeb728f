"""A watcher that remembers, for every test of a source."""

from collections.abc import Iterator, Mapping

import pytest


class Ear:
    """Hears everything: what was said, what was begun, how many images went by, how many pieces of work are open."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.begun: list[tuple[str, int]] = []
        self.images = self.steps = self.open = 0

    def say(self, text: str) -> None:
        self.said.append(text)

    def begin(self, what: str, steps: int) -> None:
        self.begun.append((what, steps))
        self.open += 1

    def advance(self, steps: int, images: int) -> None:
        self.steps += steps
        self.images += images

    def figures(self, values: Mapping[str, float]) -> None: ...

    def end(self) -> None:
        self.open -= 1


@pytest.fixture
def ear() -> Iterator[Ear]:
    """An ear; what was begun must be ended when the test is."""
    listener = Ear()
    yield listener
    assert listener.open == 0
