"""The head of a page: what was compared, with what, what is said against it, the question and the answer."""

from kdal_cli.plain import several
from kdal_cli.report.html import Html, element
from kdal_cli.report.setup import setup
from kdal_cli.report.study_text import CURRENCIES, Figure, answer, question
from kdal_cli.study.doubts import doubts
from kdal_cli.study.study import Study


def opening(study: Study) -> Html:
    """What was compared, the question and the answer."""
    asked = element("p", question(study), class_="question")
    told = element("div", asked, *(element("p", sentence) for sentence in answer(study)), class_="answer")
    names = [block.name for block in study.blocks]
    links = [element("a", name, href=f"#data-{place}") for place, name in enumerate(names)] if len(names) > 1 else []
    nav = element("nav", *links, aria_label="data sets") if links else None
    facts = element("p", _facts(study), class_="facts")
    terms = (piece for term, text in setup(study) for piece in (element("dt", term), element("dd", text)))
    asked_first = element("dl", *terms, class_="setup")
    return element("header", element("h1", title(study)), facts, asked_first, _doubts(study), told, nav)


def _doubts(study: Study) -> Html | None:
    """What is said against the study, before its verdicts."""
    found = doubts(study)
    lines = (element("p", f"{sentence[0].upper()}{sentence[1:]}.") for sentence in found)
    return element("div", *lines, class_="doubts", role="note") if found else None


def title(study: Study) -> str:
    factors = dict.fromkeys(
        factor for block in study.blocks for entry in block.entries for factor in entry.cell.factors
    )
    if not factors:
        return f"{study.stage}: one cell"
    compared = " × ".join(factors) if len(factors) <= 3 else f"{len(study.blocks[0].entries)} cells"
    return f"{study.stage}: {compared}"


def _facts(study: Study) -> str:
    """`8 runs · 2 seeds · digits · test accuracy against labels`"""
    records = study.records
    data = dict.fromkeys(record.choices.get("data") or str(record.settings.get("data.name", "")) for record in records)
    seeds = len({seed for block in study.blocks for entry in block.entries for seed in entry.cell.runs})
    figure = Figure(study.figure).name
    stepped = any(block.range for block in study.blocks)
    parts = [
        several(len(records), "run") + (f", {len(study.unfinished)} unfinished" if study.unfinished else ""),
        several(seeds, "seed"),
        ", ".join(filter(None, data)),
        f"{figure} against {CURRENCIES[study.x]}" if stepped else figure,
    ]
    return " · ".join(filter(None, parts))
