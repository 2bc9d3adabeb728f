"""Which student to ship, in one picture: accuracy against latency, size and labels, and the front of each."""

import math
from collections.abc import Sequence

from kdal_cli.report.plots import FAINT, INK, MARKERS, MUTED, PALETTE, around, picture
from kdal_cli.study.students import Student, front

AXES = {"ms": "milliseconds an image, at batch 1", "mb": "megabytes", "labels": "labels bought"}

MOST_TICKS = 10


def students_png(students: Sequence[Student]) -> bytes:
    """A panel for each cost. Colours are data sets, markers are formats; a line joins what nothing beats in a panel."""
    forms, sets = (list(dict.fromkeys(getattr(s, key) for s in students)) for key in ("form", "data"))
    with picture(13, 4.8, "Which student to ship", "up and to the left is better; the line is the front") as (
        figure,
        png,
    ):
        panels = figure.subplots(1, len(AXES), sharey=True)
        for axes, (cost, label) in zip(panels, AXES.items(), strict=True):
            known = [s for s in students if not math.isnan(getattr(s, cost))]
            for student in known:
                marker = MARKERS[forms.index(student.form) % len(MARKERS)]
                colour = PALETTE[sets.index(student.data) % len(PALETTE)]
                at = getattr(student, cost), 100 * student.accuracy
                axes.plot(*at, marker, color=colour, markeredgecolor="white", markersize=8)
            for name in sets:
                best = front([s for s in known if s.data == name], [cost])
                best = sorted(best, key=lambda s, key=cost: (getattr(s, key), s.accuracy))
                line = [getattr(s, cost) for s in best], [100 * s.accuracy for s in best]
                axes.step(*line, where="post", color=INK, linewidth=1, zorder=0)
            if known:
                axes.set_xscale("log")
                ticks = _ticks([getattr(s, cost) for s in known])
                axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
                axes.set_xticks([], minor=True)
                axes.set_xlim(0.9 * ticks[0], 1.1 * ticks[-1])
            axes.set_xlabel(label)
            axes.grid(color=FAINT, linewidth=0.8)
        panels[0].set_ylabel("test accuracy of the file, %")
        panels[0].set_ylim(*around([100 * s.accuracy for s in students], least=0.5))
        for n, form in enumerate(forms):
            panels[-1].plot([], [], MARKERS[n % len(MARKERS)], color=MUTED, label=form)
        for n, name in enumerate(sets if len(sets) > 1 else []):
            panels[-1].plot([], [], "-", color=PALETTE[n % len(PALETTE)], label=name)
        panels[-1].legend(loc="lower right")
    return png.getvalue()


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers around positive values, 1, 2 and 5 times powers of ten; powers alone where there would be many."""
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    first, last = max(step for step in steps if step <= low), min(step for step in steps if step >= high)
    ticks = [step for step in steps if first <= step <= last]
    return ticks if len(ticks) <= MOST_TICKS else [10.0**decade for decade in decades]


def students_rows(students: Sequence[Student]) -> list[dict[str, float | str | None]]:
    """A line for each student, the most accurate first; `front` says yes where none is better in everything."""
    best = set(front(students))
    ranked = sorted(students, key=lambda s: -s.accuracy)
    return [
        {
            "student": student.run,
            "format": student.form,
            "data": student.data,
            "test_accuracy": student.accuracy,
            **{key: None if math.isnan(value) else value for key, value in _costs(student).items()},
            "front": "yes" if student in best else "",
        }
        for student in ranked
    ]


def _costs(student: Student) -> dict[str, float]:
    return {"ms": student.ms, "mb": student.mb, "labels": student.labels}
