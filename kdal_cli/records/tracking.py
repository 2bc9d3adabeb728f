"""Figures of a run on their way to a tracker: TensorBoard, MLflow, Weights & Biases, or nobody.

A tracker is a guest: the run writes its own files whatever becomes of it, and goes on without it when it fails.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from kdal_cli.errors import KdalError, UserError
from kdal_cli.values import flat

State = Literal["done", "stopped", "failed"]
"""How a run ended: with its result, by a signal, by an error."""


class Tracker(Protocol):
    """Where figures go. A run that was stopped comes back to the same place, and may send some of them again."""

    def figures(self, values: Mapping[str, float], step: int, what: str) -> None:
        """what: the training that they were measured in (`round_3`), `curve`, `rounds` or `result`; without spaces."""
        ...

    def close(self, state: State) -> None: ...


class Tracking:
    """A `kdal_cli.types.Watcher` that hands figures on to a tracker, each with its step and what it belongs to.

    Within a training the step is that of the training. Between trainings a line with `labels` is one of the `curve`,
    its step the labels bought; another is about one of the `rounds`, its step the round. The `result` has step 0.

    name: of the tracker, for messages. make: begins it; None when there is none. say: tells the user.
    first: this is the first start of the run, which is refused when the tracker cannot begin; a run that goes on does
    so without it, because its configuration can no longer be changed.
    """

    def __init__(
        self, name: str | None, make: Callable[[], Tracker] | None, say: Callable[[str], None], *, first: bool
    ) -> None:
        self._name, self._make, self._say, self._first = name, make, say, first
        self._tracker: Tracker | None = None
        self._what, self._step = "", 0

    def start(self) -> None:
        """Begin the tracker. Raises UserError when it cannot, and the run has not begun either."""
        if self._make is None:
            return
        try:
            self._tracker = self._make()
        except Exception as error:  # anything that a library, a server or a disk may do
            if self._first and isinstance(error, KdalError):
                raise
            if self._first:
                cure = "mend that, or tracker=none: the run folder has every figure"
                raise UserError(f"tracker={self._name} cannot begin: {_reason(error)}", cure=cure) from error
            self._lose(error)

    def say(self, text: str) -> None:
        """Words stay in `run.log`."""

    def begin(self, what: str, steps: int, *, at_most: bool = False) -> None:
        self._what, self._step = what, 0

    def advance(self, steps: int, images: int) -> None:
        self._step += steps

    def figures(self, values: Mapping[str, float]) -> None:
        if self._what:
            self._send(values, self._step, self._what)
        elif "labels" in values:
            self._send(values, int(values["labels"]), "curve")
        else:
            self._send(values, int(values.get("round", 0)), "rounds")

    def end(self) -> None:
        self._what, self._step = "", 0

    def result(self, result: Mapping[str, Any]) -> None:
        """What the run ends with."""
        numbers = {key: value for key, value in flat(result).items() if isinstance(value, int | float)}
        self._send(numbers, 0, "result")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        state: State = "done" if kind is None else "failed" if issubclass(kind, Exception) else "stopped"
        self._attempt(lambda tracker: tracker.close(state))

    def _send(self, values: Mapping[str, float], step: int, what: str) -> None:
        self._attempt(lambda tracker: tracker.figures(values, step, what.replace(" ", "_")))

    def _attempt(self, deed: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            deed(self._tracker)
        except Exception as error:  # anything that a library, a server or a disk may do
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        self._tracker = None
        self._say(f"WARNING: tracker={self._name} failed: {_reason(error)}; the run goes on without it")


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
