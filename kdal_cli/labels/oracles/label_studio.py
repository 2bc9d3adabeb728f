"""People label in Label Studio: a query becomes tasks of a project there, and is read back when they are annotated."""

import base64
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.sax.saxutils import quoteattr

import torch
from torch import Tensor

from kdal_cli.errors import UserError, printable
from kdal_cli.labels.desk import CANNOT_TELL, LONGEST_NAME, UNDECIDED, Desk
from kdal_cli.labels.oracle import FIRST, Answer, NotYet, Occasion, Oracle
from kdal_cli.labels.oracles._studio import Studio, understood
from kdal_cli.records.files import read_json, write_json
from kdal_cli.values import Count, NonNegative, Positive

TOGETHER = 20
"""Images that are sent at once."""


def label_studio(
    desk: Desk,
    *,
    project: Count | None = None,
    annotators: Count = 1,
    price: NonNegative = 1.0,
    price_per_hour: NonNegative | None = None,
    hints: bool = False,
    poll: Positive = 10.0,
    wait: NonNegative | None = None,
) -> Oracle:
    """An oracle that puts the images of a query into Label Studio and waits until each has its annotations.

    The server and the token are those of the environment, `LABEL_STUDIO_URL` and `LABEL_STUDIO_API_KEY`. project: its
    number; without one a project is made for the run. annotators: how many people label an image; what most of them say
    holds, and of a tie what was said first. price: of an annotation; with price_per_hour, what the seconds that it took
    cost instead. hints: whether a prediction of the student of the round before is shown, never for images of
    validation and test. poll: seconds between two looks. wait: minutes without a new annotation after which the run
    ends, to be resumed; 0 never waits, None waits for ever.

    A skipped image, and one that was submitted without a choice, is one whose class nobody could tell.
    """
    if len({*map(_written, desk.classes)}) < len(desk.classes):
        raise UserError("oracle=label_studio", where="two class names differ in spaces alone", cure="rename one")

    studio = Studio.of_the_environment()

    def answer(ids: Tensor, occasion: Occasion = FIRST) -> Answer | NotYet:
        room = _Room(desk, studio, project, annotators)
        likely = occasion.guess(ids) if hints and occasion.guess and occasion.purpose == "train" else None
        tasks = room.tasks(ids.tolist(), occasion, likely)
        said: dict[int, list[_Said]] = {}
        looked = time.monotonic()
        while True:
            for id in ids.tolist():
                if len(said.get(id, ())) < annotators:
                    now = room.said(tasks[id])
                    looked = time.monotonic() if now != said.get(id, now) else looked
                    said[id] = now
            missing = sum(len(said[id]) < annotators for id in said)
            if not missing:
                return _answer([said[id] for id in ids.tolist()], price, price_per_hour)
            if wait is not None and time.monotonic() - looked >= 60 * wait:
                return NotYet(missing, f"label them at {room.address} and")
            room.tell(missing)
            time.sleep(poll)

    return answer


@dataclass(frozen=True)
class _Said:
    """The annotation of one person. label: a class, or a word of `UNDECIDED`."""

    label: int | str
    seconds: float
    time: str
    by: str


class _Room:
    """The project of a run. What was made there is in `asking/label_studio.json`, before anything else is."""

    def __init__(self, desk: Desk, studio: Studio, project: int | None, annotators: int) -> None:
        self.desk, self.studio, self.told = desk, studio, -1
        self.labels = {_written(name): label for label, name in enumerate(desk.classes)}
        self.path = desk.folder / "label_studio.json"
        self.state: dict[str, Any] = _read(self.path) if self.path.exists() else {"run": uuid4().hex[:12]}
        write_json(self.path, self.state)
        if project is None and "project" not in self.state:
            self._keep(project=self._made(annotators))
        self.project = project if project is not None else self.state["project"]

    @property
    def address(self) -> str:
        return f"{self.studio.url}/projects/{self.project}/data"

    def tasks(self, ids: Sequence[int], occasion: Occasion, likely: tuple[Tensor, Tensor] | None) -> dict[int, int]:
        """{id: its task}. A kill between the making of a task and its being written down makes no second one."""
        known = {int(id): task for id, task in self.state.get(occasion.name, {}).items()}
        if missing := [id for id in ids if id not in known]:
            keys = {f"{self.state['run']}/{occasion.name}/{id}": id for id in ids}
            known |= {keys[key]: task for key, task in self._there() if key in keys}
            missing = [id for id in missing if id not in known]
            guesses = (
                dict(zip(ids, zip(*(part.tolist() for part in likely), strict=True), strict=True)) if likely else {}
            )
            for some in (missing[start : start + TOGETHER] for start in range(0, len(missing), TOGETHER)):
                made = [self._task(id, occasion, guesses.get(id)) for id in some]
                reply = self.studio("POST", f"/api/projects/{self.project}/import?return_task_ids=true", made)
                with understood():
                    known |= dict(zip(some, map(int, reply["task_ids"]), strict=True))
            self._keep(**{occasion.name: known})
        return known

    def said(self, number: int) -> list[_Said]:
        """What people said of a task, each the last time, in the order in which they did.

        Raises UserError where that is no class.
        """
        task = self.studio("GET", f"/api/tasks/{number}/")  # the list of its annotations lacks those who skipped it
        last: dict[str, _Said] = {}
        with understood():
            for each in sorted(task["annotations"], key=lambda each: each["created_at"]):
                said = self._said(each)
                last.pop(said.by, None)
                last[said.by] = said
        for said in last.values():
            if isinstance(said.label, str) and said.label not in UNDECIDED:
                what, cure = (
                    f"task {number} is labelled {printable(said.label)}",
                    "correct it there, then resume the run",
                )
                raise UserError(what, where=self.address, cure=f"one of the classes of the run; {cure}")
        return list(last.values())

    def tell(self, missing: int) -> None:
        """Say how many are missing, once for each number."""
        if missing != self.told:
            self.told = missing
            self.desk.say(f"waiting for {missing:,} labels: {self.address}")

    def _said(self, annotation: Mapping[str, Any]) -> _Said:
        by = annotation["completed_by"]
        who = printable((by["email"] if isinstance(by, Mapping) else None) or f"annotator {by}", LONGEST_NAME)
        chosen = [choice for part in annotation["result"] for choice in part["value"]["choices"]]
        name = " and ".join(_written(choice) for choice in chosen)
        label = CANNOT_TELL if annotation["was_cancelled"] or not chosen else self.labels.get(name, name)
        return _Said(label, float(annotation["lead_time"] or 0), str(annotation["updated_at"]), who)

    def _made(self, annotators: int) -> int:
        """The project of this run: one that a killed run has made, or a new one."""
        title = f"kdal {printable(self.desk.folder.parent.name, 30)} {self.state['run'][:8]}"
        for project in self.studio.pages("/api/projects/"):
            with understood():
                if project["title"] == title:
                    return int(project["id"])
        settings = {
            "title": title,
            "label_config": _config(self.desk.classes),
            "maximum_annotations": annotators,
            "sampling": "Sequential sampling",
            "show_skip_button": True,
        }
        made = self.studio("POST", "/api/projects/", settings)
        with understood():
            return int(made["id"])

    def _there(self) -> Iterator[tuple[str, int]]:
        """(key of ours, task) of the project's tasks."""
        path = f"/api/projects/{self.project}/export?exportType=JSON&download_all_tasks=true"
        tasks = self.studio("GET", path)
        with understood():
            yield from [(str(task["data"].get("kdal")), int(task["id"])) for task in tasks]

    def _task(self, id: int, occasion: Occasion, guess: tuple[int, float] | None) -> dict[str, Any]:
        picture = self.desk.picture(id)
        kind = {"png": "image/png", "jpg": "image/jpeg"}[picture.suffix]
        image = f"data:{kind};base64,{base64.b64encode(picture.data).decode()}"
        path = self.desk.paths[id] if self.desk.paths else ""
        task: dict[str, Any] = {
            "data": {"image": image, "kdal": f"{self.state['run']}/{occasion.name}/{id}", "path": printable(path, 200)}
        }
        if guess is not None:
            choice = {"choices": [_written(self.desk.classes[guess[0]])]}
            result = [{"from_name": "label", "to_name": "image", "type": "choices", "value": choice}]
            task["predictions"] = [{"model_version": f"kdal {occasion.name}", "score": guess[1], "result": result}]
        return task

    def _keep(self, **more: Any) -> None:
        self.state |= json.loads(json.dumps(more))
        write_json(self.path, self.state)


def _read(path: Path) -> dict[str, Any]:
    """What was put down: the name of the run, the number of its project, and by question {id: task}.

    Raises UserError for a file that says something else.
    """
    state = read_json(path)
    questions = [value for key, value in state.items() if key not in ("run", "project")]
    numbers = [
        state.get("project", 0),
        *(task for tasks in questions if isinstance(tasks, dict) for task in tasks.values()),
    ]
    names = [id for tasks in questions if isinstance(tasks, dict) for id in tasks]
    sound = isinstance(state.get("run"), str) and all(isinstance(tasks, dict) for tasks in questions)
    if not (sound and all(type(number) is int for number in numbers) and all(map(str.isdecimal, names))):
        raise UserError("this is not what was written there", where=path, cure="remove it, to make the tasks anew")
    return state


def _config(classes: Sequence[str]) -> str:
    """The labelling interface: the image, the classes, and what is said where none can be named."""
    names = [*map(_written, classes), *(word for word in UNDECIDED if word not in map(_written, classes))]
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in names)
    return (
        '<View><Image name="image" value="$image"/>'
        f'<Choices name="label" toName="image" choice="single" showInLine="true">{choices}</Choices></View>'
    )


def _written(name: str) -> str:
    """A class name as it stands in an attribute of XML: of spaces one is left."""
    return " ".join("".join(char if char.isprintable() else " " for char in name).split())


def _answer(said: Sequence[Sequence[_Said]], price: float, price_per_hour: float | None) -> Answer:
    """What a query comes to."""
    agreed = [_agreed(each) for each in said]
    seconds = [sum(one.seconds for one in each) for each in said]
    costs = (
        [price * len(each) for each in said] if price_per_hour is None else [price_per_hour * s / 3600 for s in seconds]
    )
    return Answer(
        labels=torch.tensor([label for label in agreed if isinstance(label, int)], dtype=torch.int64),
        costs=torch.tensor(costs, dtype=torch.float64),
        owner="label_studio",
        undecided={place: label for place, label in enumerate(agreed) if isinstance(label, str)},
        owners=tuple(" + ".join(one.by for one in each)[:LONGEST_NAME] for each in said),
        times=tuple(each[-1].time for each in said),
        seconds=tuple(seconds),
        opinions={
            place: [(one.by, one.label) for one in each if isinstance(one.label, int)]
            for place, each in enumerate(said)
            if len(each) > 1
        },
    )


def _agreed(said: Sequence[_Said]) -> int | str:
    """What most people said; of a tie what was said first."""
    return Counter(one.label for one in said).most_common(1)[0][0]
