"""What the page shows and takes: the question that is open, if there is one, and how the run is doing.

One thread asks and waits; others, of the server, read and answer.
"""

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Condition
from typing import Any

from kdal_cli.errors import KdalError
from kdal_cli.images.shown import Shown
from kdal_cli.labels.answers import LONGEST, Answers
from kdal_cli.records.files import opened, read_bytes

TAIL = 1 << 12
"""Bytes at the end of a log that its last line is looked for in."""

TICK = 0.5
"""Seconds for which whoever waits does not look around."""


class Taken(Exception):
    """Somebody else has answered this already, or it is not asked about any more."""


@dataclass(frozen=True)
class Question:
    """name: of its files. picture: of an image, by its id. mixed: whether images come in an order of their own.

    hints: (class, probability) of each image, where shown. current: what the labels are, where they are reviewed.
    """

    name: str
    title: str
    answers: Answers
    picture: Callable[[int], Shown]
    hints: Sequence[tuple[int, float]] | None = None
    current: Sequence[int] | None = None
    mixed: bool = False

    @property
    def told(self) -> dict[str, Any]:
        """The question as the page reads it."""
        ids = list(self.answers.ids)
        if self.mixed:
            Random(0).shuffle(ids)
        asked = {"name": self.name, "title": self.title, "ids": ids, "classes": self.answers.classes}
        return {**asked, "hints": self.hints, "current": self.current}


@dataclass
class Board:
    """run: the run folder, whose curve is shown. question: the one that is open."""

    run: Path
    annotator: str
    question: Question | None = None
    changed: Condition = field(default_factory=Condition)
    _pictures: dict[int, Shown] = field(default_factory=dict)

    def ask(self, question: Question, seconds: float | None) -> bool:
        """Have a question answered. False when nothing was said for so many seconds; then it is no longer open."""
        with self.changed:
            self.question, self._pictures = question, {}
            self.changed.notify_all()
            heard, last = len(question.answers.events), time.monotonic()
            while question.answers.missing and (seconds is None or time.monotonic() - last < seconds):
                self.changed.wait(TICK)
                if len(question.answers.events) != heard:
                    heard, last = len(question.answers.events), time.monotonic()
            self.question = None
            self.changed.notify_all()
        return not question.answers.missing

    def state(self, name: str, seen: int, wait: float) -> dict[str, Any]:
        """What is new for a page that has seen so many answers to the question `name`; it waits for news a while."""
        until = time.monotonic() + wait
        with self.changed:
            while not self._news(name, seen) and (left := until - time.monotonic()) > 0:
                self.changed.wait(left)
            return self._state(name, seen)

    def answer(self, name: str, id: int, label: int | None, word: str, seconds: float) -> None:
        """Take an answer, on disk when this returns. The same one again, after a lost connection, is no second one.

        Raises Taken, and ValueError for what cannot be an answer.
        """
        with self.changed:
            question = self.question
            if question is None or question.name != name:
                raise Taken
            now = question.answers.now.get(id)
            if now is not None and (label is not None or word):
                if (now.label, now.word) == (label, word):
                    return
                raise Taken
            if now is not None or label is not None or word:
                question.answers.add(id, label, word, min(max(seconds, 0.0), LONGEST), self.annotator)
            self.changed.notify_all()

    def picture(self, id: int) -> Shown | None:
        """An image of the question that is open, or None for any other."""
        with self.changed:
            question = self.question
        if question is None or id not in question.answers.known:
            return None
        shown = self._pictures.get(id) or question.picture(id)
        if len(self._pictures) < 8:
            self._pictures[id] = shown
        else:
            self._pictures = {id: shown}
        return shown

    def _news(self, name: str, seen: int) -> bool:
        question = self.question
        return (question.name if question else "") != name or (
            question is not None and len(question.answers.events) != seen
        )

    def _state(self, name: str, seen: int) -> dict[str, Any]:
        question = self.question
        if question is None:
            return {"question": None, "progress": progress(self.run)}
        same = question.name == name and seen <= len(question.answers.events)
        first = seen if same else 0
        news = [[said.id, said.label, said.word] for said in question.answers.events[first:]]
        told = {"name": question.name, "first": first, "events": news}
        return told if same else told | {"question": question.told, "progress": progress(self.run)}


def progress(run: Path) -> dict[str, Any]:
    """The curve of a run so far, [[labels, test accuracy]], and what it is doing."""
    curve: list[list[float]] = []
    with suppress(KdalError, OSError, ValueError, KeyError, csv.Error):
        text = read_bytes(run / "curve.csv", 1 << 22).decode()
        curve = [[float(row["labels"]), float(row["test_accuracy"])] for row in csv.DictReader(io.StringIO(text))]
    doing = ""
    with suppress(KdalError, OSError, ValueError, KeyError, IndexError, TypeError):
        last = json.loads(_tail(run / "metrics.jsonl").splitlines()[-1])
        doing = f"{last['what']}: step {last['step']}" if last["what"] else ""
    return {"curve": curve, "doing": doing}


def _tail(path: Path) -> str:
    import os

    with opened(path, os.O_RDONLY) as handle:
        size = os.fstat(handle).st_size
        return os.pread(handle, TAIL, max(0, size - TAIL)).decode(errors="replace")
