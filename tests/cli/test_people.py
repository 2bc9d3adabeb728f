"""Runs that people label: stopped at each query, gone on with, killed on the way, in the end the same as simulated."""

import csv
import io
import json
import re
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from cli.harness import Ended, Kdal, RunFolder, Running
from faults.sabotage import DieBefore
from PIL import Image

from kdal_cli.data.blobs import blobs
from kdal_cli.types import Unwatched

SMALL = (
    "al-loop",
    "experiment=smoke",
    "budget.rounds=1",
    "sampler=margin",
    "loss=none",
    "teacher=none",
    "hydra.run.dir=run",
)


def truth() -> list[str]:
    """The class of each image of the smoke experiment, by its id."""
    images = blobs(Unwatched(), train=512, test=256, classes=4)
    return [images.classes[label] for label in images.train.labels.all().tolist()]


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    here = tmp_path_factory.mktemp("simulated") / "here"
    here.mkdir()
    return Kdal(here)(*SMALL).run


@pytest.fixture
def run(here: Path) -> RunFolder:
    return RunFolder(here / "run")


@pytest.fixture
def go_on(kdal: Kdal, run: RunFolder) -> Callable[..., Ended]:
    def go_on(first: Callable[[], None] | None = None) -> Ended:
        begun = (run.path / "manifest.json").exists()
        return kdal(*(("al-loop", "resume=run") if begun else (*SMALL, "oracle=files")), first=first)

    return go_on


def waited_for(run: RunFolder) -> Path | None:
    """The table that a run waits for."""
    path = run.path / "ledger.jsonl"
    last = json.loads(path.read_text().splitlines()[-1]) if path.exists() else {}
    if last.get("kind") != "request":
        return None
    name = f"round_{last['round']:03d}" if last["purpose"] == "train" else last["purpose"]
    return run.path / "asking" / f"{name}.csv"


def fill(path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"))))
    labels = truth()
    with path.open("w", newline="", encoding="utf-16") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(row | {"label": labels[int(row["id"])]} for row in reversed(rows))


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs came to the same, whoever answered."""
    results = ("curve.csv", "checkpoints", *(key for key in other if key.startswith("round_")))
    return all(one[key] == other[key] for key in results)


def test_a_run_stops_at_each_query_and_ends_like_a_simulated_one(go_on, run: RunFolder, simulated: RunFolder) -> None:
    for name, count in (("validation", 64), ("round_000", 20), ("round_001", 20)):
        for _ in range(1 + (name == "round_000")):  # whoever looks again is asked the same
            ended = go_on()
            path = f"run/asking/{name}.csv"
            line = f"kdal: waiting for {count} labels: fill in {path} and go on with kdal al-loop resume=run\n"
            assert (ended.code, ended.err) == (5, line)
        before = (run.path / "asking" / f"{name}.csv").read_bytes()
        assert waited_for(run) == run.path / "asking" / f"{name}.csv"
        fill(run.path / "asking" / f"{name}.csv")
        assert (run.path / "asking" / f"{name}.csv").read_bytes() != before
    assert go_on().code == 0
    assert same(run.outcome(), simulated.outcome())
    assert {row["owner"] for row in run.table("ledger.csv")} == {"person"}
    assert run.bought() == simulated.bought()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(DieBefore(1, of="validation.csv"), id="request-and-table", marks=pytest.mark.slow),
        pytest.param(DieBefore(2, of="ledger.jsonl"), id="receipt-and-next-request", marks=pytest.mark.slow),
        pytest.param(DieBefore(3, of="ledger.jsonl"), id="choosing", marks=pytest.mark.slow),
        pytest.param(DieBefore(1, of="round_001.csv"), id="images-and-table"),
        pytest.param(DieBefore(5, of="_id_"), id="two-images", marks=pytest.mark.slow),
        pytest.param(DieBefore(1, of="ledger.jsonl"), id="answer-and-receipt"),
    ],
)
def test_killed_while_it_asks_it_asks_the_same_and_nothing_is_lost(go_on, run, simulated, moment) -> None:
    codes: list[int] = [go_on().code] if moment.of == "ledger.jsonl" else []  # killed at a receipt, not at the request
    for _ in range(12):
        ended = go_on(first=moment if -signal.SIGKILL not in codes else None)
        codes.append(ended.code)
        if ended.code == 0:
            break
        table = waited_for(run)
        if ended.code == 5 and table is not None:
            fill(table)
    assert codes[-1] == 0
    assert -signal.SIGKILL in codes
    assert same(run.outcome(), simulated.outcome())
    assert len(set(run.bought())) == len(run.bought())


def test_a_teacher_that_only_labels_is_trained_and_labels(kdal: Kdal) -> None:
    """Nothing else of the run asks it; and without one the oracle is refused before anything is bought."""
    words = [word for word in SMALL if word != "teacher=none"]
    mixed = ("oracle=mixed", "oracle.person=simulated", "oracle.error=0.2")
    ended = kdal(*words, *mixed)
    last = ended.run.table()[-1]
    assert int(last["labels_by_teacher"]) > 0
    assert int(last["labels"]) + int(last["labels_by_teacher"]) == 40
    ended = kdal(*words, *mixed, "teacher=none", "hydra.run.dir=other")
    assert (ended.code, ended.refusal.split(" (")[0]) == (2, "oracle=mixed needs a teacher")


AGAIN = (*SMALL[:2], "budget.rounds=2", "sampler=activelab", "consensus=crowdlab", *SMALL[4:])


@pytest.fixture(scope="session")
def asked_again(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of one annotator, who is always right and is asked about some images more than once."""
    here = tmp_path_factory.mktemp("again") / "here"
    here.mkdir()
    return Kdal(here)(*AGAIN, "oracle.noise=[0.0]").run


@pytest.mark.slow
def test_a_run_that_asks_again_and_is_killed_and_waits_ends_like_a_simulated_one(kdal: Kdal, run, asked_again) -> None:
    """Killed between request, table, receipt and what is settled; no image is asked about again by accident."""
    kinds = [json.loads(line)["kind"] for line in (asked_again.path / "ledger.jsonl").read_text().splitlines()]
    assert "consensus" in kinds
    rows = asked_again.table("ledger.csv")
    assert {row["purpose"] for row in rows} == {"validation", "train", "again"}
    before_table = iter([DieBefore(1, of="round_001.csv")])
    after_table = iter([DieBefore(1, of="ledger.jsonl"), DieBefore(2, of="ledger.jsonl")])
    codes: list[int] = []
    while not codes or codes[-1] != 0:
        asking = run.path / "asking"
        moments = after_table if (asking / "round_001.csv").exists() else before_table
        words = ("al-loop", "resume=run") if codes else (*AGAIN, "oracle=files")
        codes.append(kdal(*words, first=next(moments, None) if (asking / "round_000.csv").exists() else None).code)
        assert len(codes) < 12
        if codes[-1] == 5 and (table := waited_for(run)) is not None:
            fill(table)
    assert codes.count(-signal.SIGKILL) == 3
    assert same(run.outcome(), asked_again.outcome())
    answers = [(row["round"], row["purpose"], row["id"], row["label"]) for row in run.table("ledger.csv")]
    assert answers == [(row["round"], row["purpose"], row["id"], row["label"]) for row in rows]


def test_a_table_with_a_mistake_is_refused_and_nothing_is_bought(go_on, run: RunFolder) -> None:
    go_on()
    table = waited_for(run)
    assert table is not None
    fill(table)
    right = table.read_bytes()
    lines = right.decode("utf-16").splitlines()
    lines[4] = lines[4].rpartition("\t")[0] + "\tclss 2"
    table.write_text("\n".join(lines), encoding="utf-16")
    before = (run.path / "ledger.jsonl").read_bytes()
    ended = go_on()
    assert (ended.code, ended.refusal.split(" (")[0]) == (2, "row 5: 'clss 2' is no class")
    assert (run.path / "ledger.jsonl").read_bytes() == before
    table.write_bytes(right)
    assert go_on().code == 5  # for the next query


def test_a_sweep_tells_which_of_its_jobs_wait_and_for_what(kdal: Kdal) -> None:
    words = [word for word in SMALL if not word.startswith("hydra")]
    ended = kdal(*words, "-m", "oracle=simulated,files", "hydra.sweep.dir=sweep")
    assert ended.code == 5
    assert "job 1 is waiting for 64 labels: fill in sweep/" in ended.out
    states = [row["state"] for row in RunFolder(kdal.here / "sweep").table("summary.csv")]
    assert states == ["done", "waiting"]


def test_of_a_flat_folder_the_test_labels_come_from_people_too_and_first(
    kdal: Kdal, here: Path, run: RunFolder
) -> None:
    (here / "flat").mkdir()
    shades = {f"{number:02}.png": "dark" if number % 2 else "light" for number in range(60)}
    for number, (name, kind) in enumerate(shades.items()):
        Image.new("RGB", (12, 9), (number + 150 * (kind == "light"),) * 3).save(here / "flat" / name)
    photos = ("data=photos", "data.root=flat", "data.classes=[dark,light]", "data.size=8", "data.split.test=10")
    small = ("experiment=smoke", *photos, "budget.initial=6", "budget.rounds=0", "loss=none", "teacher=none")
    assert "have not been bought): kdal al-loop buys them" in kdal("distill", *small[:6], "loss=none").refusal
    started = ("al-loop", *small, "data.split.validation=4", "oracle=files", "hydra.run.dir=run")
    for name, count, words in (
        ("test", 10, started),
        ("validation", 4, ("al-loop", "resume=run")),
        ("round_000", 6, ("al-loop", "resume=run")),
    ):
        ended = kdal(*words)
        assert (ended.code, f"waiting for {count} labels" in ended.err) == (5, True), ended.err
        table = run.path / "asking" / f"{name}.csv"
        rows = list(csv.DictReader(io.StringIO(table.read_bytes().decode("utf-8-sig"))))
        lines = [f"{row['id']},{shades[Path(row['path']).name]}" for row in rows]
        if name == "test":
            lines[0] = f"{rows[0]['id']},?"
        table.write_text("\n".join(["id,label", *lines]))
    assert kdal("al-loop", "resume=run").code == 0
    assert [row["purpose"] for row in run.table("ledger.csv")] == ["test"] * 10 + ["validation"] * 4 + ["train"] * 6
    assert int(run.table()[0]["labels"]) == 6
    assert float(run.table()[0]["cost"]) == 20
    measured = kdal("evaluate", "checkpoint=run", "csv=answers.csv")
    assert (measured.code, measured.err) == (0, "")
    with (here / "answers.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    assert len(answers) == 9  # those that somebody could name
    assert all(row["label"] == shades[Path(row["path"]).name] for row in answers)


# On a page, by HTTP as a browser does.


def asked(address: str, wait: str = "") -> dict[str, Any]:
    with urlopen(f"{address}state?{wait}", timeout=60) as reply:
        return json.load(reply)


def tell(address: str, question: str, id: int, label: int | None, **more: str) -> None:
    told = {"name": question, "seen": 0, "id": id, "label": label, "word": "", "seconds": 36.0, **more}
    headers = {"Origin": address.rsplit("/", 2)[0], "Content-Type": "application/json"}
    with urlopen(Request(f"{address}answer", json.dumps(told).encode(), headers), timeout=60) as reply:
        assert reply.status == 200


def address_of(running: Running) -> str:
    running.wait_for("http://")
    return re.findall(r"http://\S+", running._said("out"))[-1]


def label_all(running: Running, labels: list[int], most: int = 1_000_000) -> list[int]:
    """Answer what a run asks, up to so many images, until it is over; returns the ids that were asked about."""
    address, done = address_of(running), []
    while len(done) < most:
        try:
            state = asked(address, "wait=1")
        except OSError:  # it is over
            break
        if question := state.get("question"):
            known = {id for id, label, _ in state["events"] if label is not None}
            for id in [id for id in question["ids"] if id not in known][: most - len(done)]:
                tell(address, question["name"], id, labels[id])
                done.append(id)
    return done


def test_on_a_page_a_kill_costs_no_answer_and_the_end_is_that_of_a_simulated_run(kdal: Kdal, run, simulated) -> None:
    labels = blobs(Unwatched(), train=512, test=256, classes=4).train.labels.all().tolist()
    running = kdal.start(*SMALL, "oracle=page", "oracle.price_per_hour=100")
    first = label_all(running, labels, most=70)  # in the middle of the seed set
    running.signal(signal.SIGKILL)
    assert running.ended().code == -signal.SIGKILL
    again = kdal.start("label", "run", "--as", "ben")
    second = label_all(again, labels)
    assert again.ended().code == 0
    assert len(first) == 70
    assert not set(first) & set(second)
    assert run.bought() == simulated.bought()
    assert run.outcome()["checkpoints"] == simulated.outcome()["checkpoints"]
    rows = run.table("ledger.csv")
    assert {row["owner"] for row in rows} == {"person", "ben"}
    assert {(row["seconds"], row["cost"]) for row in rows} == {("36.0", "1")}
    assert float(run.table()[-1]["cost"]) == pytest.approx(len(rows))


def test_a_review_shows_what_the_student_contradicts_and_keeps_what_is_changed_as_a_record(kdal: Kdal, run) -> None:
    labels = blobs(Unwatched(), train=512, test=256, classes=4).train.labels.all().tolist()
    running = kdal.start(*SMALL, "budget.initial=80", "oracle=page")
    wrong: dict[int, int] = {}
    while len(wrong) < 4 and running.process.is_alive():
        state = asked(address_of(running), "wait=1")
        question = state.get("question")
        if question and question["name"] == "round_000":
            wrong = {id: (labels[id] + 1) % 4 for id in question["ids"][:4]}
        elif question:
            for id in question["ids"]:
                tell(address_of(running), question["name"], id, labels[id])
    label_all(running, [wrong.get(id, label) for id, label in enumerate(labels)])
    assert running.ended().code == 0
    before = (run.path / "ledger.jsonl").read_bytes()
    review = kdal.start("label", "run", "--review")
    shown = label_all(review, labels)
    assert review.ended().code == 0
    assert set(wrong) <= set(shown)
    assert f"{len(shown)} labels reviewed, 4 changed" in review._said("out")
    assert (run.path / "ledger.jsonl").read_bytes().startswith(before)
    changed = [row for row in run.table("ledger.csv") if row["purpose"] == "review" and int(row["id"]) in wrong]
    assert {int(row["id"]): int(row["label"]) for row in changed} == {id: labels[id] for id in wrong}


def test_nobody_is_asked_for_labels_that_are_simulated(kdal: Kdal, simulated: RunFolder) -> None:
    shutil.copytree(simulated.path, kdal.here / "run")
    about = kdal.here / "run" / ".hydra" / "hydra.yaml"
    about.write_text(about.read_text().replace(str(simulated.path.parent), str(kdal.here)))
    (kdal.here / "run" / "result.json").unlink()
    (kdal.here / "run" / "seals.json").unlink()
    ended = kdal("label", "run")
    assert (ended.code, ended.refusal.split(" (")[0]) == (2, "nobody is asked for the labels of this run")


def test_the_same_run_with_the_answers_of_then_is_the_same_and_costs_nothing(kdal: Kdal, simulated: RunFolder) -> None:
    ended = kdal(*SMALL[:-1], f"oracle.answers={simulated.path}", "hydra.run.dir=again")
    assert ended.code == 0, ended.err
    assert ended.run.bought() == simulated.bought()
    assert ended.run.outcome()["checkpoints"] == simulated.outcome()["checkpoints"]
    assert [row["cost"] for row in ended.run.table()] == ["0.000000", "0.000000"]


NAMED = ("dark", "light", "Mid grey")


@pytest.fixture
def photos(here: Path) -> Callable[[str], str]:
    """A flat folder of 60 images; returns what each is of, by the name of its file."""
    (here / "flat").mkdir()
    for number in range(60):
        shade = 10 + number + 90 * (number % 3 == 2) + 180 * (number % 3 == 1)
        Image.new("RGB", (12, 9), (min(shade, 255),) * 3).save(here / "flat" / f"{number:02}.png")
    return lambda path: NAMED[int(Path(path).stem) % 3]


def test_a_class_that_was_missing_is_named_and_a_new_run_learns_it_and_asks_nobody_again(
    kdal: Kdal, here: Path, run: RunFolder, photos: Callable[[str], str]
) -> None:
    flat = ("experiment=smoke", "data=photos", "data.root=flat", "data.size=8", "data.split.test=10", "loss=none")
    words = ("al-loop", *flat, "data.split.validation=6", "budget.initial=12", "budget.rounds=0", "teacher=none")
    page = kdal.start(*words, "data.classes=[dark,light]", "oracle=page", "oracle.new_classes=true", *SMALL[-1:])
    address, asked_about = address_of(page), set()
    while page.process.is_alive():
        try:
            state = asked(address, "wait=1")
        except OSError:
            break
        answered = {id for id, _, _ in state.get("events", [])}
        for id in [id for id in (state.get("question") or {"ids": []})["ids"] if id not in answered]:
            label = id % 3  # the order of ids is that of the names
            typed = {"word": "none of these", "proposed": ("mid grey", "MID  GREY")[id % 2]} if label == 2 else {}
            tell(address, state["question"]["name"], id, label if label < 2 else None, **typed)
            asked_about.add(id)
    assert page.ended().code == 0
    before = {row["id"]: row for row in run.table("ledger.csv")}
    assert {int(id) for id in before} == asked_about
    assert all(photos(row["path"]) == row["class"] for row in before.values() if row["label"])
    named = [row for row in before.values() if not row["label"]]
    spelling = {row["proposed"] for row in named}
    assert len(named) > 3
    assert len(spelling) == 1
    assert spelling < {"mid grey", "MID GREY"}
    line = next(line for line in page._said("out").splitlines() if "something else" in line)
    assert f"round 0: {len(named)} images were said to be something else ({spelling.pop()} {len(named)});" in line

    more = (*words, "data.classes=[dark,light,'Mid grey']", "oracle=files", "oracle.answers=run", "budget.rounds=1")
    more = (*more, "budget.query=5", "hydra.run.dir=more")
    ended = kdal(*more)
    assert (ended.code, "waiting for 5 labels" in ended.err) == (5, True), ended.err
    shutil.move(here / "run", here / "elsewhere")  # what was taken over is kept
    table = here / "more" / "asking" / "round_001.csv"
    rows = list(csv.DictReader(io.StringIO(table.read_bytes().decode("utf-8-sig"))))
    assert not {int(row["id"]) for row in rows} & asked_about
    table.write_text("\n".join(["id,label", *(f"{row['id']},{photos(row['path'])}" for row in rows)]))
    ended = kdal("al-loop", "resume=more", first=DieBefore(1, of="ledger.jsonl"))
    assert ended.code == -signal.SIGKILL
    assert kdal("al-loop", "resume=more").code == 0
    after = RunFolder(here / "more").table("ledger.csv")
    assert all(photos(row["path"]) == row["class"] for row in after)
    taken = {row["id"]: row for row in after if row["taken_over"]}
    assert taken.keys() == before.keys()
    for key in ("purpose", "owner", "time", "seconds"):
        assert [taken[id][key] for id in taken] == [before[id][key] for id in taken]
    assert {row["cost"] for row in taken.values()} == {"0"}
    assert [float(row["cost"]) for row in RunFolder(here / "more").table()] == [0, 5]
    assert [int(row["labels"]) for row in RunFolder(here / "more").table()] == [12, 17]

    (here / "linked").mkdir()
    shutil.copy(here / "elsewhere" / "manifest.json", here / "linked")
    (here / "linked" / "ledger.jsonl").symlink_to(here / "elsewhere" / "ledger.jsonl")
    for answers, change, told in (
        ("elsewhere", "data.split.test=11", "that run is of other images than data=photos"),
        ("elsewhere", "data.classes=[dark,'Mid grey']", "the class light of that run is none here"),
        ("linked", "seed=1", "link"),
        ("flat", "seed=1", "no run that has bought labels"),
    ):
        ended = kdal(*more[:-1], f"oracle.answers={answers}", change, "hydra.run.dir=refused")
        assert (ended.code, told in ended.refusal, (here / "refused").exists()) == (2, True, False), ended.err
