"""Why these: each column of a query's table is what it says, and empty where nobody knows."""

import csv
import io

import pytest
import torch
from torch import Generator, Tensor

from kdal_cli.dataset import ImageData, ImageSet, Labels
from kdal_cli.inference.evidence import Evidence
from kdal_cli.lab import picks
from kdal_cli.lab.picks import BY_TEACHER, COLUMNS, NEAREST, reasons
from kdal_cli.types import Query

CLASSES = ("cat", "=dog", "fish")
IMAGES, D = 30, 4
LABELLED = torch.tensor([3, 21, 8, 14])
POOL = torch.tensor([20, 1, 7, 29, 11])
QUERY = Query(torch.tensor([3, 0, 4]), torch.tensor([2.5, float("inf"), -1 / 3], dtype=torch.float64))
CHOSEN = [29, 20, 11]


class Known:
    """A scorer that knows logits and features, and remembers whom it looked at."""

    def __init__(self, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.answers, self.features = torch.randn(IMAGES, 3, generator=rng), torch.randn(IMAGES, D, generator=rng)
        self.looked: list[int] = []

    def logits(self, ids: Tensor) -> Tensor:
        self.looked += ids.tolist()
        return self.answers[ids]

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        self.looked += ids.tolist()
        return self.answers[ids], self.features[ids]

    def draws(self, ids: Tensor, count: int, rng: Generator):
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        raise NotImplementedError


def data(paths: tuple[str, ...] = ()) -> ImageData:
    none = ImageSet(
        torch.zeros(IMAGES, 1, 2, 2, dtype=torch.uint8), Labels.complete(torch.zeros(IMAGES, dtype=torch.int64)), paths
    )
    return ImageData("some", none, none, CLASSES, (0.5,), (1.0,))


def pool(labelled: Tensor = LABELLED) -> Evidence:
    labels = torch.zeros(len(labelled), dtype=torch.int64)
    return Evidence(POOL, labelled, labels, 3, None)  # type: ignore[arg-type]


def table(student: Known | None, teacher: Known | None = None, labelled: Tensor = LABELLED, **more) -> list[dict]:
    text = reasons(data(**more), pool(labelled), QUERY, student, teacher)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == [*COLUMNS, *BY_TEACHER, *NEAREST]
    assert len(rows) == 3
    return rows


def column(rows: list[dict], name: str) -> list[str]:
    return [row[name] for row in rows]


def test_images_come_in_the_order_picked_with_their_scores() -> None:
    rows = table(Known(0))
    assert column(rows, "order") == ["0", "1", "2"]
    assert column(rows, "id") == [str(id) for id in CHOSEN]
    assert column(rows, "score") == ["2.5", "inf", "-0.333333"]


def test_the_student_holds_them_for_its_two_likeliest_classes() -> None:
    student = Known(0)
    rows = table(student)
    probs = student.answers[CHOSEN].softmax(1)
    for row, p in zip(rows, probs, strict=True):
        first, second, _ = p.argsort(descending=True).tolist()
        assert (row["first"], row["second"]) == tuple(("cat", "'=dog", "fish")[c] for c in (first, second))
        assert float(row["p_first"]) == pytest.approx(float(p[first]), abs=1e-6)
        assert float(row["p_second"]) == pytest.approx(float(p[second]), abs=1e-6)


def test_the_teachers_first_class_stands_beside_and_nothing_else_of_it() -> None:
    teacher = Known(1)
    rows = table(Known(0), teacher)
    p = teacher.answers[CHOSEN].softmax(1)
    assert column(rows, "teacher") == [("cat", "'=dog", "fish")[c] for c in p.argmax(1).tolist()]
    assert [float(value) for value in column(rows, "p_teacher")] == pytest.approx(p.amax(1).tolist(), abs=1e-6)
    assert teacher.looked == CHOSEN


@pytest.mark.parametrize("chunk", [1, 2, 512])
def test_the_nearest_labelled_image_is_that_of_brute_force(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picks, "CHUNK", chunk)
    student = Known(0)
    rows = table(student)
    apart = (student.features[CHOSEN].double()[:, None] - student.features[LABELLED].double()).norm(dim=2)  # (k, M)
    assert [int(id) for id in column(rows, "nearest")] == LABELLED[apart.argmin(1)].tolist()
    assert [float(d) for d in column(rows, "distance")] == pytest.approx(apart.amin(1).tolist(), rel=1e-3)


def test_a_copy_of_a_labelled_image_is_at_distance_0_however_far_from_the_origin() -> None:
    student, labelled = Known(0), torch.tensor([*range(10), *range(12, 20), *range(21, 29)])
    student.features = student.features + 100
    student.features[[29, 11]] = student.features[[25, 2]]
    rows = table(student, labelled=labelled)
    assert (rows[0]["nearest"], rows[0]["distance"]) == ("25", "0")
    assert (rows[2]["nearest"], rows[2]["distance"]) == ("2", "0")
    assert float(rows[1]["distance"]) > 0.1


def test_before_anybody_has_learnt_anything_it_says_nothing() -> None:
    rows = table(None)
    for name in COLUMNS[4:] + BY_TEACHER + NEAREST:
        assert column(rows, name) == ["", "", ""]


def test_before_anything_is_labelled_nothing_is_near() -> None:
    rows = table(Known(0), labelled=LABELLED[:0])
    assert column(rows, "nearest") == column(rows, "distance") == [""] * 3
    assert all(column(rows, "first"))


def test_paths_are_told_where_there_are_files_and_no_cell_is_a_formula() -> None:
    rows = table(Known(0), paths=tuple(f"=img/{id}, a.png" for id in range(IMAGES)))
    assert column(rows, "path") == [f"'=img/{id}, a.png" for id in CHOSEN]
    assert column(table(Known(0)), "path") == ["", "", ""]


def test_two_classes_are_enough() -> None:
    student = Known(0)
    student.answers = student.answers[:, :2]
    sums = [float(row["p_first"]) + float(row["p_second"]) for row in table(student)]
    assert sums == pytest.approx([1.0] * 3, abs=2e-6)
