"""The labelling page by HTTP: what it serves, to whom, and that an answer is kept before it is confirmed."""

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch

from kdal_cli.images.shown import shown
from kdal_cli.labels.answers import Answers
from kdal_cli.labels.naming import Spelling
from kdal_cli.labels.page.board import Board, Question
from kdal_cli.labels.page.server import page, policy, serve

CLASSES = ("dress", "</script><script>alert(1)</script>", "hat")
IDS = (7, 3, 12)


class Site:
    """A board with its server, and a person who types at both."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.board = folder, Board(folder, "anna")
        parts = urlsplit(serve(self.board))
        self.host, self.port, self.home = parts.netloc, parts.port, parts.path
        self.asker: threading.Thread | None = None
        self.answered: list[bool] = []

    def ask(
        self, name: str = "round_001", seconds: float | None = None, ids: tuple[int, ...] = IDS, **more: Any
    ) -> Answers:
        answers = Answers.open(self.folder / f"{name}.jsonl", ids, CLASSES)
        picture = shown(torch.full((3, 4, 4), 9, dtype=torch.uint8))
        question = Question(name, "Round 1", answers, lambda id: picture, [(0, 0.5)] * len(ids), **more)
        self.asker = threading.Thread(target=lambda: self.answered.append(self.board.ask(question, seconds)))
        self.asker.start()
        while self.board.question is not question and self.asker.is_alive():
            time.sleep(0.001)
        return answers

    def get(self, path: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self._request("GET", self.home + path, None, headers)

    def say(self, id: Any, label: Any, word: Any = "", headers: dict[str, str] | None = None, **more: Any):
        body = {"name": "round_001", "seen": 0, "id": id, "label": label, "word": word, "seconds": 1.0, **more}
        own = {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
        status, _, data = self._request("POST", self.home + "answer", json.dumps(body), own | (headers or {}))
        return status, data

    def state(self, **asked: object) -> dict[str, Any]:
        query = "&".join(f"{key}={value}" for key, value in asked.items())
        return json.loads(self.get(f"state?{query}")[2])

    def _request(self, method: str, path: str, body: str | None, headers: dict[str, str]):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            sent = headers | ({"Content-Length": str(len(body.encode()))} if body is not None else {})
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(body.encode() if body is not None else None)
            reply = connection.getresponse()
            return reply.status, dict(reply.headers), reply.read()
        finally:
            connection.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    opened = Site(tmp_path)
    yield opened
    question = opened.board.question
    if question is not None:  # let whoever waits go
        for id in question.answers.ids:
            if id not in question.answers.now:
                opened.board.answer(question.name, id, 0, "", 0.0)
    if opened.asker is not None:
        opened.asker.join(10)
        assert not opened.asker.is_alive()


def test_the_page_may_do_nothing_but_its_own_and_loads_nothing_from_elsewhere(site: Site) -> None:
    status, headers, data = site.get()
    assert (status, data.decode()) == (200, page())
    assert headers["Content-Security-Policy"] == policy()
    assert re.fullmatch(
        r"default-src 'none'; script-src 'sha256-\S+='; style-src 'sha256-\S+='; img-src 'self'; connect-src 'self'; "
        r"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        policy(),
    )
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|innerHTML|insertAdjacentHTML|document\.write", page())


def test_a_question_is_told_with_names_as_they_are(site: Site) -> None:
    site.ask()
    told = site.state()["question"]
    assert (told["ids"], told["classes"], told["hints"]) == (list(IDS), list(CLASSES), [[0, 0.5]] * 3)
    assert (told["name"], told["current"]) == ("round_001", None)


def test_an_answer_is_on_disk_before_it_is_confirmed_and_the_last_one_lets_the_run_go_on(site: Site) -> None:
    site.ask()
    for number, id in enumerate(IDS, 1):
        status, data = site.say(id, 1, seen=number - 1)
        assert status == 200
        lines = (site.folder / "round_001.jsonl").read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines] == list(IDS[:number])
        if number < 3:
            assert json.loads(data)["events"] == [[id, 1, ""]]
    assert site.asker is not None
    site.asker.join(10)
    assert site.answered == [True]
    assert site.state()["question"] is None


def test_the_same_answer_again_is_kept_once_and_another_one_is_refused_until_it_is_taken_back(site: Site) -> None:
    answers = site.ask()
    assert [site.say(7, 1)[0] for _ in range(2)] == [200, 200]
    assert len(answers.events) == 1
    status, data = site.say(7, 2)
    assert (status, json.loads(data)["events"]) == (409, [[7, 1, ""]])
    assert site.say(7, None)[0] == 200
    assert site.say(7, None)[0] == 200  # again, after a lost connection
    assert site.say(7, None, "none of these")[0] == 200
    assert [(said.label, said.word) for said in answers.events] == [(1, ""), (None, ""), (None, "none of these")]
    assert site.say(3, 1, name="round_000")[0] == 409


def test_two_pages_hear_of_each_other(site: Site) -> None:
    site.ask()
    heard: list[dict[str, Any]] = []
    other = threading.Thread(target=lambda: heard.append(site.state(name="round_001", seen=0, wait=1)))
    other.start()
    time.sleep(0.2)
    site.say(3, 2)
    other.join(10)
    assert heard == [{"name": "round_001", "first": 0, "events": [[3, 2, ""]]}]


def test_the_next_question_is_told_within_300_ms(site: Site) -> None:
    site.ask("round_000", ids=(7,))
    site.say(7, 0, name="round_000")
    assert site.asker is not None
    site.asker.join(10)
    heard: list[float] = []

    def wait() -> None:
        state = site.state(wait=1)
        while not state.get("question"):
            state = site.state(wait=1)
        heard.append(time.monotonic())

    page_that_waits = threading.Thread(target=wait)
    page_that_waits.start()
    time.sleep(0.3)
    start = time.monotonic()
    site.ask("round_001")
    page_that_waits.join(10)
    assert heard[0] - start < 0.3


def test_ten_thousand_images_are_told_once_and_answered_one_by_one(site: Site) -> None:
    site.ask(ids=tuple(range(10_000)))
    assert len(site.state()["question"]["ids"]) == 10_000
    start = time.monotonic()
    for id in range(50):
        _, data = site.say(id, 0, seen=id)
        assert len(data) < 200
    assert time.monotonic() - start < 10
    for id in range(50, 10_000):  # not to wait for the rest
        site.board.question.answers.now.setdefault(id, None)  # type: ignore[union-attr, arg-type]


def test_only_images_of_the_question_are_served(site: Site) -> None:
    assert site.get("image/7")[0] == 404
    site.ask()
    status, headers, data = site.get("image/7")
    assert (status, headers["Content-Type"], data[:4]) == (200, "image/png", b"\x89PNG")
    for path in (
        "image/8",
        "image/../../etc/passwd",
        "image/%2e%2e/x",
        "image/-1",
        "image/7.png",
        "ledger.jsonl",
        "..",
    ):
        assert site.get(path)[0] == 404, path


def test_nobody_gets_anything_without_the_token(site: Site) -> None:
    site.ask()
    for home in ("/", "//", "/x/", site.home[:-2] + "/", site.home.rstrip("/"), site.home.lower() + "x"):
        for path in ("", "state", "image/7"):
            status, _, data = site._request("GET", home + path, None, {})
            assert (status, data) == (404, b"Not Found"), home + path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1:1", "[::1]:{port}", "", "localhost"]
)
def test_a_name_that_leads_here_from_elsewhere_is_refused(site: Site, host: str) -> None:
    assert site.get(Host=host.format(port=site.port))[0] == 403
    assert site.get("state", Host=host.format(port=site.port))[0] == 403


def test_localhost_is_a_name_of_ours(site: Site) -> None:
    assert site.get(Host=f"localhost:{site.port}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_an_answer_that_another_site_sends_is_refused(site: Site, headers: dict[str, str]) -> None:
    answers = site.ask()
    assert site.say(7, 1, headers=headers)[0] == 403
    assert answers.events == []


def test_a_form_of_another_site_has_no_such_content_and_is_refused(site: Site) -> None:
    answers = site.ask()
    assert site.say(7, 1, headers={"Content-Type": "text/plain"})[0] == 400
    assert answers.events == []


@pytest.mark.parametrize(
    "more",
    [
        {"id": "7"},
        {"id": 8},
        {"id": True},
        {"label": 3},
        {"label": -1},
        {"label": 1.0},
        {"label": True},
        {"label": None, "word": "dress"},
        {"word": None},
        {"seconds": "1"},
        {"seen": "0"},
        {"name": 3},
        {"x": "x" * 5_000},
    ],
    ids=lambda more: str(more)[:40],
)
def test_what_is_no_answer_is_refused(site: Site, more: dict[str, Any]) -> None:
    answers = site.ask()
    assert site.say(**{"id": 7, "label": 1, **more})[0] == 400
    assert answers.events == []
    assert site.say(7, 1)[0] == 200


def test_seconds_are_those_that_a_person_can_have_taken(site: Site) -> None:
    answers = site.ask()
    site.say(7, 1, seconds=-5)
    site.say(3, 1, seconds=1e9)
    assert [said.seconds for said in answers.events] == [0.0, 3_600.0]


def test_a_question_that_nobody_answers_is_given_up_and_nothing_of_it_is_lost(site: Site) -> None:
    answers = site.ask(seconds=0.2)
    site.say(7, 1)
    assert site.asker is not None
    site.asker.join(20)
    assert (site.answered, answers.missing) == ([False], 2)
    assert Answers.open(site.folder / "round_001.jsonl", IDS, CLASSES).missing == 2


def test_the_curve_of_the_run_is_told_while_it_trains(site: Site) -> None:
    (site.folder / "curve.csv").write_text("round,labels,test_accuracy\n0,20,0.500000\n1,40,0.750000\n")
    (site.folder / "metrics.jsonl").write_text('{"what": "", "step": 0}\n{"what": "round 2", "step": 7, "loss": 1.0}\n')
    told = site.state()["progress"]
    assert told == {"curve": [[20.0, 0.5], [40.0, 0.75]], "doing": "round 2: step 7"}


def test_a_new_class_can_be_named_where_that_is_allowed_and_is_kept_with_one_spelling(site: Site) -> None:
    answers = site.ask(spelling=Spelling(CLASSES, ["Tea pot"]))
    assert (site.state()["question"]["open"], site.state()["proposed"]) == (True, ["Tea pot"])
    for name in ("=1+1", "<img>", "a\u202eb", "x" * 61):
        status, reason = site.say(7, None, "none of these", proposed=name)
        assert (status, b"a letter or a digit first" in reason) == (422, True)
    for body in ({"label": 1}, {"word": "cannot tell"}, {"proposed": 3}):
        assert site.say(**({"id": 7, "label": None, "word": "none of these", "proposed": "jug"} | body))[0] == 400
    assert not answers.events
    for _ in range(2):  # a lost connection is no second answer
        assert site.say(7, None, "none of these", proposed="TEA pot")[0] == 200
    assert json.loads(site.say(3, None, "none of these", proposed=" HAT")[1])["events"][-1] == [3, 2, ""]
    assert site.say(3, None, "none of these", proposed="jug")[0] == 409
    read = Answers.open(answers.path, IDS, CLASSES)
    assert [(said.label, said.word, said.proposed) for said in read.events] == [
        (None, "none of these", "Tea pot"),
        (2, "", ""),
    ]


def test_where_it_is_not_allowed_a_name_is_no_answer(site: Site) -> None:
    site.ask()
    assert site.state()["question"]["open"] is False
    assert site.say(7, None, "none of these", proposed="jug")[0] == 400
