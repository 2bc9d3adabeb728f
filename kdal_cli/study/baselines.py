"""The columns of a curve that simple models have, and whether the student is above them."""

from collections.abc import Iterable, Mapping, Sequence

FIGURE = "test_accuracy"
TEACHER = f"teacher_{FIGURE}"
"""A column of the same form that is no baseline's."""


def baselines(columns: Iterable[str]) -> list[str]:
    """The columns of baselines: `logistic_test_accuracy`, `knn_teacher_test_accuracy`."""
    return [column for column in columns if column.endswith(f"_{FIGURE}") and column != TEACHER]


def spoken(column: str) -> str:
    """`knn teacher` of the column `knn_teacher_test_accuracy`."""
    return column.removesuffix(f"_{FIGURE}").replace("_", " ")


def above(row: Mapping[str, float]) -> list[str]:
    """The columns of the baselines that are better than the student in a round, the best first."""
    better = [column for column in baselines(row) if row[column] > row[FIGURE]]
    return sorted(better, key=lambda column: -row[column])


def remark(row: Mapping[str, float]) -> str:
    """What a round has to say against its student, or nothing."""
    better = above(row)
    if not better:
        return ""
    told = ", ".join(f"{spoken(column)} {row[column]:.2%}" for column in better)
    return f"the student is below what simple models learn from the same labels: {told}"


def verdict(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """A line for each baseline of a run: how often the student was below it, and by how much it is apart at the end."""
    lines, last = [], rows[-1]
    for column in baselines(last):
        below = sum(row[column] > row[FIGURE] for row in rows)
        gap = 100 * (last[FIGURE] - last[column])
        where = "above" if gap > 0 else "below" if gap < 0 else "level with"
        apart = f"{abs(gap):.2f} points {where}" if gap else where
        often = f"; below it in {below} of {len(rows)} rounds" if below else ""
        lines.append(f"the student ends {apart} {spoken(column)} on the same labels ({last[column]:.2%}){often}")
    return lines
