"""A query in Label Studio: its tasks are made once, what people say of them is read as they meant it.

The server here answers with the JSON that version 1.23 does; `tests/services` asks a real one.
"""

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from kdal_cli.errors import MachineError, UserError
from kdal_cli.labels.desk import Desk
from kdal_cli.labels.ledger import Ledger
from kdal_cli.labels.opinions import disputed
from kdal_cli.labels.oracle import Answer, NotYet, Occasion
from kdal_cli.labels.oracles import label_studio as module
from kdal_cli.labels.oracles.label_studio import label_studio
from kdal_cli.records.files import read_json, write_json

IDS, TOKEN, PERSONAL = torch.tensor([7, 3, 12]), "t" * 40, "head.body.tail"


class Server:
    """Projects, tasks and annotations in memory, and every request that came."""

    def __init__(self) -> None:
        self.projects: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str, str]] = []
        self.access, self.to = "access-1", ""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply(None)

            def do_POST(self) -> None:
                self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _reply(self, body: Any) -> None:
                authorization = self.headers.get("Authorization", "")
                server.asked.append((self.command, self.path, authorization))
                status, answer = server.answer(self.command, self.path, body, authorization)
                data = json.dumps(answer).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", server.to)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, method: str, path: str, body: Any, authorization: str) -> tuple[int, Any]:
        path, _, query = path.partition("?")
        if self.to:
            return 302, {}
        if path == "/api/token/refresh/":
            return (200, {"access": self.access}) if body == {"refresh": PERSONAL} else (401, {"detail": "invalid"})
        if authorization not in (f"Token {TOKEN}", f"Bearer {self.access}"):
            return 401, {"detail": "Invalid token."}
        match [method, *path.strip("/").split("/")[1:]]:
            case ["GET", "projects"]:
                return 200, {"count": len(self.projects), "next": None, "results": self.projects}
            case ["POST", "projects"]:
                self.projects.append({"id": len(self.projects) + 1, **body})
                return 201, self.projects[-1]
            case ["POST", "projects", _, "import"]:
                assert query == "return_task_ids=true"
                first = len(self.tasks) + 1
                self.tasks += [{"id": first + n, "annotations": [], **task} for n, task in enumerate(body)]
                return 201, {"task_count": len(body), "task_ids": list(range(first, first + len(body)))}
            case ["GET", "projects", _, "export"]:
                return 200, self.tasks
            case ["GET", "tasks", number]:
                return 200, self.tasks[int(number) - 1]
            case ["GET", "tasks", number, "annotations"]:  # as the real one has it
                said = self.tasks[int(number) - 1]["annotations"]
                return 200, [each for each in said if not each["was_cancelled"]]
        return 404, {"detail": "Not found."}

    def annotate(
        self, id: int, choice: str | None, by: int = 1, seconds: float = 3.0, *, skipped: bool = False
    ) -> None:
        """What a person does who submits, or skips, the image of an id."""
        [task] = [task for task in self.tasks if task["data"]["kdal"].endswith(f"/{id}")]
        value = {"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": [choice]}}
        made = f"2026-11-29T10:{len(task['annotations']):02}:00Z"
        task["annotations"].append(
            {
                "completed_by": {"id": by, "email": {1: "anna@lab", 2: "ben@lab"}[by]},
                "result": [value] if choice is not None else [],
                "was_cancelled": skipped,
                "lead_time": seconds,
                "created_at": made,
                "updated_at": made,
            }
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    yield server
    server.http.shutdown()
    server.http.server_close()


ROUND = Occasion(3)


def asked(desk: Desk, occasion: Occasion = ROUND, **settings: Any) -> Answer | NotYet:
    return label_studio(desk, wait=0, **settings)(IDS, occasion)


def test_a_query_is_a_task_for_each_image_in_a_project_of_the_run(desk: Desk, server: Server) -> None:
    reply = asked(desk)
    assert isinstance(reply, NotYet)
    assert (reply.labels, reply.todo) == (3, f"label them at {server.url}/projects/1/data and")
    [project] = server.projects
    assert project["label_config"].count("<Choice ") == 5
    assert '<Choice value="&lt;b&gt;shoe&lt;/b&gt;"/>' in project["label_config"]
    assert [task["data"]["path"] for task in server.tasks] == ["photos/7.jpg", "photos/3.jpg", "photos/12.jpg"]
    kind, _, data = server.tasks[0]["data"]["image"].partition(";base64,")
    assert kind == "data:image/png"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.getpixel((0, 0)) == 70


def test_whoever_asks_again_makes_nothing_twice(desk: Desk, server: Server) -> None:
    asked(desk)
    asked(desk)
    path = desk.folder / "label_studio.json"
    state = read_json(path)
    write_json(path, {"run": state["run"]})  # killed after everything was made there and before it was put down
    asked(desk)
    assert (len(server.projects), len(server.tasks)) == (1, 3)


def test_what_people_say_is_the_answer_and_what_it_took(desk: Desk, server: Server) -> None:
    asked(desk)
    server.annotate(7, "hat", by=1, seconds=2.5)
    server.annotate(3, None, by=2, skipped=True)
    server.annotate(12, "<b>shoe</b>", by=2, seconds=30.0)
    answer = asked(desk, price_per_hour=36.0)
    assert isinstance(answer, Answer)
    assert (answer.labels.tolist(), dict(answer.undecided)) == ([1, 2], {1: "cannot tell"})
    assert answer.owners == ("anna@lab", "ben@lab", "ben@lab")
    assert answer.seconds == (2.5, 3.0, 30.0)
    assert torch.allclose(answer.costs, torch.tensor([0.025, 0.03, 0.3], dtype=torch.float64))


def test_an_empty_answer_names_no_class_and_none_of_these_is_said(desk: Desk, server: Server) -> None:
    asked(desk)
    server.annotate(7, None)
    server.annotate(3, "none of these")
    server.annotate(12, "dress")
    answer = asked(desk)
    assert isinstance(answer, Answer)
    assert dict(answer.undecided) == {0: "cannot tell", 1: "none of these"}


def test_of_several_people_most_are_right_and_the_first_of_as_many(desk: Desk, server: Server, tmp_path: Path) -> None:
    asked(desk, annotators=2)
    for id, choices in ((7, ("hat", "dress")), (3, ("dress", "dress")), (12, ("hat", "hat"))):
        server.annotate(id, choices[0], by=1)
        if id != 12:
            server.annotate(id, choices[1], by=2)
    reply = asked(desk, annotators=2)
    assert isinstance(reply, NotYet)
    assert reply.labels == 1  # of an image that one of two has labelled
    server.annotate(12, "dress", by=1)  # thought better of it: the last word of each counts
    server.annotate(12, "dress", by=2)
    answer = asked(desk, annotators=2)
    assert isinstance(answer, Answer)
    assert answer.labels.tolist() == [1, 0, 0]
    assert answer.costs.tolist() == [2, 2, 2]
    ledger = Ledger.open(tmp_path / "ledger.jsonl")
    ledger.buy(0, torch.tensor([7, 3, 12]), torch.zeros(3), lambda _: answer)
    read = Ledger.open(ledger.path)  # who said what is kept beside what they agree on
    assert read.bought()[1].tolist() == [1, 0, 0]
    assert [label for _, label in read.votes()[7]] == [1, 0]
    assert disputed(read.votes()) == [7]
    (one, _), (other, _) = read.votes()[7]
    assert one != other


def test_a_choice_that_is_no_class_of_the_run_is_told_with_its_task(desk: Desk, server: Server) -> None:
    asked(desk)
    server.annotate(3, "coat")
    with pytest.raises(UserError, match=r"task 2 is labelled coat \(http://.*/projects/1/data\): one of the classes"):
        asked(desk)


def test_it_waits_and_goes_on_by_itself(desk: Desk, server: Server, said: list[str], monkeypatch) -> None:
    left = [7, 3, 12]
    monkeypatch.setattr(module.time, "sleep", lambda _: server.annotate(left.pop(), "hat"))
    answer = label_studio(desk)(IDS, Occasion(3))
    assert isinstance(answer, Answer)
    assert answer.labels.tolist() == [1, 1, 1]
    assert [text.split(":")[0] for text in said] == [
        "waiting for 3 labels",
        "waiting for 2 labels",
        "waiting for 1 labels",
    ]


def test_whoever_annotates_is_waited_for_and_the_run_ends_a_while_after_the_last(
    desk: Desk, server: Server, monkeypatch
) -> None:
    minutes, left = 0, [7, 3]

    def sleep(_: float) -> None:
        nonlocal minutes
        minutes += 4
        if left:
            server.annotate(left.pop(), "hat")

    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module.time, "monotonic", lambda: 60 * minutes)
    reply = label_studio(desk, wait=5)(IDS, ROUND)
    assert isinstance(reply, NotYet)
    assert (reply.labels, minutes) == (1, 16)


@pytest.mark.parametrize(("purpose", "shown"), [("train", True), ("validation", False), ("test", False)])
def test_predictions_are_shown_where_asked_for_and_never_of_what_is_measured(
    desk: Desk, server: Server, purpose: str, shown: bool
) -> None:
    guess = lambda ids: (ids % 3, torch.full((len(ids),), 0.75))  # noqa: E731
    asked(desk, Occasion(3, purpose, guess), hints=True)
    predicted = [task.get("predictions", [{}])[0].get("result") for task in server.tasks]
    choices = [result[0]["value"]["choices"] if result else None for result in predicted]
    assert choices == ([["hat"], ["dress"], ["dress"]] if shown else [None] * 3)


def test_a_personal_token_is_exchanged_and_again_when_it_has_run_out(desk: Desk, server: Server, monkeypatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", PERSONAL)
    answers = server.answer

    def ends(*request: Any) -> tuple[int, Any]:
        if request[1].endswith("/import?return_task_ids=true") and server.access == "access-1":
            server.access = "access-2"
        return answers(*request)

    server.answer = ends
    assert isinstance(asked(desk), NotYet)
    assert [path for _, path, _ in server.asked].count("/api/token/refresh/") == 2
    assert len(server.tasks) == 3


def test_a_token_that_is_refused_or_missing_is_one_line_without_the_token(
    desk: Desk, server: Server, monkeypatch
) -> None:
    for token in ("x" * 40, "a.b.c"):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
        with pytest.raises(UserError, match="refuses the token in LABEL_STUDIO_API_KEY") as told:
            asked(desk)
        assert token not in str(told.value)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")
    with pytest.raises(UserError, match="LABEL_STUDIO_API_KEY is not set"):
        asked(desk)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8080", "http://user:secret@host", "http://"])
def test_an_address_that_is_none_is_refused(desk: Desk, monkeypatch, url: str) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    with pytest.raises(UserError, match="LABEL_STUDIO_URL="):
        asked(desk)


def test_the_token_is_taken_nowhere_else(desk: Desk, server: Server) -> None:
    elsewhere = Server()
    server.to = f"{elsewhere.url}/api/users/"
    with pytest.raises(MachineError, match="Label Studio answers 302"):
        asked(desk)
    assert elsewhere.asked == []
    elsewhere.http.shutdown()
    elsewhere.http.server_close()


def test_a_server_that_is_not_there_is_one_line(desk: Desk, server: Server) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(MachineError, match=r"Label Studio does not answer: .*refused.*start it"):
        asked(desk)


def test_classes_that_it_cannot_tell_apart_are_refused(desk: Desk) -> None:
    from dataclasses import replace

    with pytest.raises(UserError, match="differ in spaces alone"):
        label_studio(replace(desk, classes=("a b", "a  b")))


@pytest.mark.parametrize("answer", [None, [], {}, 3, {"results": 3}, {"results": [{}]}, {"results": [], "next": 7}])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_whatever_a_server_answers_it_is_one_line(desk: Desk, server: Server, method: str, answer: Any) -> None:
    answers = server.answer
    pages = 0

    def few(*request: Any) -> tuple[int, Any]:
        nonlocal pages
        pages += 1
        return (200, answer) if request[0] == method and pages < 5 else answers(*request)

    server.answer = few
    try:
        reply: object = asked(desk)
    except MachineError as error:
        reply = error
    assert isinstance(reply, NotYet) or "Label Studio answers" in str(reply)


@pytest.mark.parametrize(
    "annotation",
    [{}, 3, {"created_at": 1}, {"created_at": "x", "completed_by": 1, "result": 3, "was_cancelled": False}],
)
def test_an_annotation_of_another_form_is_one_line(desk: Desk, server: Server, annotation: Any) -> None:
    asked(desk)
    server.tasks[0]["annotations"] = [annotation]
    with pytest.raises(MachineError, match="answers in another form"):
        asked(desk)


@pytest.mark.parametrize("state", [{}, {"run": 3}, {"run": "a", "project": "x"}, {"run": "a", "round_003": {"7": "x"}}])
def test_what_was_put_down_and_changed_is_refused(desk: Desk, server: Server, state: dict[str, Any]) -> None:
    write_json(desk.folder / "label_studio.json", state)
    with pytest.raises(UserError, match=r"label_studio\.json"):
        asked(desk)
    assert server.asked == []
