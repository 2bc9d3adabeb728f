"""The page: well-formed, complete in one file, nothing in it that acts, and the numbers of the study."""

import base64
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_folders import run_folder, study

from kdal_cli.errors import UserError
from kdal_cli.report.page import SHEETS, page
from kdal_cli.report.standings import standings
from kdal_cli.report.study_details import per_class
from kdal_cli.report.study_text import Figure

VOID = {"meta", "img"}
JITTER = (0.0, 0.01, -0.01, 0.02, -0.02)
EVIL = '<script>alert(1)</script>"&\x1b[2J\u202eeslaf'


class Parsed(HTMLParser):
    """A page as elements and text. Fails where an element is not closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.said: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "caption":
            self.rows: list[list[str]] = []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "caption":
            self.tables[self.said[-1]] = self.rows

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.said.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def headings(self) -> list[str]:
        return [said for said in self.said if said in HEADINGS]

    def table(self, caption: str) -> list[list[str]]:
        return next(rows for name, rows in self.tables.items() if caption in name)


HEADINGS = (
    "Claims",
    "Summary",
    "Curves",
    "At the end",
    "Labels to the target",
    "Who beats whom",
    "Classes",
    "Other figures at the end",
    "Costs",
    "Where the time went",
    "Ranks over data sets",
    "What was bought",
    "What is behind it",
    "How to read it",
)


def sampled(top: Path, ends: dict[str, float], seeds: int = 5, **more) -> None:
    for place, (sampler, end) in enumerate(ends.items()):
        for seed in range(seeds):
            last = end + JITTER[seed] + 0.001 * ((seed * (place + 2)) % 5)
            run_folder(top, [0.5 + JITTER[seed], last], seed=seed, sampler=sampler, **more)


def sheet(folder: Path, round: int, size: tuple[int, int] = (40, 20)) -> None:
    (folder / "picks").mkdir(exist_ok=True)
    noise = np.random.default_rng(round).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "picks" / f"round_{round:03d}.png")


def shown(parsed: Parsed) -> list[Image.Image]:
    """The contact sheets of a page."""
    sources = [about["src"] for tag, about in parsed.elements if tag == "img" and about.get("class") != "drawn"]
    return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]


def test_a_study_of_a_teacher_and_a_sampler(tmp_path: Path) -> None:
    for loss, add in (("none", 0.0), ("kd", 0.1)):
        sampled(tmp_path, {"random": 0.6 + add, "margin": 0.65 + add}, loss=loss, recall=[0.4, 0.6])
    found = study(tmp_path)
    parsed = Parsed(page(found))
    assert parsed.headings() == [head for head in HEADINGS if head not in ("At the end", "What was bought")]
    assert "20 runs · 5 seeds · digits · test accuracy against labels" in parsed.said
    figure = Figure("test_accuracy")
    _, *claims = parsed.table("Differences in the area")
    for claim, row in zip(found.claims, claims, strict=True):
        assert row[:4] == [claim.sentence, claim.compared, figure.difference(claim.gain), "5"]
        assert row[4].endswith(claim.gain.verdict)
    _, *cells = parsed.table("best first")
    for standing, row in zip(standings(found, found.blocks[0]), cells, strict=True):
        name = standing.entry.name + "baseline" * standing.is_baseline
        assert row[:4] == [name, "5", figure.mean(standing.entry.last), figure.mean(standing.entry.area)]
        assert row[6][2:] == (standing.gain.verdict if standing.gain else "")


def test_where_the_time_went_is_added_up_over_rounds_and_averaged_over_seeds(tmp_path: Path) -> None:
    head = "round,teacher_s,train_s,score_s,images_per_s,peak_mb,mfu"
    for seed in range(2):
        folder = run_folder(tmp_path, [0.5, 0.6], seed=seed)
        rows = [f"{round},1.5,{2 + seed},0.25,{100 + 100 * round},50,0.31" for round in range(2)]
        (folder / "timings.csv").write_text("\n".join([head, *rows]) + "\n")
    named, row = Parsed(page(study(tmp_path))).table("Seconds of a run")
    assert named == ["cell", "teacher, s", "train, s", "score, s", "images/s", "MFU", "peak MB"]
    assert row[1:] == ["3.0", "5.0", "0.5", "150", "31.0%", "50"]


def test_a_page_is_complete_and_nothing_in_it_acts(tmp_path: Path) -> None:
    sampled(tmp_path, {"random": 0.6, EVIL: 0.7}, seeds=2, data="<i>&data")
    text = page(study(tmp_path))
    parsed = Parsed(text)
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"script", "link", "iframe", "object", "base", "form", "i"}
    assert not re.search(r"https?://|url\(|@import", text)
    for _, about in parsed.elements:
        assert about.get("src", "data:").startswith("data:")
        assert about.get("href", "#").startswith("#")
        assert not [name for name in about if name.startswith("on")]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": policy}) in parsed.elements
    assert any(said.startswith('<script>alert(1)</script>"&[2Jeslaf') for said in parsed.said)
    assert not set("\x1b\u202e") & set(text)


def test_pictures_have_words_and_tables_have_scopes(tmp_path: Path) -> None:
    sampled(tmp_path, {"random": 0.6, "margin": 0.7}, seeds=2, recall=[0.4, 0.6])
    parsed = Parsed(page(study(tmp_path)))
    of = lambda wanted: [about for tag, about in parsed.elements if tag == wanted]  # noqa: E731
    assert all(about["alt"] for about in of("img"))
    assert "margin 6" in of("img")[0]["alt"] or "margin 7" in of("img")[0]["alt"]
    assert {about["scope"] for about in of("th")} == {"row", "col"}
    assert len(of("table")) == len(of("caption")) == len(parsed.tables)
    assert of("html") == [{"lang": "en"}]


def test_the_same_runs_make_the_same_page(tmp_path: Path) -> None:
    sampled(tmp_path, {"random": 0.6, "margin": 0.7}, seeds=2)
    assert page(study(tmp_path)) == page(study(tmp_path))


def test_few_seeds_rank_nothing_and_differences_are_told_all_the_same(tmp_path: Path) -> None:
    sampled(tmp_path, {"random": 0.6, "margin": 0.9}, seeds=4)
    found = study(tmp_path)
    parsed = Parsed(page(found))
    gain = next(entry.gain for entry in found.blocks[0].entries if entry.gain)
    assert gain.area is not None
    assert gain.area.verdict == "BEATS"
    row = parsed.table("best first")[1]
    assert row[4] == Figure("test_accuracy").difference(gain.area)
    assert row[6] == "not enough seeds to rank"
    assert not [cell for cell in parsed.said if cell.endswith("BEATS")]


def test_a_single_run_has_a_page(tmp_path: Path) -> None:
    run_folder(tmp_path, [0.2, 0.5])
    parsed = Parsed(page(study(tmp_path)))
    assert "Claims" not in parsed.headings()
    assert "Labels to the target" not in parsed.headings()
    assert "verdict" not in parsed.table("best first")[0]
    assert str(tmp_path) not in page(study(tmp_path))


def test_runs_without_rounds_have_no_curves(tmp_path: Path) -> None:
    for loss in ("none", "kd"):
        run_folder(tmp_path, [0.7], loss=loss, stage="distill")
    headings = Parsed(page(study(tmp_path))).headings()
    assert headings[:2] == ["Summary", "At the end"]
    assert "Who beats whom" not in headings


def test_unfinished_runs_are_told_with_how_far_they_are(tmp_path: Path) -> None:
    sampled(tmp_path, {"random": 0.6, "margin": 0.7}, seeds=2)
    run_folder(tmp_path, [0.5, 0.6, 0.7], seed=7, done=False)
    parsed = Parsed(page(study(tmp_path)))
    assert parsed.table("Unfinished")[1:] == [["digits_kd_random_7", "3 rounds"]]
    states = {row[0]: row[2] for row in parsed.table("Run folders")[1:]}
    assert states["digits_kd_random_7"] == "unfinished, 3 rounds"
    assert states["digits_kd_random_0"] == "finished"
    assert any("5 runs, 1 unfinished · 2 seeds" in said for said in parsed.said)


def test_penalties_are_told_best_first(tmp_path: Path) -> None:
    sampled(tmp_path, {"random": 0.6, "bald": 0.5, "margin": 0.7})
    head, *rows = Parsed(page(study(tmp_path))).table("beats the column")
    assert head == ["cell", "1", "2", "3"]
    assert rows == [
        ["1. margin", "·", "0.50", "0.50"],
        ["2. randombaseline", "0.00", "·", "0.50"],
        ["3. bald", "0.00", "0.00", "·"],
        ["beaten, mean", "0.00", "0.25", "0.50"],
    ]


def test_classes_are_means_over_seeds_of_the_last_round(tmp_path: Path) -> None:
    for seed, recall in ((0, [0.25, 0.5]), (1, [0.75, 1.0])):
        folder = run_folder(tmp_path, [0.2, 0.5], seed=seed, recall=recall)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "teacher.json").write_text('{"role": "teacher", "classes": ["x", "y"]}')
    (folder / "checkpoints" / "zero.json").write_text('{"role": "student", "classes": ["<cat>", "dog"]}')
    found = study(tmp_path)
    scores = per_class(found.blocks[0].entries[0])
    assert {name: (score.recall, score.labels) for name, score in scores.items()} == {0: (0.5, 1), 1: (0.75, 2)}
    assert Parsed(page(found)).table("Recall")[1:] == [["<cat>", "50.00 1"], ["dog", "75.00 2"]]


def test_of_many_classes_the_ten_hardest_are_shown(tmp_path: Path) -> None:
    run_folder(tmp_path, [0.2, 0.5], recall=[1 - 0.01 * name for name in range(31)])
    _, *rows = Parsed(page(study(tmp_path))).table("the 10 hardest of 31")
    assert [row[0] for row in rows] == [f"class {name}" for name in range(30, 20, -1)]


def test_a_damaged_table_of_classes_is_named(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, [0.2, 0.5], recall=[0.5])
    (folder / "classes.csv").write_text("round,class,labels,test_recall\n1,0,3,0.5\n1,1,x")
    with pytest.raises(UserError, match=r"classes\.csv"):
        page(study(tmp_path))


def test_contact_sheets_are_the_first_and_the_last_query_of_the_first_seed(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = run_folder(tmp_path, [0.2, 0.5], seed=seed)
        for round in range(4):
            sheet(folder, round, size=(40 + seed, 20 + round))
    parsed = Parsed(page(study(tmp_path)))
    assert [image.size for image in shown(parsed)] == [(40, 21), (40, 23)]
    assert "all runs, round 3, seed 0" in parsed.said


def test_contact_sheets_are_few_and_small_and_damaged_ones_are_left_out(tmp_path: Path) -> None:
    for place in range(9):
        folder = run_folder(tmp_path, [0.2, 0.9 - 0.1 * place], sampler="random" if place == 8 else f"s{place}")
        sheet(folder, 1, size=(1500, 1000))
        sheet(folder, 2)
    (tmp_path / "digits_kd_s0_0" / "picks" / "round_002.png").write_bytes(b"no picture")
    text = page(study(tmp_path))
    images = shown(Parsed(text))
    assert len(images) == SHEETS - 1
    assert max(image.width for image in images) == 1100
    assert len(text) < 10_000_000


def test_what_only_looks_like_a_contact_sheet_is_left_out(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, [0.2, 0.5])
    for round in range(2):
        sheet(folder, round)
    outside, first, last = tmp_path / "secret.png", *(folder / f"picks/round_00{n}.png" for n in range(2))
    first.rename(outside)
    first.symlink_to(outside)
    last.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    assert shown(Parsed(page(study(tmp_path)))) == []
    last.unlink()
    os.mkfifo(last)
    assert shown(Parsed(page(study(tmp_path)))) == []


def test_data_that_differ_between_runs_are_told(tmp_path: Path) -> None:
    run_folder(tmp_path, [0.2, 0.5])
    assert any(said.startswith("the same in all 1 runs, sha256 c0ffee") for said in Parsed(page(study(tmp_path))).said)
    run_folder(tmp_path, [0.2, 0.5], seed=1, data_sha256="bad")
    said = Parsed(page(study(tmp_path))).said
    assert "not the same in all runs: 2 for 1 data sets" in said
    assert "abc123 + changes" in said
    assert "cpu, Test & Co, 1 thread" in said


def test_several_data_sets_have_a_part_each_and_five_of_them_ranks(tmp_path: Path) -> None:
    for place in range(5):
        sampled(tmp_path, {"random": 0.6, "margin": 0.7 + 0.01 * place}, seeds=2, data=f"set{place}")
    parsed = Parsed(page(study(tmp_path)))
    assert parsed.headings().count("Summary") == 5
    links = [about["href"] for tag, about in parsed.elements if tag == "a"]
    assert links == [f"#data-{place}" for place in range(5)]
    assert {about["id"] for _, about in parsed.elements if "id" in about} == {link[1:] for link in links}
    assert any("Friedman" in said for said in parsed.said)
    assert "The best average rank over 5 data sets: margin, 1.00." in parsed.said


def test_what_was_run_and_what_is_wrong_with_it_stand_before_the_answer(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, [0.5, 0.6])
    run_folder(tmp_path, [0.5, 0.7], sampler="margin")
    curve = folder / "curve.csv"
    first, *rest = curve.read_text().splitlines()
    curve.write_text(
        "\n".join([f"{first},train_accuracy,logistic_test_accuracy", *(f"{line},0.5,0.9" for line in rest)])
    )
    text = page(study(tmp_path))
    parsed = Parsed(text)
    (note,) = [attributes for tag, attributes in parsed.elements if attributes.get("class") == "doubts"]
    assert note["role"] == "note"
    order = ["margin; random", "Students that have not fitted", "Students that end below", "What is better than"]
    places = [next(n for n, said in enumerate(parsed.said) if said.startswith(start)) for start in order]
    assert places == sorted(places)
