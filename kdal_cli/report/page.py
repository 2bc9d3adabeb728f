"""A study as one page of HTML that needs nothing else: no script, no network, light and dark, on paper as well."""

import io
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kdal_cli.images.opening import Unreadable, opened, quietly, regular
from kdal_cli.plain import several
from kdal_cli.report import people, study_plots
from kdal_cli.report.html import Content, Html, element, join, picture, table
from kdal_cli.report.page_block import judged, sections
from kdal_cli.report.page_opening import opening, title
from kdal_cli.report.standings import drawn_out, standings
from kdal_cli.report.students_plot import students_png, students_rows
from kdal_cli.report.study_details import manifests, sheets, starts
from kdal_cli.report.study_text import Figure
from kdal_cli.report.text import MISSING, number, percent
from kdal_cli.study.ranks import ENOUGH_DATA_SETS
from kdal_cli.study.records import Record
from kdal_cli.study.statistics import ENOUGH_SEEDS
from kdal_cli.study.students import Student, students
from kdal_cli.study.study import Entry, Study

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

SHEETS, SHEET_BYTES, SHEET_PIXELS = 12, 6_000_000, 1_100
"""Pictures of what was bought: how many, how large together, and how wide each at most."""

READING = (
    "± is half of a 95 % interval: Student's t interval of a mean over seeds, “The probable error of a mean”, "
    "Biometrika 1908. With two seeds it is seven times as wide as with five.",
    "A difference is that of runs with the same seed, and is positive where the cell is the better one. BEATS and "
    "LOSES mean that the paired t test is at 0.05 or below after correction for all comparisons of the page (Holm, "
    "Scandinavian Journal of Statistics 1979): where all cells are equal, a report has any such word in one study of "
    "twenty. An interval is about one comparison, and may leave 0 out where the verdict is INCONCLUSIVE; that in turn "
    f"does not say that two cells are equal. Fewer than {ENOUGH_SEEDS} seeds rank nothing. The exact signed-rank test "
    "cannot be below 0.0625 with five seeds.",
    "Area is the mean height of a curve over the range that all curves cover. What a target takes is read off between "
    "two rounds on a straight line; runs that end before it count as later than all others.",
    "Ahead: where the mean of a cell that has not met the target will meet it, by a power law with an offset fitted to "
    "its rounds; an 80 % interval from futures with noise like that of the rounds so far. never: fewer than one in ten "
    "of them get there before twenty times the labels bought.",
    "Who beats whom: the share of rounds in which a paired t test over seeds is significant, after Ash, Zhang, "
    "Krishnamurthy, Langford, Agarwal, “Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds”, "
    "ICLR 2020.",
    "Ranks over data sets, and how far apart they are told apart: Demšar, “Statistical Comparisons of Classifiers over "
    "Multiple Data Sets”, JMLR 2006.",
)  # fmt: skip

GENERATOR = '<meta name="generator" content="kdal">'
"""By which a report of ours is known that another one may replace."""


def page(study: Study) -> str:
    """The whole page: the same for the same runs, as it has no date. Raises UserError for a damaged file of a run."""
    css = Html(Path(__file__).with_name("page.css").read_text(encoding="utf-8"))
    head = join(
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Html(GENERATOR),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", title(study)),
        element("style", css),
    )
    body = element("body", opening(study), element("main", *_content(study)))
    return f'<!doctype html>\n<html lang="en">\n{element("head", head)}\n{body}\n</html>\n'


def _content(study: Study) -> Iterator[Html]:
    if study.claims:
        yield _section("Claims", _claims(study))
    several = len(study.blocks) > 1
    for place, block in enumerate(study.blocks):
        parts = [join(element("h3" if several else "h2", head), below) for head, below in sections(study, block)]
        head = element("h2", block.name, id=f"data-{place}") if several else None
        yield element("section", head, *parts)
    if found := students(study.records):
        yield _section("Which student to ship", _students(found))
    if told := people.section(study.records):
        yield _section("Labels of people and teachers", told)
    yield _section("Ranks over data sets", _ranking(study))
    if shown := list(_sheets(study)):
        yield _section("What was bought", element("div", *shown, class_="sheets"))
    yield _section("What is behind it", _behind(study))
    yield _section("How to read it", element("ul", *(element("li", text) for text in READING)))


def _section(head: str, content: Html) -> Html:
    return element("section", element("h2", head), content)


def _claims(study: Study) -> Html:
    figure = Figure(study.figure)
    heads = ["claim", "compared", f"better in area, {figure.points}".rstrip(", "), "n", "verdict"]
    rows = [
        [
            claim.sentence,
            claim.compared,
            figure.difference(claim.gain),
            str(claim.gain.n),
            judged(claim),
        ]
        for claim in study.claims
    ]
    return table(
        "Differences in the area under the curve, with 95 % intervals over n seeds", heads, rows, kind="claims"
    )


def _students(found: Sequence[Student]) -> Html:
    rows = students_rows(found)
    told = [[MISSING if value is None else _figure(key, value) for key, value in row.items()] for row in rows]
    alt = "accuracy against milliseconds, megabytes and labels of every student"
    caption = "Each file is measured as it is shipped. Nothing beats what is on the front in all of these at once."
    drawn = picture("image/png", students_png(found), alt, caption, class_="drawn")
    heads = ["run", "format", "data", "test accuracy %", "ms at batch 1", "MB", "labels", "front"]
    return join(drawn, table("Students, the most accurate first", heads, told))


def _figure(key: str, value: float | str) -> str:
    if isinstance(value, str):
        return value
    return percent(value) if key == "test_accuracy" else number(value)


def _ranking(study: Study) -> Html:
    ranking = study.ranking
    if ranking is None:
        has = len(study.blocks)
        needs = f"A critical-difference diagram needs {ENOUGH_DATA_SETS} data sets with the same cells on each; here "
        return element("p", f"{needs}{'is one' if has == 1 else f'are {has}'}.", class_="quiet")
    alt = "; ".join(f"{name} {rank:.2f}" for name, rank in zip(ranking.methods, ranking.ranks, strict=True))
    caption = f"Methods under one bar are not told apart. Friedman's test that all are alike: p = {ranking.p:.3g}."
    svg = study_plots.critical_difference(ranking, "svg")
    return picture("image/svg+xml", svg, f"average ranks: {alt}", caption, class_="drawn")


def _sheets(study: Study) -> Iterator[Html]:
    """First and last query of the baselines and of the best, of each data set in turn, as far as there is room."""
    ranked = (sorted(drawn_out(standings(study, block)), key=lambda s: not s.is_baseline) for block in study.blocks)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*([s.entry for s in members] for members in ranked)))
    found = ((entry, *sheet) for entry in turns if entry for sheet in sheets(entry))
    room = SHEET_BYTES
    for entry, seed, round, path in itertools.islice(found, SHEETS):
        data = _small(path)
        if data is None or len(data) > room:
            continue
        room -= len(data)
        caption = f"{_where(study, entry)}{entry.name}, round {round}, seed {seed}"
        kind = "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
        yield picture(kind, data, f"contact sheet of the images bought: {caption}", caption)


def _where(study: Study, entry: Entry) -> str:
    block = next(block for block in study.blocks if any(entry is one for one in block.entries))
    return f"{block.name}: " if block.name else ""


def _small(path: Path) -> bytes | None:
    """A picture, scaled down where it is large; None where it is none."""
    try:
        with quietly(), regular(path) as file, opened(file, SHEET_PIXELS) as image:
            size = file.seek(0, os.SEEK_END)
            if size <= SHEET_BYTES // SHEETS and image.width <= 2 * SHEET_PIXELS and image.format in ("PNG", "JPEG"):
                file.seek(0)
                data = file.read()
                image.verify()
                return data
            image.thumbnail((SHEET_PIXELS, 4 * SHEET_PIXELS))
            image.convert("RGB").save(out := io.BytesIO(), "JPEG", quality=80)
    except (Unreadable, OSError, SyntaxError, ValueError):
        return None
    return out.getvalue()


def _behind(study: Study) -> Html:
    """Notes, unfinished runs, where the numbers come from."""
    about = manifests(study.records)
    begun = [start for manifest in about for start in starts(manifest)]
    facts = element(
        "dl",
        *_told("data", _data(study, about)),
        *_told("versions", _counted(start.versions for start in begun)),
        *_told("machine", _counted(start.machine for start in begun)),
        *_told("commit", _counted(start.commit for start in begun)),
    )
    notes = [element("p", note) for note in study.notes]
    top = Path(os.path.commonpath([record.folder.absolute() for record in study.records]))
    rows = [
        [
            element("code", _relative(record, top)),
            str(record.seed),
            "finished" if record.done else f"unfinished, {_rounds(record)}",
            element("td", element("code", next((start.command for start in starts(manifest)), ""))),
        ]
        for record, manifest in zip(study.records, about, strict=True)
    ]
    every = table(f"Run folders below {top.name}", ["folder", "seed", "state", "command"], rows, kind="words")
    listed = element("details", element("summary", f"All {len(rows)} runs and their commands"), every)
    return join(*notes, _unfinished(study, top), facts, listed)


def _unfinished(study: Study, top: Path) -> Html | None:
    if not study.unfinished:
        return None
    rows = [[element("code", _relative(record, top)), _rounds(record)] for record in study.unfinished]
    return table(
        "Unfinished: left out of all means while others are finished", ["folder", "so far"], rows, kind="words"
    )


def _data(study: Study, about: Sequence[dict]) -> list[str]:
    """Whether the runs of a data set had the same data, by their hash."""
    hashes = Counter(str(manifest.get("data_sha256") or "unknown")[:16] for manifest in about)
    if len(hashes) == 1:
        return [f"the same in all {len(about)} runs, sha256 {next(iter(hashes))}…"]
    told = [f"sha256 {name}… in {times} runs" for name, times in hashes.items()]
    return [f"not the same in all runs: {len(hashes)} for {len(study.blocks)} data sets", *told]


def _counted(values: Iterable[str]) -> list[str]:
    """Each value once, with how many starts had it where that is not all."""
    counted = Counter(value for value in values if value)
    return [value if len(counted) == 1 else f"{value} ({times})" for value, times in counted.items()]


def _told(term: str, values: Sequence[Content]) -> list[Html]:
    return [element("dt", term), *(element("dd", value) for value in values)] if values else []


def _relative(record: Record, top: Path) -> str:
    relative = record.folder.absolute().relative_to(top)
    return str(relative) if relative.parts else top.name


def _rounds(record: Record) -> str:
    return several(len(record.rounds), "round")
