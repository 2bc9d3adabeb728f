"""People label on a page of this machine, and the run goes on by itself as soon as a query is answered."""

from torch import Tensor

from kdal_cli.labels.answers import Answers, guesses
from kdal_cli.labels.desk import Desk, refuse_name
from kdal_cli.labels.oracle import FIRST, Answer, NotYet, Occasion, Oracle
from kdal_cli.labels.page.board import Board, Question
from kdal_cli.labels.page.server import serve
from kdal_cli.records.files import shown
from kdal_cli.values import NonNegative, Port, Positive

TITLES = {
    "validation": "Validation: the student is chosen by these",
    "test": "Test: what the student is measured by",
    "review": "Review",
}


def page(
    desk: Desk,
    *,
    price: NonNegative = 1.0,
    price_per_hour: NonNegative | None = None,
    hints: bool = False,
    annotator: str = "person",
    port: Port = 0,
    wait: Positive | None = None,
) -> Oracle:
    """An oracle that serves a page and waits there until every image of a query has its answer.

    price: of a label; with price_per_hour, what the seconds that it took cost instead. hints: whether the page shows
    what the student of the round before holds for likely, never for images of validation and test. annotator: who
    answers, as the ledger tells it. port: of the page; 0 takes any that is free. wait: minutes without an answer after
    which the run ends, to be resumed; None waits for ever.
    """
    refuse_name(annotator)
    board, addresses = Board(desk.folder.parent, annotator), []

    def answer(ids: Tensor, occasion: Occasion = FIRST) -> Answer | NotYet:
        answers = Answers.open(desk.folder / f"{occasion.name}.jsonl", ids.tolist(), desk.classes)
        if answers.missing:
            shows = hints and occasion.guess is not None and occasion.purpose == "train"
            likely = guesses(*occasion.guess(ids)) if shows and occasion.guess else None
            title = TITLES.get(occasion.purpose, f"Round {occasion.round}")
            if not addresses:
                addresses.append(serve(board, port))
            desk.say(f"waiting for {answers.missing:,} labels: {addresses[0]}")
            current = occasion.current.tolist() if occasion.current is not None else None
            measured = occasion.purpose in ("validation", "test")  # in the order of the data, classes come in a row
            question = Question(occasion.name, title, answers, desk.picture, likely, current, mixed=measured)
            if not board.ask(question, None if wait is None else 60 * wait):
                return NotYet(answers.missing, f"kdal label {shown(desk.folder.parent)}, or")
        return answers.answer(price, price_per_hour, annotator)

    return answer
