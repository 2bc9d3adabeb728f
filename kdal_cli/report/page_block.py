"""The sections of a page about one data set: who is better, curves, what it took, who beats whom, classes, costs."""

import math
from collections.abc import Iterator, Sequence

from kdal_cli.report import study_plots
from kdal_cli.report.html import Content, Html, element, join, picture, table
from kdal_cli.report.standings import Standing, drawn_out, standings
from kdal_cli.report.study_details import class_names, pace, per_class
from kdal_cli.report.study_text import CURRENCIES, Figure, amount, interval_ahead, p_value, verdict
from kdal_cli.report.text import MISSING, percent
from kdal_cli.study.statistics import ENOUGH_SEEDS
from kdal_cli.study.study import Block, Claim, Gain, Study

SIGNS = {"BEATS": "▲ ", "LOSES": "▼ ", "INCONCLUSIVE": "● "}

MANY_CLASSES = 30
"""Of more classes only the WORST are shown."""

WORST = 10

PACES = {
    "teacher_s": ("teacher, s", "{:,.1f}"),
    "train_s": ("train, s", "{:,.1f}"),
    "score_s": ("score, s", "{:,.1f}"),
    "select_s": ("select, s", "{:,.1f}"),
    "evaluate_s": ("evaluate, s", "{:,.1f}"),
    "baselines_s": ("baselines, s", "{:,.1f}"),
    "images_per_s": ("images/s", "{:,.0f}"),
    "mfu": ("MFU", "{:.1%}"),
    "peak_mb": ("peak MB", "{:,.0f}"),
}
"""Columns of `timings.csv`: how they are headed, and written."""

Section = tuple[str, Html]
"""A heading and what is below it."""


def sections(study: Study, block: Block) -> Iterator[Section]:
    """Headings and what is below them; a section that has nothing to tell is left out."""
    ranked = standings(study, block)
    yield "Summary", summary(study, block, ranked)
    stepped = any(len(entry.curve) > 1 for entry in block.entries)
    yield ("Curves" if stepped else "At the end"), drawing(study, block, ranked)
    if any(s.entry.reached for s in ranked) and (len(ranked) > 1 or ranked[0].entry.forecast):
        yield f"{CURRENCIES[study.x].capitalize()} to the target", targets(study, block, ranked)
    if block.penalties is not None:
        yield "Who beats whom", penalties(block, ranked)
    if classes := by_class(drawn_out(ranked)):
        yield "Classes", classes
    if any(standing.entry.others for standing in ranked):
        yield "Other figures at the end", others(ranked)
    if any(standing.entry.spent for standing in ranked):
        yield "Costs", costs(ranked)
    if times := paces(ranked):
        yield "Where the time went", times


def judged(gain: Gain | Claim | None) -> Content:
    """The verdict, with a sign and a colour of its own."""
    if gain is None:
        return None
    word = verdict(gain)
    return element("span", SIGNS.get(word, "") + word, class_=f"verdict {word if word in SIGNS else 'quiet'}")


def named(standing: Standing) -> Html:
    """The name of a cell, marked where it is a baseline."""
    return join(standing.entry.name, element("span", "baseline", class_="tag") if standing.is_baseline else None)


def summary(study: Study, block: Block, ranked: Sequence[Standing]) -> Html:
    """All of it in one table, the best first."""
    figure, unit = Figure(study.figure), Figure(study.figure).unit
    target = "" if block.target is None else f"{figure.value(block.target)} {unit}".strip()
    points = f", {figure.points}" if figure.points else ""
    heads = ["cell", "seeds", f"at the end{', ' * bool(unit)}{unit}", f"area{', ' * bool(unit)}{unit}"]
    heads += [f"better in area{points}", f"better at the end{points}", "verdict", "p, t test", "p, signed rank"]
    heads += ["wins, ties, losses", f"{CURRENCIES[study.x]} to {target}", "saving, times"]
    rows = []
    for standing in ranked:
        entry, own, gain = standing.entry, standing.gain, standing.entry.gain
        rows.append([
            named(standing),
            str(entry.last.n),
            figure.mean(entry.last),
            figure.mean(entry.area),
            figure.difference(gain.area if gain else None),
            figure.difference(gain.last if gain else None),
            judged(gain),
            p_value(gain.p_t if gain else None),
            p_value(gain.p_wilcoxon if gain else None),
            f"{own.wins}, {own.ties}, {own.losses}" if own else MISSING,
            _reached(standing, study.x),
            MISSING if standing.saving is None else f"{standing.saving:.2f}",
        ])  # fmt: skip
    told = f"{figure.name.capitalize()}, mean ± half of the 95 % interval over seeds, best first"
    if rows and any(standing.gain for standing in ranked):
        count = sum(entry.gain is not None for each in study.blocks for entry in each.entries)
        told += f"; compared with {study.against}, p corrected after Holm for {count}"
    return table(told, heads, rows)


def drawing(study: Study, block: Block, ranked: Sequence[Standing]) -> Html:
    """The picture of the curves, or of the ends where there are no rounds."""
    figure, svg = Figure(study.figure), study_plots.curves(study, [block], "svg")
    ends = "; ".join(f"{standing.entry.name} {figure.mean(standing.entry.last)}" for standing in drawn_out(ranked))
    alt = f"{figure.headed} of {len(ranked)} cell{'s' * (len(ranked) > 1)}, at the end: {ends}"
    stepped = any(len(entry.curve) > 1 for entry in block.entries)
    bands = (
        f"Bands and bars are 95 % intervals, of {ENOUGH_SEEDS} seeds or more; of fewer, thin lines are single seeds."
    )
    caption = bands if stepped else "Bars are 95 % intervals, rings single runs."
    if any(standing.is_baseline for standing in ranked):
        caption += " Baselines are dashed and dotted." if stepped else " Baselines are diamonds."
    if any(entry.cell.unfinished for entry in block.entries):
        caption += " Unfinished runs are thin and dashed."
    return picture("image/svg+xml", svg, alt, caption, class_="drawn")


def targets(study: Study, block: Block, ranked: Sequence[Standing]) -> Html:
    """Where the target is met: the median over seeds, its interval, and a bar as long."""
    finite = [s.entry.reached.median for s in ranked if s.entry.reached and math.isfinite(s.entry.reached.median)]
    longest, rows = max(finite, default=0.0) or 1.0, []
    for standing in sorted(ranked, key=lambda s: s.entry.reached.median if s.entry.reached else math.inf):
        found = standing.entry.reached
        if found is None:
            continue
        share = found.median / longest if math.isfinite(found.median) else 0.0
        bar = element("span", class_="bar", style=f"width:{8 * share:.2f}rem") if share else None
        between = MISSING if math.isnan(found.low) else f"{amount(study.x, found.low)} to {amount(study.x, found.high)}"
        saving = MISSING if standing.saving is None else f"{standing.saving:.2f}"
        length = element("td", amount(study.x, found.median), bar, class_="bars")
        ahead = standing.entry.forecast
        predicted = interval_ahead(study.x, ahead) if ahead else MISSING
        rows.append([named(standing), length, between, f"{found.reached} of {found.n}", predicted, saving])
    heads = [
        "cell",
        f"{CURRENCIES[study.x]}, median",
        "95 % interval",
        "seeds that reach it",
        "ahead, 80 % interval",
        "saving, times",
    ]
    figure = Figure(study.figure)
    target = f"{figure.value(block.target or 0.0)} {figure.unit}".strip()
    return table(f"What it takes to reach {target}; never: half of the seeds or more do not", heads, rows)


def penalties(block: Block, ranked: Sequence[Standing]) -> Html:
    """The pairwise-penalty matrix, best first; a name is found again in the columns by its number."""
    matrix = block.penalties
    if matrix is None:
        return Html()
    place = {entry.name: i for i, entry in enumerate(block.entries)}
    order = [place[standing.entry.name] for standing in ranked]
    rows: list[list[Content]] = []
    for number, (standing, i) in enumerate(zip(ranked, order, strict=True), 1):
        name = join(element("span", f"{number}. ", class_="rank"), named(standing))
        rows.append([name, *("·" if i == j else _shaded(float(matrix[i, j]), f"{matrix[i, j]:.2f}") for j in order)])
    beaten = ["beaten, mean"]
    for j in order:
        column = [float(matrix[i, j]) for i in order if i != j and math.isfinite(matrix[i, j])]
        beaten.append(f"{sum(column) / len(column):.2f}" if column else MISSING)
    heads = ["cell", *map(str, range(1, len(order) + 1))]
    caption = "Share of rounds in which the row beats the column; below, how much a column is beaten: less is better"
    return table(caption, heads, [*rows, beaten], kind="grid")


def by_class(shown: Sequence[Standing]) -> Html | None:
    """Recall of each class at the last round and the labels bought of it; of many classes the worst."""
    found = [(standing, per_class(standing.entry)) for standing in shown]
    found = [(standing, scores) for standing, scores in found if scores]
    shared = set.intersection(*(set(scores) for _, scores in found)) if found else set()
    if not shared:
        return None
    recall = {name: sum(scores[name].recall for _, scores in found) for name in shared}
    classes = sorted(shared) if len(shared) <= MANY_CLASSES else sorted(shared, key=lambda name: recall[name])[:WORST]
    names = class_names(record for standing, _ in found for record in standing.entry.cell.runs.values())
    rows: list[list[Content]] = []
    low, high = (end(scores[name].recall for _, scores in found for name in classes) for end in (min, max))
    for name in classes:
        told = (
            _shaded((c.recall - low) / (high - low or 1), join(percent(c.recall), element("small", f" {c.labels:.3g}")))
            for c in (scores[name] for _, scores in found)
        )
        rows.append([names[name] if name < len(names) else f"class {name}", *told])
    caption = (
        "Recall at the last round, %, and in small print how many labels of the class were bought; means over seeds"
    )
    caption += "" if len(classes) == len(shared) else f"; the {WORST} hardest of {len(shared)} classes"
    return table(caption, ["class", *(named(standing) for standing, _ in found)], rows, kind="grid")


def others(ranked: Sequence[Standing]) -> Html:
    """Figures of the last round besides the one that is compared."""
    keys = dict.fromkeys(key for standing in ranked for key in standing.entry.others)
    heads = ["cell", *(Figure(key).headed for key in keys)]
    rows = [[named(s), *(Figure(key).mean(s.entry.others.get(key)) for key in keys)] for s in ranked]
    return table("Mean ± half of the 95 % interval over seeds", heads, rows)


def costs(ranked: Sequence[Standing]) -> Html:
    """What was spent by the end."""
    heads = ["cell", *CURRENCIES.values()]
    rows = [[named(s), *(_spent(s, currency) for currency in CURRENCIES)] for s in ranked]
    return table("Spent by the end of the last round, median over seeds", heads, rows)


def paces(ranked: Sequence[Standing]) -> Html | None:
    """Seconds of a run, what they were spent on, and how fast."""
    found = [(standing, pace(standing.entry)) for standing in ranked]
    keys = [key for key in PACES if any(key in times for _, times in found)]
    rows = [[named(s), *(PACES[key][1].format(times[key]) if key in times else MISSING for key in keys)]
            for s, times in found]  # fmt: skip
    heads = ["cell", *(PACES[key][0] for key in keys)]
    return table("Seconds of a run and the pace of its trainings, means over seeds", heads, rows) if keys else None


def _spent(standing: Standing, currency: str) -> str:
    value = standing.entry.spent.get(currency)
    return MISSING if value is None else amount(currency, value)


def _reached(standing: Standing, x: str) -> str:
    found = standing.entry.reached
    missed = f" ({found.reached} of {found.n})" if found and found.reached < found.n else ""
    return MISSING if found is None else f"{amount(x, found.median)}{missed}"


def _shaded(share: float, content: Content) -> Content:
    """A cell of a heat map, as dark as its share; its number is there to read."""
    if not math.isfinite(share):
        return MISSING
    return element("td", content, class_="shade", style=f"--share:{min(max(share, 0.0), 1.0):.3f}")
