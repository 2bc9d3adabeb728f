"""Figures on their way to a tracker: what they belong to, at which step, and what happens when it fails."""

from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest

from kdal_cli.errors import Stopped, UserError
from kdal_cli.records.tracking import Tracker, Tracking, flat


class Book:
    """A tracker that remembers; from the call numbered `fails` on, it raises."""

    def __init__(self, fails: int | None = None) -> None:
        self.fails, self.calls = fails, 0
        self.sent: list[tuple[str, int, dict[str, float]]] = []
        self.closed: list[str] = []

    def figures(self, values: Mapping[str, float], step: int, what: str) -> None:
        self._call()
        self.sent.append((what, step, dict(values)))

    def close(self, state: str) -> None:
        self._call()
        self.closed.append(state)

    def _call(self) -> None:
        self.calls += 1
        if self.fails is not None and self.calls > self.fails:
            raise OSError("no space left\nhere")


def tracking(make: Callable[[], Tracker] | None, said: list[str], *, first: bool = True) -> Tracking:
    return Tracking("book", make, said.append, first=first)


def started(book: Book, said: list[str] | None = None) -> Tracking:
    found = tracking(lambda: book, [] if said is None else said)
    found.start()
    return found


def broken() -> Tracker:
    raise ConnectionError("nobody answers\nat all")


def test_a_figure_of_a_training_has_its_step_and_its_name_without_spaces() -> None:
    book = Book()
    watch = started(book)
    watch.begin("round 3 sibling 1", 20)
    watch.advance(4, 256)
    watch.advance(6, 384)
    watch.figures({"loss": 0.5})
    watch.end()
    watch.begin("round 4", 20)
    watch.figures({"loss": 0.4})
    assert book.sent == [("round_3_sibling_1", 10, {"loss": 0.5}), ("round_4", 0, {"loss": 0.4})]


def test_between_trainings_a_line_with_labels_is_of_the_curve_and_others_are_of_a_round() -> None:
    book = Book()
    watch = started(book)
    watch.figures({"round": 2, "labels": 60, "test_accuracy": 0.9})
    watch.figures({"round": 3, "logits_s": 0.1})
    watch.figures({"accuracy": 0.9})
    assert [(what, step) for what, step, _ in book.sent] == [("curve", 60), ("rounds", 3), ("rounds", 0)]


def test_the_result_is_its_numbers_with_their_paths() -> None:
    book = Book()
    started(book).result({"student": {"accuracy": 0.9, "name": "mlp"}, "val_accuracy": 0.8})
    assert book.sent == [("result", 0, {"student.accuracy": 0.9, "val_accuracy": 0.8})]


def test_a_nested_mapping_becomes_flat() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": [2, 3]}, "e": None}) == {"a.b.c": 1, "a.d": [2, 3], "e": None}


@pytest.mark.parametrize(
    ("error", "state"), [(None, "done"), (ValueError(), "failed"), (Stopped("by hand", signal=15), "stopped")]
)
def test_a_tracker_is_told_how_the_run_ended(error: BaseException | None, state: str) -> None:
    book = Book()
    with suppress(ValueError, Stopped), started(book):
        if error is not None:
            raise error
    assert book.closed == [state]


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_one_that_fails_is_named_once_and_never_called_again(fails: int) -> None:
    said: list[str] = []
    book = Book(fails)
    with started(book, said) as watch:
        for labels in (20, 40, 60):
            watch.figures({"labels": labels})
        watch.result({"val_accuracy": 0.5})
    assert said == ["WARNING: tracker=book failed: no space left; the run goes on without it"]
    assert (len(book.sent), book.calls, book.closed) == (fails, fails + 1, [])


def test_one_that_fails_as_it_is_closed_ends_no_run() -> None:
    said: list[str] = []
    with started(Book(fails=0), said):
        pass
    assert len(said) == 1


def test_one_that_cannot_begin_refuses_a_new_run() -> None:
    with pytest.raises(UserError, match=r"^tracker=book cannot begin: nobody answers: .*tracker=none"):
        tracking(broken, []).start()


def test_its_own_refusal_keeps_its_words() -> None:
    def refuse() -> Tracker:
        raise UserError("a password", cure="leave it out")

    with pytest.raises(UserError, match=r"^a password: leave it out$"):
        tracking(refuse, []).start()


def test_a_run_that_goes_on_does_so_without_one_that_cannot_begin() -> None:
    said: list[str] = []
    watch = tracking(broken, said, first=False)
    watch.start()
    watch.figures({"labels": 20})
    assert said == ["WARNING: tracker=book failed: nobody answers; the run goes on without it"]


def test_before_it_has_begun_and_where_there_is_none_nothing_is_sent() -> None:
    book, said = Book(), []
    for make in (None, lambda: book):
        with tracking(make, said) as watch:
            watch.begin("round 0", 5)
            watch.figures({"loss": 1.0})
            watch.result({"accuracy": 1.0})
    nobody = tracking(None, said)
    nobody.start()
    nobody.figures({"labels": 20})
    assert (book.calls, said) == (0, [])
