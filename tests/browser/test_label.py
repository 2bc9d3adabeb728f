"""The labelling page in Chromium: by keyboard alone, on a phone, in two tabs, through a lost connection and a kill."""

import csv
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.chromium import CHROMIUM, Chromium, Tab
from cli.harness import Kdal, RunFolder, Running

from kdal_cli.data.blobs import blobs
from kdal_cli.types import Unwatched

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]

SMALL = ("al-loop", "experiment=smoke", "budget.rounds=1", "budget.query=3", "budget.initial=6", "loss=none")
SMALL = (*SMALL, "teacher=none", "data.split.validation=4", "sampler=margin")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    opened = Chromium(tmp_path / "profile")
    yield opened
    opened.close()


def truth() -> list[int]:
    return blobs(Unwatched(), train=512, test=256, classes=4).train.labels.all().tolist()


def address(running: Running) -> str:
    running.wait_for("waiting for ")
    lines = [line for line in running._said("out").splitlines() if line.startswith("waiting for ")]
    return lines[-1].split(": ")[1]


def shown(tab: Tab) -> int:
    """The id of the image that is asked about."""
    return tab.value("shown")


def answered(tab: Tab) -> str:
    return tab.value("document.getElementById('count').textContent")


def asked(tab: Tab) -> None:
    there = "typeof question !== 'undefined' && question !== null && shown !== null && !busy"
    tab.wait_for(f"{there} && document.getElementById('picture').naturalWidth > 0")


def label(tab: Tab, labels: list[int]) -> None:
    """Answer the image that is shown by its key, and wait for what follows."""
    asked(tab)
    id = shown(tab)
    tab.press(str(labels[id] + 1))
    tab.wait_for(f"shown !== {id} && !busy")


def test_a_run_labelled_by_keys_ends_like_a_simulated_one(kdal: Kdal, browser: Chromium) -> None:
    simulated, labels = kdal(*SMALL, "hydra.run.dir=simulated").run, truth()
    running = kdal.start(*SMALL, "oracle=page", "hydra.run.dir=run")
    tab = browser.open(address(running))
    for _ in range(4 + 6 + 3):
        label(tab, labels)
    assert running.ended().code == 0
    run = RunFolder(kdal.here / "run")
    assert run.bought() == simulated.bought()
    assert (run.path / "curve.csv").read_bytes() == (simulated.path / "curve.csv").read_bytes()
    assert run.weights("round_001") == simulated.weights("round_001")
    assert all(float(row["seconds"]) >= 0 for row in run.table("ledger.csv"))
    assert not [told for told in browser.complaints() if "ERR_" not in told]  # the run is over, and nobody is there


def test_killed_half_way_it_asks_only_what_is_not_answered(kdal: Kdal, browser: Chromium) -> None:
    labels = truth()
    running = kdal.start(*SMALL, "oracle=page", "hydra.run.dir=run")
    tab = browser.open(address(running))
    for _ in range(3):
        label(tab, labels)
    before = (kdal.here / "run" / "asking" / "validation.jsonl").read_bytes()
    running.signal(signal.SIGKILL)
    tab.wait_for("document.getElementById('lost').textContent.includes('Every answer so far is kept')")
    again = kdal.start("label", "run", "--as", "ben")
    tab = browser.open(address(again))
    asked(tab)
    assert answered(tab) == "3 of 4 answered"
    for _ in range(1 + 6 + 3):
        label(tab, labels)
    assert again.ended().code == 0
    assert (kdal.here / "run" / "asking" / "validation.jsonl").read_bytes().startswith(before)
    run = RunFolder(kdal.here / "run")
    assert [row["owner"] for row in run.table("ledger.csv")] == ["person"] * 3 + ["ben"] * 10
    assert len(set(run.bought())) == len(run.bought())


def test_undo_two_tabs_and_a_reload_cost_nothing(kdal: Kdal, browser: Chromium) -> None:
    running = kdal.start(*SMALL, "oracle=page", "hydra.run.dir=run")
    one, other = (browser.open(address(running)) for _ in range(2))
    for tab in (one, other):
        asked(tab)
    first = shown(one)
    one.press("?")
    one.wait_for(f"shown !== {first}")
    other.wait_for(f"shown !== {first}")  # the other tab goes on too
    assert answered(other) == "1 of 4 answered"
    one.press("u")
    one.wait_for(f"shown === {first}")
    other.wait_for("answers.size === 0")
    one.click("#classes button:nth-child(2)")
    one.wait_for("answers.size === 1")
    one.tell("Page.reload")
    asked(one)
    assert (answered(one), shown(one)) == ("1 of 4 answered", shown(other))
    lines = (kdal.here / "run" / "asking" / "validation.jsonl").read_text().splitlines()
    said = [json.loads(line) for line in lines]
    assert [(line["label"], line["word"]) for line in said] == [(None, "cannot tell"), (None, ""), (1, "")]
    running.signal(signal.SIGKILL)


def test_names_that_are_script_are_only_text(kdal: Kdal, browser: Chromium) -> None:
    from PIL import Image

    names = ["<script>document.title='acted'</script>", "<img src=x onerror=\"document.title='acted'\">", "plain"]
    for split in ("train", "test"):
        for number, name in enumerate(names):
            folder = kdal.here / "photos" / split / name.replace("/", "∕")
            folder.mkdir(parents=True)
            for copy in range(8):
                Image.new("RGB", (40, 30), (80 * number, 9 * copy, 99)).save(folder / f"<b>{copy}.png")
    words = ("data=image_folder", "data.root=photos", "recipe=smoke", "loss=none", "teacher=none", "budget=3")
    running = kdal.start(
        "al-loop", *words, "budget.initial=6", "data.split.validation=4", "oracle=page", "hydra.run.dir=run"
    )
    tab = browser.open(address(running))
    asked(tab)
    assert tab.value("document.querySelectorAll('#classes script, #classes img').length") == 0
    assert "acted" not in tab.value("document.title")
    assert "document.title='acted'" in tab.text("classes")
    running.signal(signal.SIGKILL)
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_everything_is_within_reach_and_named(kdal: Kdal, browser: Chromium, dark: bool) -> None:
    running = kdal.start(*SMALL, "oracle=page", "hydra.run.dir=run")
    tab = browser.open(address(running))
    tab.screen(390, 844, dark=dark)
    asked(tab)
    assert tab.value("document.documentElement.scrollWidth <= innerWidth")
    sizes = tab.value("[...document.querySelectorAll('button')].filter(b => !b.hidden).map(b => b.offsetHeight)")
    assert min(sizes) >= 44
    paper = tab.value("getComputedStyle(document.documentElement).backgroundColor")
    assert paper == ("rgb(20, 20, 20)" if dark else "rgb(255, 255, 255)")
    nodes = tab.tell("Accessibility.getFullAXTree")["nodes"]
    told = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if "role" in node}
    assert ("image", "Image 1 of 4") in told or ("img", "Image 1 of 4") in told
    assert {name for role, name in told if role == "button"} >= {"0", "1", "2", "3"} or len(
        [name for role, name in told if role == "button" and name]
    ) == len(sizes)
    assert not [role for role, name in told if role in ("button", "img", "image", "searchbox") and not name]
    running.signal(signal.SIGKILL)


def test_a_run_that_asks_by_files_can_be_labelled_on_a_page(kdal: Kdal, browser: Chromium) -> None:
    labels = truth()
    assert kdal(*SMALL, "oracle=files", "hydra.run.dir=run").code == 5
    running = kdal.start("label", "run")
    tab = browser.open(address(running))
    for _ in range(4 + 6 + 3):
        label(tab, labels)
    assert running.ended().code == 0
    rows = list(csv.DictReader(io.StringIO((kdal.here / "run" / "ledger.csv").read_text())))
    assert [int(row["label"]) for row in rows] == [labels[int(row["id"])] for row in rows]


def test_ten_thousand_queued_images_stay_fluent(kdal: Kdal, browser: Chromium) -> None:
    """What the page does between two images takes less than a frame of the screen, 16 ms, in the median."""
    words = ("al-loop", "data=blobs", "data.train=20000", "data.split.validation=0", "budget.rounds=0", "loss=none")
    running = kdal.start(*words, "teacher=none", "budget.initial=10000", "oracle=page")
    tab = browser.open(address(running))
    asked(tab)
    for _ in range(3):
        id = shown(tab)
        tab.press("1")
        tab.wait_for(f"shown !== {id} && !busy")
    assert answered(tab) == "3 of 10000 answered"
    step = (
        "(() => { const t = performance.now(); next(); document.body.offsetHeight; return performance.now() - t; })()"
    )
    took = sorted(tab.value(f"Array.from({{length: 51}}, () => {step}).join()").split(","), key=float)
    assert float(took[25]) < 16
    running.signal(signal.SIGKILL)
